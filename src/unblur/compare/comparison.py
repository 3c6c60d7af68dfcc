"""Compare engines with the PyTorch reference: every frame through every engine, then latency, then the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from unblur.compare.candidates import Candidate, Reference, torch_reference
from unblur.compare.judge.budgets import Budgets, check_budgets
from unblur.compare.judge.slowdown import FEWEST_REPEATS, repeats_left
from unblur.compare.judge.verdict import judge
from unblur.compare.measure.attention import attention_of
from unblur.compare.measure.fidelity import mean_quality
from unblur.compare.measure.frame_pass import Notes, compare_frames
from unblur.compare.measure.frames import FrameFile
from unblur.compare.measure.latency import FRAMES_MAX, fit_frame, measure_latency, most_frequent
from unblur.compare.measure.pictures import differences_of, interval_of, less
from unblur.compare.measure.repeats import measure_repeats, short
from unblur.compare.measure.scores import Kept, Scores
from unblur.compare.measure.waterfall import measure_waterfalls
from unblur.compare.parts import Attention, Waterfall
from unblur.compare.report import EngineResult, Failure, FrameResult, Quality, Report, Strip
from unblur.compare.timing import LatencyResult, LatencySession
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import CrashError, InputError, MissingRuntimeError
from unblur.core.provenance import machine, package_versions
from unblur.engines.runner import Runner
from unblur.images.contract import Frame
from unblur.images.sizes import picture_size
from unblur.metrics.decibels import gain_over_input, loss_decibels, mean_decibels
from unblur.metrics.detectors.detect import DETECTORS
from unblur.metrics.stopwatch import Protocol
from unblur.networks.checkpoints import Checkpoint

ALIGNED = (
    "RealBlur, as its tables have it: each result is first brought to the truth's intensity and aligned with it by a "
    "homography (ECC); what leaves the picture is masked. SSIM is per channel."
)
UNALIGNED = (
    "RealBlur: blurred and sharp pictures are compared as they lie. Its tables hold results that were first aligned "
    'with the truth, which takes OpenCV here (pip install -e ".[realblur]"): these decibels and SSIM are not those '
    "of the papers but lower. Differences between engines hold."
)
"""Nobody shall take numbers of RealBlur for the papers' that are not."""

UNGUARDED = (
    "The detectors were turned off (compare.detectors = false): a black block, a shift by a pixel or a colour cast "
    "that the means hide would not have been seen."
)


@dataclass(frozen=True)
class Settings:
    """How to compare. `threads`: of the reference; candidates bring their own. `protocol`: None measures no latency.

    `latency_size`: (height, width), None for the most frequent of the frames. `pictures`: so many frames are shown.
    `skip_missing`: an engine that this machine cannot run is listed with the reason instead of raising. `waterfall`:
    where each engine loses its fidelity is measured, which takes seconds for each graph. `kept`: where scores of single
    frames are found again and kept, None for nowhere. `detectors`: False turns them off, and the report says so.
    `repeats`: so many short sessions of latency beside, each with every engine opened anew.
    """

    threads: int | None = None
    protocol: Protocol | None = field(default_factory=Protocol)
    latency_size: Size | None = None
    budgets: Budgets = field(default_factory=dict)
    pictures: int = 3
    skip_missing: bool = False
    kept: Kept | None = None
    waterfall: bool = False
    detectors: bool = True
    repeats: int = 0


def compare_engines(
    against: Checkpoint | Reference,
    engines: Sequence[Candidate],
    frames: Sequence[FrameFile],
    settings: Settings | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Compare the engines with eager float32 PyTorch, or with another reference, on these frames; the reference itself
    is always a row.

    Truth is given for all frames or for none (`find_frames`). A frame that fails is listed, an engine that crashes too,
    and the others are finished: write the report, then call its `enforce`. Raises InputError for budgets that cannot be
    checked, engines given twice, or when no frame can be read; MissingRuntimeError as the engines do, unless
    `skip_missing`; CrashError where the reference crashes.
    """
    settings = settings or Settings()
    reference = against if isinstance(against, Reference) else torch_reference(against, settings.threads)
    base, contract = reference.engine.name, reference.contract
    candidates = [engine for engine in engines if engine.name != base]
    names = [base, *(engine.name for engine in candidates)]
    if len(set(names)) != len(names):
        raise InputError(f"Every engine is compared once, got {', '.join(names)}.")
    with_truth = any(frame.truth for frame in frames)
    check_budgets(settings.budgets, names, truth=with_truth, latency=settings.protocol is not None)
    notes = Notes(base, settings.detectors)
    sizes = _read_sizes(frames, notes, progress)
    padded = {contract.padded_size(*size) for size in sizes.values()}
    size = padded.pop() if len(padded) == 1 else None
    everything = [reference.engine, *candidates]
    session: LatencySession | None = None
    latencies: dict[str, LatencyResult] = {}
    falls: dict[str, Waterfall] = {}
    repeats: tuple[LatencySession, ...] = ()
    with ExitStack() as stack:
        runners, missing = _open(everything, size, settings.skip_missing, stack, progress, notes.crashed)
        good = [frame for frame in frames if frame.name in sizes]
        scores = Scores(settings.kept, base, [size, settings.detectors])
        compare_frames(good, runners, notes, settings.pictures, scores, progress)
        if base not in notes.frames:
            raise InputError(f"No frame came through the reference:{_listed(notes.failures)}")
        attention: tuple[Attention, ...] = ()
        if isinstance(against, Checkpoint) and settings.pictures:
            attention = attention_of(against, runners[base], good, notes, progress)
        about = {name: (runner.description, runner.signature.contract) for name, runner in runners.items()}
        if settings.waterfall:
            threads = settings.threads
            falls = measure_waterfalls(candidates, runners, base, good, size, threads, progress, notes.crashed)
        if settings.protocol:
            at = settings.latency_size or most_frequent(list(sizes.values()))
            if contract.padded_size(*at) != size:
                stack.close()
                gone = {*missing, *notes.crashed}
                present = [engine for engine in everything if engine.name not in gone and engine.timed]
                runners, _ = _open(present, contract.padded_size(*at), False, stack, progress, notes.crashed)
            present = [e for e in everything if e.timed and e.name in runners and e.name not in notes.crashed]
            runners = {engine.name: runners[engine.name] for engine in present}
            whole = {frame.frame for frame in notes.frames[base]}
            pictures = _latency_frames([frame for frame in good if frame.name in whole], sizes, at)
            _drop_unfit(runners, next(iter(pictures.values())), notes)
            session, latencies = measure_latency(runners, base, pictures, settings.protocol, progress, notes.crashed)
            if settings.repeats:
                stack.close()
                again = _reopened(reference, [e for e in present if e.name in latencies], contract.padded_size(*at))
                few = partial(_too_disturbed, settings.repeats)
                protocol = short(sum(one.summary.median_ms for one in latencies.values()))
                how = (protocol, settings.repeats, few, progress, notes.crashed)
                repeats = measure_repeats(again, base, pictures, *how)
    for name, reason in notes.crashed.items():
        progress.note(f"crashed: {name}: {reason}")
    results = []
    for name, timed in ((engine.name, engine.timed) for engine in everything):
        if name in missing:
            results.append(EngineResult(name=name, is_reference=False, not_measured=missing[name]))
            continue
        result = _summarise(
            name, name == base, notes.frames.get(name, []), notes.frames[base], notes.blurred, latencies.get(name)
        )
        told = {
            "timed": timed,
            "crashed": notes.crashed.get(name),
            "description": about[name][0] if name in about else {},
            "contract": about[name][1] if name in about else None,
            "waterfall": falls.get(name),
        }
        results.append(result.model_copy(update=told))
    report = Report(
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        network=reference.network,
        checkpoint=reference.source,
        checkpoint_digest=reference.digest,
        reference=base,
        reference_text=reference.text,
        machine=machine(),
        versions=dict(package_versions()),
        engines=tuple(results),
        blurred_quality=mean_quality(notes.blurred),
        latency=session,
        repeats=repeats,
        failures=tuple(notes.failures),
        notes=(
            *{ALIGNED if frame.aligned else UNALIGNED for frame in frames if frame.from_two_cameras},
            *(() if settings.detectors else (UNGUARDED,)),
        ),
        detectors=tuple(one.name for one in DETECTORS) if settings.detectors else (),
        blurred=tuple(notes.blurred),
        differences=differences_of(notes.frames),
        worst=tuple(worst for worst, _ in notes.worst),
        strips=_strips(notes),
        attention=attention,
    )
    return judge(report, settings.budgets)


def _read_sizes(frames: Sequence[FrameFile], notes: Notes, progress: Progress) -> dict[str, Size]:
    """(height, width) of every frame by name, by the headers; those that cannot be read become failures."""
    sizes: dict[str, Size] = {}
    for frame in progress.track(frames, "reading frames", len(frames)):
        try:
            sizes[frame.name] = _size(frame)
        except InputError as error:
            notes.failures.append(Failure(frame=frame.name, engine=None, reason=frame.strip_paths(str(error))))
    if not sizes:
        raise InputError(f"None of the {len(frames)} frames can be compared:{_listed(notes.failures)}")
    return sizes


def _size(frame: FrameFile) -> Size:
    """By the header; what is wrong with a picture that has none, reading it tells best."""
    try:
        return picture_size(frame.path)
    except InputError:
        picture, _ = frame.read()
        return picture.shape[0], picture.shape[1]


def _reopened(reference: Reference, engines: Sequence[Candidate], size: Size) -> dict[str, Callable[[], Runner]]:
    openers = {engine.name: partial(engine.open, size) for engine in engines}
    return {**openers, reference.engine.name: reference.apart}


def _too_disturbed(count: int, so_far: Sequence[LatencySession]) -> bool:
    """Whether too few of all could still be quiet."""
    return count - len(so_far) + len(repeats_left(so_far, machine())) < min(count, FEWEST_REPEATS)


def _strips(notes: Notes) -> tuple[Strip, ...]:
    """Of the frames that are shown whole, then the worst ones that are not among them."""
    shown = [strip for _, strips in notes.shown for strip in strips]
    frames = {strip.frame for strip in shown}
    return (*shown, *(strip for _, strip in notes.worst if strip and strip.frame not in frames))


def _listed(failures: Sequence[Failure]) -> str:
    return "".join(f"\n  {failure.frame}: {failure.reason}" for failure in failures)


def _open(
    engines: Sequence[Candidate], size: Size | None, skip_missing: bool, stack: ExitStack, progress: Progress,
    crashed: dict[str, str],
) -> tuple[dict[str, Runner], dict[str, str]]:  # fmt: skip
    """Runners by name, and the reasons of those that this machine cannot run. What crashes is added to `crashed`."""
    runners: dict[str, Runner] = {}
    missing: dict[str, str] = {}
    for engine in engines:
        try:
            runners[engine.name] = stack.enter_context(engine.open(size))
        except MissingRuntimeError as error:
            if not skip_missing:
                raise
            missing[engine.name] = str(error).removeprefix(f"{engine.name}: ")
            progress.note(f"not measured: {error}")
        except CrashError as error:
            crashed[engine.name] = str(error)
    return runners, missing


def _latency_frames(good: Sequence[FrameFile], sizes: Mapping[str, Size], at: Size) -> dict[str, Frame]:
    """Up to FRAMES_MAX frames at this size; of other sizes the centre, only where none has it."""
    fitting = [frame for frame in good if sizes[frame.name] == at] or list(good)
    return {frame.name: fit_frame(frame.read()[0], *at) for frame in fitting[:FRAMES_MAX]}


def _drop_unfit(runners: dict[str, Runner], frame: Frame, notes: Notes) -> None:
    """An engine built for another size has no latency at this one: listed, not skipped in silence."""
    for name, runner in list(runners.items()):
        signature = runner.signature
        try:
            signature.check(signature.contract.encode(frame))
        except InputError as error:
            what = f"latency at {frame.shape[0]}x{frame.shape[1]}"
            notes.failures.append(Failure(frame=what, engine=name, reason=str(error)))
            del runners[name]


def _summarise(
    name: str,
    is_reference: bool,
    frames: Sequence[FrameResult],
    reference: Sequence[FrameResult],
    blurred: Sequence[Quality],
    latency: LatencyResult | None,
) -> EngineResult:
    """Means and the worst frame. An engine that failed on a frame has no mean: it would be one of other frames."""
    result = EngineResult(name=name, is_reference=is_reference, frames=tuple(frames), latency=latency)
    if [frame.frame for frame in frames] != [frame.frame for frame in reference]:
        return result
    worst = min(frames, key=lambda frame: frame.fidelity.strictest_db)
    qualities = [frame.quality for frame in frames if frame.quality]
    psnr, had = ([frame.quality.psnr_db for frame in of if frame.quality] for of in (frames, reference))
    before = [quality.psnr_db for quality in blurred]
    loss = loss_decibels(had, psnr) if had else None
    return result.model_copy(
        update={
            "worst_fidelity_db": worst.fidelity.strictest_db,
            "worst_fidelity_frame": worst.frame,
            "mean_fidelity_frame_db": mean_decibels(frame.fidelity.frame_db for frame in frames).db,
            "mean_quality": mean_quality(qualities),
            "psnr_loss_db": loss and loss.db,
            "loss": loss,
            "gain_db": gain_over_input(before, psnr) if had else None,
            "psnr_interval": interval_of(psnr),
            "loss_interval": None if is_reference else interval_of(less(had, psnr)),
            "gain_interval": interval_of(less(psnr, before)),
            "identical": 0 if is_reference else sum(math.isinf(frame.fidelity.frame_db) for frame in frames),
        }
    )
