"""Frames a second: one after another, with decoding and encoding beside the run, and on several small engines at once.

No engine takes a batch (`Signature.check`): what there is beside one frame at a time is streams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

from unblur.compare.timing import Throughput
from unblur.core.console import SILENT, Progress
from unblur.core.overlap import ahead
from unblur.engines.own_process import within
from unblur.engines.runner import Runner, restore_frame
from unblur.images.contract import Frame
from unblur.images.files import Picture, decode_picture, encode_picture
from unblur.metrics.stopwatch import Protocol, Timed, measure

TURN_S = 0.5
FEWEST, MOST = 6, 60
"""A turn is of so many frames as take an engine about TURN_S, within these: pipes fill and drain within it, too."""

HOWS = ("alone", "one by one", "overlapped")

ROUNDS = Protocol(rounds=3, warmup_window=1, warmup_rounds_max=1)
NAME = Path("frame.png")


def measure_throughput(
    runners: Mapping[str, Runner],
    streams: Mapping[str, Sequence[Runner]],
    frames: Sequence[Frame],
    latencies_ms: Mapping[str, float],
    progress: Progress = SILENT,
) -> dict[str, Throughput]:
    """Of each runner on frames of one size, all in turns that are interleaved. `streams`: of some engines several
    runners of one thread each. `latencies_ms`: of one frame, so that turns have a length. What runners raise goes
    through.
    """
    files = [encode_picture(NAME, Picture(frame), frame) for frame in frames]
    counts = {name: min(MOST, max(FEWEST, math.ceil(1e3 * TURN_S / latencies_ms[name]))) for name in runners}
    timed: list[Timed] = []
    for name, runner in runners.items():
        count = counts[name]
        turns = {how: within(runner, turn_of, how, frames, files, count) for how in HOWS}
        if name in streams:
            turns["streams"] = partial(_alone, streams[name], frames, count)
        timed += [Timed(f"{name} {how}", partial(_turn, work)) for how, work in turns.items()]
    session = measure(timed, ROUNDS, progress=progress)

    def rate(name: str, how: str) -> float:
        return 1e3 * counts[name] / median(session.latencies_ms(f"{name} {how}"))

    return {
        name: Throughput(
            run_alone=rate(name, "alone"),
            one_by_one=rate(name, "one by one"),
            overlapped=rate(name, "overlapped"),
            streams=rate(name, "streams") if name in streams else None,
            stream_count=len(streams.get(name, ())),
        )
        for name in runners
        if not any(f"{name} {how}" in session.crashed for how in (*HOWS, "streams"))
    }


def turn_of(
    runner: Runner, how: str, frames: Sequence[Frame], files: Sequence[bytes], count: int
) -> Callable[[], None]:
    """`count` frames through a runner in one of the `HOWS`. In an engine's own process a turn is one message."""
    if how == "alone":
        return partial(_alone, [runner], frames, count)
    pictures = [files[k % len(files)] for k in range(count)]
    return partial(_one_by_one if how == "one by one" else _overlapped, runner, pictures)


def _turn(work: Callable[[], None], _: int) -> None:
    work()


def _alone(several: Sequence[Runner], frames: Sequence[Frame], count: int) -> None:
    """`count` tensors through the runners, each in a thread of its own, the next to whoever is free."""
    tensors = [several[0].signature.contract.encode(frame) for frame in frames]
    left = iter(range(count))  # `next` of it is one step, which no other thread comes between

    def work(runner: Runner) -> None:
        while (number := next(left, None)) is not None:
            runner.run(tensors[number % len(tensors)])

    if len(several) == 1:
        work(several[0])
        return
    with ThreadPoolExecutor(len(several)) as pool:
        list(pool.map(work, several))


def _restored(runner: Runner, picture: Picture) -> Picture:
    return Picture(restore_frame(runner, picture.frame))


def _encoded(picture: Picture) -> bytes:
    return encode_picture(NAME, picture, picture.frame)


def _decoded(file: bytes) -> Picture:
    return decode_picture(file, NAME)


def _one_by_one(runner: Runner, files: Sequence[bytes]) -> None:
    for file in files:
        _encoded(_restored(runner, _decoded(file)))


def _overlapped(runner: Runner, files: Sequence[bytes]) -> None:
    with (
        ahead(files, _decoded) as decoded,
        ahead((_restored(runner, one) for one in decoded), _encoded) as encoded,
    ):
        for _ in encoded:
            pass
