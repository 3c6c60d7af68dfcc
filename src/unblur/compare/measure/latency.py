"""Latency of open runners at one size, by the stopwatch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.compare.timing import EndToEnd, FileTimes, LatencyResult, LatencySession, OnDevice, PaperLoop
from unblur.core.console import SILENT, Progress
from unblur.core.errors import CrashError, InputError
from unblur.core.provenance import conditions
from unblur.engines.own_process import within
from unblur.engines.runner import Queueing, Runner
from unblur.images.contract import Frame
from unblur.images.files import Picture, decode_picture, encode_picture
from unblur.metrics.quantiles import quantiles, speedup, summarise
from unblur.metrics.stationarity import stationarity
from unblur.metrics.stopwatch import Lap, Protocol, Session, Timed, measure, time_call

FRAMES_MAX = 4
"""So many frames take turns: enough that no cache holds the answer, few enough to stay in memory."""

FILE_ROUNDS = 5
"""Of reading and writing pictures, which no engine's threads disturb."""


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
    *,
    paper: bool = False,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> tuple[LatencySession, dict[str, LatencyResult]]:
    """Interleaved latency of all runners on frames of one size: `run` alone, and in the same calls from an 8-bit frame
    to an 8-bit frame. What queues its work on a device is also timed there; `paper`: each as the papers did, too.

    `frames`: report name to (H, W, 3) RGB uint8. `reference` is the runner that `speedup` divides by. An engine in a
    process of its own is timed in there. Engines that crash are added to `crashed` and have no latency.
    `clock_ns` is replaced in tests only.
    Raises InputError when frames differ in size or there is none; other errors of runners go through, and those of the
    reference.
    """
    sizes = {frame.shape[:2] for frame in frames.values()}
    if len(sizes) != 1:
        raise InputError(f"Latency is measured at one size, got {sorted(sizes)}.")
    height, width = sizes.pop()
    pictures = list(frames.values())
    crashed = {} if crashed is None else crashed
    timed: list[Timed] = []
    for name, runner in runners.items():
        try:
            timed += _stopwatches(name, runner, pictures, paper, clock_ns)
        except CrashError as error:
            crashed[name] = str(error)
    before = conditions()
    session = measure(timed, protocol, clock_ns=clock_ns, progress=progress)
    after = conditions()
    for name in runners:
        for one in (name, _on_device(name), _as_papers(name)):
            crashed |= {name: session.crashed[one]} if one in session.crashed else {}
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
            end_to_end=_end_to_end(session, name),
            on_device=_device_alone(session, name),
            paper=_paper_loop(session, name),
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
        after=after,
        files=_file_times(pictures),
    )
    return about, results


def _on_device(name: str) -> str:
    return f"{name} (device alone)"


def _as_papers(name: str) -> str:
    return f"{name} (papers' loop)"


def _stopwatches(
    name: str, runner: Runner, frames: list[Frame], paper: bool, clock_ns: Callable[[], int]
) -> list[Timed]:
    """Of whole frames; of the device alone, where the engine queues its work on one; and of the papers' loop."""
    shape = runner.signature.contract.encode(frames[0]).shape
    queues = within(runner, told_whether_it_queues)()
    found = {name: within(runner, stopwatch_of, frames, clock_ns)}
    if queues:
        found[_on_device(name)] = within(runner, device_stopwatch_of, shape, True, clock_ns)
    if paper and queues:
        found[_as_papers(name)] = within(runner, device_stopwatch_of, shape, False, clock_ns)
    elif paper:
        found[_as_papers(name)] = within(runner, loop_stopwatch_of, frames, clock_ns)
    return [Timed(title, call, away=True) for title, call in found.items()]


def told_whether_it_queues(runner: Runner) -> Callable[[], bool]:
    """Asked where the engine is."""
    return lambda: isinstance(runner, Queueing)


def stopwatch_of(
    runner: Runner, frames: Sequence[Frame], clock_ns: Callable[[], int] = time.perf_counter_ns
) -> Callable[[int], Lap]:
    """What times the number of a round on one of the frames: `run` alone, and, as the whole, from the 8-bit frame to an
    8-bit frame. An engine that gives no pixels (NaN) has no whole.
    """
    contract = runner.signature.contract
    height, width = frames[0].shape[:2]

    def encode(number: int) -> NDArray[Any]:
        return contract.encode(frames[number % len(frames)])

    def decode(tensor: NDArray[Any]) -> Frame:
        return contract.decode(tensor, height, width)

    return lambda number: time_call(runner.run, number, None, clock_ns, prepare=encode, finish=decode)


def loop_stopwatch_of(
    runner: Runner, frames: Sequence[Frame], clock_ns: Callable[[], int] = time.perf_counter_ns
) -> Callable[[int], Lap]:
    """As the papers: a clock around the call, its input made before."""
    inputs = [runner.signature.contract.encode(frame) for frame in frames]
    return lambda number: time_call(lambda turn: runner.run(inputs[turn % len(inputs)]), number, None, clock_ns)


def device_stopwatch_of(
    runner: Queueing, shape: tuple[int, ...], waits: bool, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> Callable[[int], Lap]:
    """The work of a frame on a device, waited for or not before the clock stops; where it is waited for, also by the
    device's own clock. Outside of a sample nothing of its engine's is in force (streams, flags).
    """

    def queued(number: int) -> Lap:
        with runner.resident(shape) as work:
            return time_call(lambda _: work(), number, None, clock_ns)

    def done(number: int) -> Lap:
        with runner.resident(shape) as work, runner.events() as events:
            lap = time_call(lambda _: events.around(work), number, runner.wait, clock_ns)
            return lap._replace(events_ms=events.elapsed_ms())

    return done if waits else queued


def _end_to_end(session: Session, name: str) -> EndToEnd | None:
    whole = session.wholes_ms(name)
    if len(whole) != len(session.latencies_ms(name)):
        return None
    beside = [both - run for both, run in zip(whole, session.latencies_ms(name), strict=True)]
    return EndToEnd(summary=summarise(whole), conversion_ms=median(beside))


def _device_alone(session: Session, name: str) -> OnDevice | None:
    alone = session.latencies_ms(_on_device(name))
    if not alone:
        return None
    copies = [run - work for run, work in zip(session.latencies_ms(name), alone, strict=True)]
    events = session.events_ms(_on_device(name))
    return OnDevice(summary=summarise(alone), copies_ms=median(copies), events=summarise(events) if events else None)


def _paper_loop(session: Session, name: str) -> PaperLoop | None:
    loop = session.latencies_ms(_as_papers(name))
    if not loop:
        return None
    alone = session.latencies_ms(_on_device(name))
    true = alone or session.latencies_ms(name)
    return PaperLoop(median_ms=median(loop), true_ms=median(true), short=speedup(true, loop), queued=bool(alone))


def _file_times(frames: Sequence[Frame]) -> FileTimes:
    """Of PNGs in memory: what a disk takes is another machine's."""
    name, count = Path("frame.png"), len(frames)
    pictures = [Picture(frame) for frame in frames]
    files = [encode_picture(name, one, one.frame) for one in pictures]
    timed = [
        Timed("decode", lambda turn: decode_picture(files[turn % count], name)),
        Timed("encode", lambda turn: encode_picture(name, pictures[turn % count], frames[turn % count])),
    ]
    session = measure(timed, Protocol(rounds=FILE_ROUNDS, warmup_window=1, warmup_rounds_max=1, settle_ms=0))
    decode, encode = (median(session.latencies_ms(one.name)) for one in timed)
    return FileTimes(decode_ms=decode, encode_ms=encode, kilobytes=median(map(len, files)) / 1e3)
