"""One frame after another through every open runner: numbers, failures, and the strips that the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from unblur.compare.measure.crops import strips_of
from unblur.compare.measure.fidelity import Restored, fidelity, quality
from unblur.compare.measure.frames import FrameFile
from unblur.compare.report import Failure, FrameResult, Quality, Strip
from unblur.core.errors import InputError
from unblur.engines.runner import Runner
from unblur.images.contract import Frame
from unblur.metrics.decibels import decibels_text


@dataclass
class Notes:
    """What piles up frame by frame: results by engine, the inputs' own quality, failures, and shown strips.

    `reference`: name of the engine that the others are held against.
    """

    reference: str
    frames: dict[str, list[FrameResult]] = field(default_factory=dict)
    blurred: list[Quality] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    shown: list[tuple[float, list[Strip]]] = field(default_factory=list)


def compare_frame(frame: FrameFile, runners: Mapping[str, Runner], notes: Notes, pictures: int) -> None:
    """Run one frame through every runner, the reference first, and keep the numbers and perhaps the strips."""
    blurred, truth = frame.read()
    height, width = blurred.shape[:2]
    try:
        before = None if truth is None else quality(blurred, truth, aligned=frame.aligned)
    except InputError as error:  # it cannot be aligned
        notes.failures.append(Failure(frame=frame.name, engine=None, reason=str(error)))
        return
    restored: dict[str, Restored] = {}
    results: dict[str, FrameResult] = {}
    for name, runner in runners.items():
        contract = runner.signature.contract
        try:
            tensor = runner.run(contract.encode(blurred))
            result = Restored(tensor, contract, contract.decode(tensor, height, width))
            near = fidelity(restored.get(notes.reference, result), result)
            good = None if truth is None else quality(result.frame, truth, aligned=frame.aligned)
        except InputError as error:
            notes.failures.append(
                Failure(frame=frame.name, engine=None if name == notes.reference else name, reason=str(error))
            )
            if name == notes.reference:
                return
            continue
        restored[name] = result
        results[name] = FrameResult(
            frame=frame.name,
            height=height,
            width=width,
            fidelity=near,
            quality=good,
        )
    for name, numbers in results.items():
        notes.frames.setdefault(name, []).append(numbers)
    if before is not None:
        notes.blurred.append(before)
    frames = {name: result.frame for name, result in restored.items()}
    _keep_strips(frame, blurred, truth, frames, results, notes, pictures)


def _keep_strips(
    frame: FrameFile,
    blurred: Frame,
    truth: Frame | None,
    restored: Mapping[str, Frame],
    results: Mapping[str, FrameResult],
    notes: Notes,
    pictures: int,
) -> None:
    """The first frames are shown, and in the last place the one with the worst fidelity of all."""
    worst = min(result.fidelity.strictest_db for result in results.values())
    full = len(notes.shown) == pictures
    if pictures == 0 or (full and worst >= notes.shown[-1][0]):
        return
    texts = {name: f"{decibels_text(r.quality.psnr_db)} dB" for name, r in results.items() if r.quality}
    if truth is not None and notes.blurred:
        texts["blurred"] = f"{decibels_text(notes.blurred[-1].psnr_db)} dB"
    others = {name: picture for name, picture in restored.items() if name != notes.reference}
    strips = strips_of(frame.name, blurred, (notes.reference, restored[notes.reference]), others, truth, texts)
    notes.shown[-1 if full else len(notes.shown) :] = [(worst, strips)]
