"""A build that can be watched and stopped.

The build runs in a thread of its own: TensorRT calls the monitor from inside the call, and an exception there (which
is what Ctrl-C is in the main thread) would go through its C++ frames. So Ctrl-C reaches the waiting thread only, which
tells the monitor, which tells TensorRT that no further step is wanted.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from unblur.core.console import Progress

T = TypeVar("T")

WORTH_SHOWING = 10
"""Steps of a phase that is worth a bar; the others are many, nested and short."""


@dataclass(frozen=True)
class Event:
    """What a monitor is told: a phase of so many steps begins, one of its steps is done, it ends."""

    kind: Literal["start", "step", "finish"]
    phase: str
    steps: int = 0


class Watch:
    """Between the builder's threads and the one that waits: events one way, the wish to stop the other."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()


def open_monitor(trt: Any, watch: Watch) -> Any:
    """An IProgressMonitor of the product that reports to `watch`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # exists only at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            watch.events.put(Event("start", phase_name, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            del step
            watch.events.put(Event("step", phase_name))
            return not watch.stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            watch.events.put(Event("finish", phase_name))

    return Monitor()


def run_watched(work: Callable[[], T], watch: Watch, progress: Progress) -> T:
    """Run `work` in a thread and show its phases. What it raises is raised here.

    Raises KeyboardInterrupt after Ctrl-C, once the work has ended: the monitor says stop at its next step.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # noqa: BLE001  # handed to the waiting thread, which raises it
            failure.append(error)
        finally:
            watch.events.put(None)

    thread = threading.Thread(target=run, name="tensorrt-build", daemon=True)
    thread.start()
    try:
        _show(watch, progress)
        thread.join()
    except KeyboardInterrupt:
        watch.stop.set()
        progress.note("stopping the build")
        thread.join()
        raise
    if failure:
        raise failure[0]
    return result[0]


def _show(watch: Watch, progress: Progress) -> None:
    """A bar for each phase worth one, until the work is over; a phase inside another takes its place."""
    event = watch.events.get()
    while event is not None:
        if event.kind != "start" or event.steps < WORTH_SHOWING:
            event = watch.events.get()
            continue
        ended: list[Event | None] = []
        steps = _steps(watch, event.phase, ended)
        for _ in progress.track(steps, f"compiling: {event.phase.lower()}", event.steps):
            pass
        event = ended[0]


def _steps(watch: Watch, phase: str, ended: list[Event | None]) -> Iterator[None]:
    """The steps of one phase; what ended it goes into `ended`."""
    while True:
        event = watch.events.get()
        if event is None or (event.kind == "start" and event.steps >= WORTH_SHOWING):
            ended.append(event)
            return
        if event.phase == phase:
            if event.kind == "finish":
                ended.append(event)
                return
            yield
