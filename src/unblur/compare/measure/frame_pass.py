"""All frames through every open runner: numbers, failures, and the strips that the page shows.

The next frame is decoded and the last ones are scored while the engines run, which they do in the caller's thread and
one after the other. A few frames are in memory, however many there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from unblur.compare.measure.crops import strips_of, worst_strip
from unblur.compare.measure.fidelity import Restored, fidelity, quality
from unblur.compare.measure.frames import FrameFile, pixels_of
from unblur.compare.measure.scores import Scores
from unblur.compare.parts import WorstFrame
from unblur.compare.report import Failure, FrameResult, Quality, Strip
from unblur.core.console import SILENT, Progress
from unblur.core.errors import CrashError, InputError
from unblur.core.overlap import ahead
from unblur.engines.runner import Runner
from unblur.images.contract import Frame
from unblur.metrics.decibels import decibels_text
from unblur.metrics.detectors.detect import detect

SCORERS = 2
"""Threads that score. Two keep up with eight frames a second of 720x1280 and one engine, and hold two frames more."""

WORST = 10
"""So many frames of the worst fidelity are told, and shown where the page has room."""


ROUNDING_DB = 100.0
"""Fidelity from here on is float32 rounding: no picture of it is a bad one."""


@dataclass
class Notes:
    """What piles up frame by frame: results by engine, the inputs' own quality, failures, and shown strips.

    `reference`: name of the engine that the others are held against. `worst`: the worst first, each with its strip or
    None where nobody would see the difference. `detectors`: whether they look at each picture. `crashed`: engines that
    did not come to the end, and why.
    """

    reference: str
    detectors: bool = True
    frames: dict[str, list[FrameResult]] = field(default_factory=dict)
    blurred: list[Quality] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    shown: list[tuple[float, list[Strip]]] = field(default_factory=list)
    worst: list[tuple[WorstFrame, Strip | None]] = field(default_factory=list)
    crashed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Pictures:
    """A frame's pixels, and what engines made of it; none where its scores were kept."""

    blurred: Frame
    truth: Frame | None
    restored: dict[str, Restored] = field(default_factory=dict)


@dataclass(frozen=True)
class _Pass:
    """A frame on its way: read, run, scored. `over`: it failed as a whole."""

    file: FrameFile
    pictures: _Pictures | None = None
    blurred: Quality | None = None
    results: dict[str, FrameResult] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    over: bool = False

    def failed(self, error: InputError, engine: str | None, *, over: bool = False) -> _Pass:
        failure = Failure(frame=self.file.name, engine=engine, reason=self.file.strip_paths(str(error)))
        return replace(self, failures=(*self.failures, failure), over=over or self.over)


def compare_frames(
    frames: Sequence[FrameFile],
    runners: Mapping[str, Runner],
    notes: Notes,
    pictures: int,
    scores: Scores | None = None,
    progress: Progress = SILENT,
) -> None:
    """Run the frames through every runner, the reference first, and keep the numbers and some of the pictures.

    `pictures`: so many frames are shown. `scores`: of frames that were compared before; such a frame is only run again
    where it is shown. An engine that crashes is noted, and the others go on. Raises ChangedError for a pinned file that
    is another now, and what engines raise that is neither InputError nor CrashError, and the reference's: scores of the
    frames before are kept.
    """
    kept = scores or Scores(None, notes.reference, None)
    bench = _Bench(runners, notes.reference, kept, notes.detectors, notes.crashed)
    bench.scores.load(runners)
    wanted = bench.wanted(frames)
    with ahead(frames, bench.read) as read, ahead(map(bench.run, read), bench.score, workers=SCORERS) as scored:
        for one in progress.track(scored, "comparing frames", len(frames)):
            if one.pictures is None and not one.over and not wanted(one.results, len(notes.shown) < pictures):
                _add(one, notes)
            else:
                _note(one, lambda file: bench.score(bench.run(bench.read(file, again=True))), notes, pictures)


@dataclass(frozen=True)
class _Bench:
    """The three steps of a frame."""

    runners: Mapping[str, Runner]
    reference: str
    scores: Scores
    detectors: bool
    crashed: dict[str, str]

    def read(self, file: FrameFile, *, again: bool = False) -> _Pass:
        """What is known of a frame, and its pixels where something is not, or (`again`) pixels and nothing else."""
        if not again:
            found = {name: self.scores.find(name, file) for name in self.runners}
            known = {name: result for name, result in found.items() if result}
            if self.reference in known:  # its quality and the input's stand in one line
                begun = _Pass(file, blurred=self.scores.blurred(file), results=known)
                if len(known) == len(self.runners):
                    return begun
                return self._with_pictures(begun)
        return self._with_pictures(_Pass(file))

    @staticmethod
    def _with_pictures(one: _Pass) -> _Pass:
        try:
            blurred, truth = one.file.read()
        except InputError as error:
            return one.failed(error, None, over=True)
        return replace(one, pictures=_Pictures(blurred, truth))

    def wanted(self, frames: Sequence[FrameFile]) -> Callable[[Mapping[str, FrameResult], bool], bool]:
        """Whether a frame whose scores were kept may be shown in the end, and so is worth another run: without this
        look ahead every frame would be that is the worst so far."""
        lowest = []
        for file in frames:
            found = [self.scores.find(name, file) for name in self.runners]
            results = [result for result in found if result is not None]
            if len(results) == len(found):
                lowest.append(min(result.fidelity.strictest_db for result in results))
        bar = sorted(lowest)[WORST - 1] if len(lowest) >= WORST else math.inf
        return lambda results, room: room or min(r.fidelity.strictest_db for r in results.values()) <= bar

    def run(self, one: _Pass) -> _Pass:
        """Through the engines whose scores are missing, and the reference, which they are held against."""
        if one.pictures is None or one.over:
            return one
        if one.results and not self.runners.keys() - one.results.keys() - self.crashed.keys():
            return replace(one, pictures=None)  # what is missing will not come
        height, width = one.pictures.blurred.shape[:2]
        for name, runner in self.runners.items():
            if name in self.crashed or (name in one.results and name != self.reference):
                continue
            contract = runner.signature.contract
            try:
                tensor = runner.run(contract.encode(one.pictures.blurred))
                one.pictures.restored[name] = Restored(tensor, contract, contract.decode(tensor, height, width))
            except InputError as error:
                one = self._failed(one, error, name)
                if one.over:
                    break
            except CrashError as error:
                if name == self.reference:
                    raise CrashError(f"The reference {name} on {one.file.name}: {error}") from error
                self.crashed[name] = f"{one.file.name}: {error}"
        return one

    def score(self, one: _Pass) -> _Pass:
        """Everything that was run, against the reference and the truth; and written down."""
        if one.pictures is None or one.over:
            return one
        shown, truth, aligned = one.pictures, one.pictures.truth, one.file.aligned
        if one.blurred is None and truth is not None:
            try:
                one = replace(one, blurred=quality(shown.blurred, truth, aligned=aligned))
            except InputError as error:  # it cannot be aligned
                return one.failed(error, None, over=True)
        results = dict(one.results)
        for name, restored in list(shown.restored.items()):
            if name in results:
                continue
            try:
                base = shown.restored[self.reference]
                near = fidelity(base, restored)
                against = None if name == self.reference else base.frame
                findings = detect(shown.blurred, restored.frame, against) if self.detectors else ()
                good = None if truth is None else quality(restored.frame, truth, aligned=aligned)
            except InputError as error:
                del shown.restored[name]
                one = self._failed(one, error, name)
                if one.over:
                    return one
                continue
            height, width = shown.blurred.shape[:2]
            pixels = pixels_of(shown.blurred) if name == self.reference else None
            results[name] = FrameResult(
                frame=one.file.name, height=height, width=width, fidelity=near, quality=good, findings=findings,
                pixels=pixels,
            )  # fmt: skip
        for name, result in results.items():  # here, so that an end in the next frame does not lose this one
            self.scores.keep(name, one.file, result, one.blurred if name == self.reference else None)
        return replace(one, results=results)

    def _failed(self, one: _Pass, error: InputError, name: str) -> _Pass:
        """Without the reference the frame has nothing to be held against."""
        base = name == self.reference
        return one.failed(error, None if base else name, over=base)


def _note(one: _Pass, again: Callable[[FrameFile], _Pass], notes: Notes, pictures: int) -> None:
    """Add a frame; `again` runs one whose pictures are wanted and not at hand."""
    ordered = _add(one, notes)
    if not ordered:
        return
    worst = _worst(ordered, notes.reference)
    is_worst = worst is not None and (len(notes.worst) < WORST or worst.fidelity_db < notes.worst[-1][0].fidelity_db)
    lowest = min(result.fidelity.strictest_db for result in ordered.values())
    full = len(notes.shown) == pictures
    is_shown = pictures > 0 and not (full and lowest >= notes.shown[-1][0])
    if not (pictures and (is_shown or is_worst)):
        if is_worst and worst is not None:
            _keep_worst(notes, worst, None)
        return
    if one.pictures is None or one.pictures.restored.keys() != one.results.keys():
        one = again(one.file)
        if one.pictures is None or one.over:
            return
    shown = one.pictures
    restored = {name: result.frame for name, result in shown.restored.items()}
    if is_worst and worst is not None:
        there = worst.engine in restored  # else it has crashed since it was scored
        strip = worst_strip(worst, shown.blurred, notes.reference, restored, shown.truth) if there else None
        _keep_worst(notes, worst, strip)
    if is_shown:
        texts = {name: f"{decibels_text(r.quality.psnr_db)} dB" for name, r in ordered.items() if r.quality}
        if one.blurred is not None:
            texts["blurred"] = f"{decibels_text(one.blurred.psnr_db)} dB"
        base = (notes.reference, restored.pop(notes.reference))
        strips = strips_of(one.file.name, shown.blurred, base, restored, shown.truth, texts)
        notes.shown[-1 if full else len(notes.shown) :] = [(lowest, strips)]


def _add(one: _Pass, notes: Notes) -> dict[str, FrameResult]:
    """A frame's numbers and failures; its results, the reference's first, or none where it failed as a whole."""
    notes.failures += one.failures
    if one.over:
        return {}
    ordered = {name: one.results[name] for name in sorted(one.results, key=lambda name: name != notes.reference)}
    for name, result in ordered.items():
        notes.frames.setdefault(name, []).append(result)
    if one.blurred is not None:
        notes.blurred.append(one.blurred)
    return ordered


def _worst(results: Mapping[str, FrameResult], reference: str) -> WorstFrame | None:
    """The engine that is furthest from the reference here; None where rounding alone parts them."""
    others = [(result.fidelity.strictest_db, name) for name, result in results.items() if name != reference]
    fidelity_db, engine = min(others, default=(math.inf, ""))
    if fidelity_db >= ROUNDING_DB:
        return None
    own, base = results[engine].quality, results[reference].quality
    return WorstFrame(
        frame=results[engine].frame,
        engine=engine,
        fidelity_db=fidelity_db,
        psnr_db=own.psnr_db if own else None,
        reference_psnr_db=base.psnr_db if base else None,
    )


def _keep_worst(notes: Notes, worst: WorstFrame, strip: Strip | None) -> None:
    notes.worst.append((worst, strip))
    notes.worst.sort(key=lambda one: one[0].fidelity_db)
    del notes.worst[WORST:]
