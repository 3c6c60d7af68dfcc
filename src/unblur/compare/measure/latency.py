"""Latency of open runners at one size, by the stopwatch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.compare.report import LatencyResult, LatencySession
from unblur.core.console import SILENT, Progress
from unblur.core.errors import CrashError, InputError
from unblur.core.provenance import conditions
from unblur.engines.own_process import OwnProcessRunner, within
from unblur.engines.runner import Runner
from unblur.images.contract import Frame
from unblur.metrics.quantiles import quantiles, speedup, summarise
from unblur.metrics.stationarity import stationarity
from unblur.metrics.stopwatch import Protocol, Timed, measure, time_call

FRAMES_MAX = 4
"""So many frames take turns: enough that no cache holds the answer, few enough to stay in memory."""


def most_frequent(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The commonest (height, width); of equally common ones the first."""
    if not sizes:
        raise InputError("There is no frame to take a size from.")
    return Counter(sizes).most_common(1)[0][0]


def fit_frame(frame: Frame, height: int, width: int) -> Frame:
    """The centre of a frame at (height, width); where it is smaller it is mirrored outwards. For latency only."""
    pad_rows, pad_columns = max(0, height - frame.shape[0]), max(0, width - frame.shape[1])
    if pad_rows or pad_columns:
        frame = np.pad(frame, ((0, pad_rows), (0, pad_columns), (0, 0)), mode="symmetric")
    top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
    return np.ascontiguousarray(frame[top : top + height, left : left + width])


def measure_latency(
    runners: Mapping[str, Runner],
    reference: str,
    frames: Mapping[str, Frame],
    protocol: Protocol,
    progress: Progress = SILENT,
    crashed: dict[str, str] | None = None,
) -> tuple[LatencySession, dict[str, LatencyResult]]:
    """Interleaved latency of all runners on frames of one size, encoded beforehand: `run` alone is timed.

    `frames`: report name to (H, W, 3) RGB uint8. `reference` is the runner that `speedup` divides by. An engine in a
    process of its own is timed in there. Engines that crash are added to `crashed` and have no latency.
    Raises InputError when frames differ in size or there is none; other errors of runners go through, and those of the
    reference.
    """
    sizes = {frame.shape[:2] for frame in frames.values()}
    if len(sizes) != 1:
        raise InputError(f"Latency is measured at one size, got {sorted(sizes)}.")
    height, width = sizes.pop()
    crashed = {} if crashed is None else crashed
    timed = []
    for name, runner in runners.items():
        try:
            timed.append(_timed(name, runner, list(frames.values())))
        except CrashError as error:
            crashed[name] = str(error)
    before = conditions()
    session = measure(timed, protocol, progress=progress)
    crashed.update(session.crashed)
    if reference in crashed:
        raise CrashError(f"The reference {reference}: {crashed[reference]}")
    base = session.latencies_ms(reference)
    results = {
        name: LatencyResult(
            description=runner.description,
            summary=summarise(session.latencies_ms(name)),
            speedup=speedup(base, session.latencies_ms(name)),
            warmed_up=session.stable[name],
            quantiles=quantiles(session.latencies_ms(name)),
            stationarity=stationarity(session.latencies_ms(name)),
        )
        for name, runner in runners.items()
        if name not in crashed
    }
    about = LatencySession(
        height=height,
        width=width,
        frames=tuple(frames),
        protocol=protocol,
        load_before=before.load,
        warmup_rounds=session.warmup_rounds,
        samples=session.samples,
        before=before,
        after=conditions(),
    )
    return about, results


def _timed(name: str, runner: Runner, frames: list[Frame]) -> Timed:
    if isinstance(runner, OwnProcessRunner):
        return Timed(name, within(runner, stopwatch_of, frames), away=True)
    return Timed(name, _caller(runner, frames))


def stopwatch_of(runner: Runner, frames: Sequence[Frame]) -> Callable[[int], tuple[int, int]]:
    """What times the number of a round on one of the frames, as `time_call`."""
    call = _caller(runner, frames)
    return lambda number: time_call(call, number)


def _caller(runner: Runner, frames: Sequence[Frame]) -> Callable[[int], NDArray[Any]]:
    inputs = [runner.signature.contract.encode(frame) for frame in frames]
    return lambda number: runner.run(inputs[number % len(inputs)])
