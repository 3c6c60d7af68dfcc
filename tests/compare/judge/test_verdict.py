"""Warnings that nobody may overlook say what is so."""

from __future__ import annotations

import math
from dataclasses import replace

from unblur.compare.comparison import compare_engines
from unblur.compare.judge.verdict import warnings_of
from unblur.compare.measure.frames import find_frames


def test_worse_than_the_input_is_told_of_the_pictures_that_it_is_measured_on(
    checkpoint, pictures, settings, faulty
) -> None:
    """An input that is the truth has no finite PSNR; the engine's on it would lift its mean above the input's."""
    report = compare_engines(
        checkpoint, [faulty("x", lambda t: t)], find_frames(*pictures), replace(settings, protocol=None)
    )

    def of(quality, psnr_db):
        return quality.model_copy(update={"psnr_db": psnr_db})

    reference, engine = report.engines
    frames = [
        frame.model_copy(update={"quality": of(frame.quality, db)})
        for frame, db in zip(engine.frames, (40.0, 25.0), strict=True)
    ]
    worse = engine.model_copy(
        update={"frames": tuple(frames), "gain_db": -5.0, "mean_quality": of(engine.mean_quality, 32.5)}
    )
    blurred = tuple(of(quality, db) for quality, db in zip(report.blurred, (math.inf, 30.0), strict=True))
    told = warnings_of(
        report.model_copy(
            update={
                "engines": (reference.model_copy(update={"gain_db": 1.0}), worse),
                "blurred": blurred,
                "blurred_quality": of(report.blurred_quality, 30.0),
            }
        )
    )
    assert told == (
        "x makes pictures worse than its blurred input: 25.00 dB of PSNR, the input has 30.00 dB on the 1 picture(s) "
        "that are not the truth to the last byte (a fault of the engine: see its fidelity).",
    )
