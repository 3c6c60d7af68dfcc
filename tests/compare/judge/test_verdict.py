"""Warnings that nobody may overlook say what is so."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from unblur.compare.comparison import compare_engines
from unblur.compare.judge.budgets import Budget
from unblur.compare.judge.verdict import judge, reach, warnings_of
from unblur.compare.measure.frames import find_frames
from unblur.core.errors import BudgetError


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


def test_a_pattern_that_holds_nothing_is_not_kept_in_silence(checkpoint, pictures, settings, faulty) -> None:
    """As in a run on a machine without the package: an engine that is missing is passed over, and said."""
    engines = [faulty(name, lambda t: t) for name in ("x-int8", "y-int8", "z")]
    whole = compare_engines(checkpoint, engines, find_frames(*pictures), replace(settings, protocol=None))

    def without(*names):
        gone = {"not_measured": "no package", "frames": (), "worst_fidelity_db": None}
        engines = [e.model_copy(update=gone) if e.name in names else e for e in whole.engines]
        return judge(
            *reach(whole.model_copy(update={"engines": tuple(engines)}), {"*-int8": Budget(fidelity_db_min=1)})
        )

    assert [(engine.name, check.kept) for engine, check in whole.checks] == []
    for names, checks, note in (
        ((), ["x-int8", "y-int8"], []),
        (("y-int8",), ["x-int8"], ["The budget of *-int8 was not held against y-int8: not measured."]),
        (("x-int8", "y-int8"), [], ["The budget of *-int8 was not held against x-int8, y-int8: not measured."]),
    ):
        report = without(*names)
        assert [engine.name for engine, _ in report.checks] == checks
        assert [one for one in report.notes if "budget" in one] == note
    with pytest.raises(BudgetError, match=r"2 budget\(s\) broken"):
        without("x-int8", "y-int8", "z").enforce()
