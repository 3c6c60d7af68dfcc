"""What is timed beside `run` alone, under a clock that only the engines and their device move."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_frames import QUICK

from unblur.compare.measure.latency import measure_latency
from unblur.compare.tell.timing import frame_lines, paper_lines
from unblur.compare.timing import LatencyResult, LatencySession
from unblur.core.errors import InputError
from unblur.engines.base import BaseRunner
from unblur.images.contract import CONTRACTS
from unblur.images.signature import Signature

RUN_MS, COPIES_MS, QUEUE_MS, EVENTS_MS = 40.0, 6.0, 0.5, 39.0


class Clock:
    """Time stands still except while somebody works."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def work(self, ms: float) -> None:
        self.now_ns += round(ms * 1e6)


class OnCpu(BaseRunner):
    """Has finished when the call returns; `fault` is done to its output."""

    def __init__(self, clock: Clock, fault: Callable[[NDArray[Any]], NDArray[Any]] = lambda tensor: tensor) -> None:
        about = {"backend": "fake", "version": "1", "device": "cpu", "threads": "1", "precision": "f32"}
        super().__init__(Signature(CONTRACTS["rgb01"]), about)
        self.clock, self._fault = clock, fault

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        self.clock.work(RUN_MS)
        return self._fault(tensor.copy())

    def _release(self) -> None:
        pass


class OnDevice(OnCpu):
    """Queues in half a millisecond what its device then takes forty for; a whole `run` copies, too."""

    queued_ms = 0.0
    inside = False

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        self.clock.work(COPIES_MS)
        return super()._run(tensor)

    @contextmanager
    def resident(self, shape: tuple[int, ...]) -> Iterator[Callable[[], None]]:
        self.inside = True
        yield self._queue
        self.wait()
        self.inside = False

    def _queue(self) -> None:
        self.clock.work(QUEUE_MS)
        self.queued_ms += RUN_MS - QUEUE_MS

    def wait(self) -> None:
        self.clock.work(self.queued_ms)
        self.queued_ms = 0.0

    @contextmanager
    def events(self) -> Iterator["OnDevice"]:
        assert self.inside
        yield self

    def around(self, work: Callable[[], None]) -> None:
        work()

    def elapsed_ms(self) -> float:
        assert not self.queued_ms, "asked before the work is done"
        return EVENTS_MS


def measured(runners: Callable[[Clock], dict[str, OnCpu]]) -> tuple[LatencySession, dict[str, LatencyResult]]:
    clock = Clock()
    frame = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    opened = runners(clock)
    found = measure_latency(opened, "cpu", {"a": frame}, QUICK, paper=True, clock_ns=clock)
    assert not any(getattr(runner, "inside", False) for runner in opened.values())
    return found


def test_the_papers_loop_is_short_where_work_is_queued_and_true_where_it_is_not() -> None:
    session, found = measured(lambda clock: {"cpu": OnCpu(clock), "gpu": OnDevice(clock)})
    cpu, gpu = found["cpu"].paper, found["gpu"].paper
    assert cpu is not None
    assert gpu is not None
    assert (cpu.median_ms, cpu.true_ms, cpu.short.value, cpu.queued) == (RUN_MS, RUN_MS, 1.0, False)
    assert (gpu.median_ms, gpu.true_ms, gpu.queued) == (QUEUE_MS, RUN_MS, True)
    assert gpu.short.value == RUN_MS / QUEUE_MS
    queued, done = paper_lines(found)
    assert "gpu 0.50 ms for 40.0, 80.0 times too short" in queued
    assert "gives the true number, to 0.0% at most as measured" in done
    alone = found["gpu"].on_device
    assert alone is not None
    assert (alone.summary.median_ms, alone.copies_ms) == (RUN_MS, COPIES_MS)
    assert (found["gpu"].device_ms, found["cpu"].device_ms) == (EVENTS_MS, None)
    assert [sample.events_ms for sample in session.samples if sample.name == "gpu (device alone)"][-1] == EVENTS_MS
    lines = "\n".join(frame_lines(session, found))
    assert "gpu 40.0 ms on the device, 6.00 ms for the way" in lines
    assert "by the GPU's own clock, without copies, queueing and waiting." in lines
    without = found | {"ort": found["gpu"].model_copy(update={"on_device": None})}
    without["ort"].description["device"] = "Fake GPU"
    assert "waiting; not measured of ort." in "\n".join(frame_lines(session, without))


def test_a_loop_that_does_not_agree_on_a_cpu_is_said_and_not_explained_away() -> None:
    session, found = measured(lambda clock: {"cpu": OnCpu(clock)})
    paper = found["cpu"].paper
    assert paper is not None
    short = paper.short
    off = paper.model_copy(update={"short": type(short)(1.2, 1.1, 1.3, short.level)})
    (line,) = paper_lines({"cpu": found["cpu"].model_copy(update={"paper": off})})
    assert "does not give the true number again (true over it: cpu 1.20 (1.10–1.30))" in line
    assert any("no copies to a device" in line for line in frame_lines(session, found))


def test_an_engine_that_gives_no_pixels_has_no_whole_frames_and_stops_nobody() -> None:
    session, found = measured(lambda clock: {"cpu": OnCpu(clock), "nan": OnCpu(clock, lambda tensor: tensor * np.nan)})
    assert found["nan"].end_to_end is None
    assert found["nan"].summary.median_ms == RUN_MS
    assert found["cpu"].end_to_end is not None
    assert found["cpu"].end_to_end.summary.median_ms >= RUN_MS
    assert session.files is not None
    assert session.files.kilobytes > 0


def test_frames_of_two_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="one size"):
        measure_latency({}, "cpu", {k: np.zeros((s, s, 3), np.uint8) for k, s in (("a", 8), ("b", 9))}, QUICK)
