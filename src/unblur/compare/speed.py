"""The speed benchmark: engines of one network at one size against eager PyTorch, without pictures or budgets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Literal

from unblur.compare.candidates import Candidate
from unblur.compare.measure.latency import fit_frame, measure_latency
from unblur.compare.measure.throughput import measure_throughput
from unblur.compare.parts import Part
from unblur.compare.timing import Ceilings, LatencyResult, LatencySession, Rates, Throughput
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import CrashError, InputError, MissingRuntimeError
from unblur.core.provenance import machine, package_versions
from unblur.engines.catalogue import REFERENCE, open_engine
from unblur.engines.runner import Runner, restore_frame
from unblur.images.contract import Frame
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.decibels import Decibels
from unblur.metrics.quality import psnr_db
from unblur.metrics.stopwatch import Protocol
from unblur.networks.checkpoints import Checkpoint

FRAMES = 2
SIDE_MIN = 16
"""Pixels of the smallest scene that is drawn."""


class SpeedResult(Part):
    """One engine. `agreement_db`: PSNR of its first 8-bit frame to the reference's (peak 255), lest a wrong engine be
    praised for its speed. `not_measured`: the reason, if this machine cannot run it. `throughput`, `rates`: where they
    were asked for.
    """

    name: str
    not_measured: str | None = None
    agreement_db: Decibels | None = None
    latency: LatencyResult | None = None
    throughput: Throughput | None = None
    rates: Rates | None = None


class SpeedReport(Part):
    """A benchmark. `weights` says where they come from: random ones are as fast as trained ones."""

    form: Literal["unblur speed 1"] = "unblur speed 1"
    created_utc: str
    network: str
    weights: str
    checkpoint_digest: str
    machine: dict[str, str]
    versions: dict[str, str]
    engines: tuple[SpeedResult, ...]
    latency: LatencySession
    ceilings: tuple[Ceilings, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Strict JSON values; infinite decibels are words."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return values


def measure_speed(
    checkpoint: Checkpoint,
    engines: Sequence[Candidate],
    size: Size,
    weights: str,
    *,
    threads: int | None = None,
    protocol: Protocol | None = None,
    progress: Progress = SILENT,
    paper: bool = False,
    throughput: bool = False,
    streams: Sequence[Candidate] = (),
    hang_s: float | None = None,
) -> SpeedReport:
    """Latency of the engines and of eager float32 PyTorch in one interleaved session at (height, width).

    `paper`: also by the loop of the papers. `throughput`: also frames a second, and of the engines in `streams`, which
    are the same ones on one thread, of as many at once as there are `threads`. `hang_s`: PyTorch in a process of its
    own, as `open_engine`: what the engines were made with in this one (calibration, compilation) must not slow it.

    An engine that this machine cannot run, or that crashes, is listed with the reason. Raises InputError for an engine
    given twice; other errors of the engines go through, and those of PyTorch.
    """
    candidates = [engine for engine in engines if engine.name != REFERENCE]
    names = [REFERENCE, *(engine.name for engine in candidates)]
    if len(set(names)) != len(names):
        raise InputError(f"Every engine is measured once, got {', '.join(names)}.")
    frames = {f"drawn {k}": _drawn(k, size) for k in range(FRAMES)}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        runners: dict[str, Runner] = {
            REFERENCE: stack.enter_context(open_engine(REFERENCE, checkpoint, None, threads, hang_s=hang_s))
        }
        for engine in candidates:
            progress.note(f"opening {engine.name}")
            try:
                runners[engine.name] = stack.enter_context(engine.open(checkpoint.contract.padded_size(*size)))
            except (MissingRuntimeError, CrashError) as error:
                missing[engine.name] = str(error).removeprefix(f"{engine.name}: ")
        agreement = _agreement(runners, next(iter(frames.values())), progress, missing)
        runners = {name: runner for name, runner in runners.items() if name not in missing}
        protocol = protocol or Protocol()
        session, latencies = measure_latency(runners, REFERENCE, frames, protocol, progress, missing, paper=paper)
        flows: dict[str, Throughput] = {}
        if throughput:
            padded = checkpoint.contract.padded_size(*size)
            several = {
                one.name: [stack.enter_context(one.open(padded)) for _ in range(threads or 1)]
                for one in streams
                if one.name in latencies
            }
            medians = {name: found.summary.median_ms for name, found in latencies.items()}
            alive = {name: runner for name, runner in runners.items() if name not in missing}
            flows = measure_throughput(alive, several, list(frames.values()), medians, progress)
    return SpeedReport(
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        network=checkpoint.name,
        weights=weights,
        checkpoint_digest=checkpoint.digest,
        machine=machine(),
        versions=dict(package_versions()),
        engines=tuple(
            SpeedResult(
                name=name,
                not_measured=missing.get(name),
                agreement_db=agreement.get(name),
                latency=latencies.get(name),
                throughput=flows.get(name),
            )
            for name in names
        ),
        latency=session,
    )


def _drawn(seed: int, size: Size) -> Frame:
    """A blurred scene, which a PNG takes as long for as a photograph, and not as long as for noise."""
    height, width = size
    blurred, _ = synthetic_pair(seed, max(height, SIDE_MIN), max(width, SIDE_MIN), "heldout")
    return fit_frame(blurred, height, width)


def _agreement(
    runners: dict[str, Runner], frame: Frame, progress: Progress, crashed: dict[str, str]
) -> dict[str, float]:
    """dB of each restored frame against the reference's. The first run also compiles, for those that do. Engines that
    crash are added to `crashed`."""
    restored = {}
    for name, runner in progress.track(runners.items(), "first run", len(runners)):
        try:
            restored[name] = restore_frame(runner, frame)
        except CrashError as error:
            if name == REFERENCE:
                raise
            crashed[name] = str(error)
    return {name: psnr_db(picture, restored[REFERENCE], peak=255) for name, picture in restored.items()}
