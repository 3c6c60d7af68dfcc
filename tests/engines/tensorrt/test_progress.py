"""A build that can be watched and stopped: phases, Ctrl-C, errors out of the thread."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from unblur.core.console import SILENT, Silent
from unblur.core.errors import InputError
from unblur.engines.tensorrt.progress import Event, Watch, run_watched

T = TypeVar("T")


class Bars(Silent):
    """Progress that remembers every bar: its text, its total, how many steps came."""

    def __init__(self) -> None:
        self.bars: list[tuple[str, int, int]] = []

    def track(self, items: Iterable[T], text: str, total: int) -> Iterator[T]:
        count = 0
        for item in items:
            count += 1
            yield item
        self.bars.append((text, total, count))


def test_phases_worth_a_bar_are_shown_one_after_the_other() -> None:
    watch, bars = Watch(), Bars()

    def work() -> str:
        for event in [
            Event("start", "Building", 6),
            Event("start", "Cloning", 12),
            *[Event("step", "Cloning")] * 12,
            Event("finish", "Cloning"),
            Event("start", "Timing", 20),
            *[Event("step", "Timing")] * 3,
            Event("step", "Building"),
            Event("start", "Tactics", 30),
            *[Event("step", "Tactics")] * 2,
            Event("finish", "Tactics"),
            Event("finish", "Timing"),
        ]:
            watch.events.put(event)
        return "engine"

    assert run_watched(work, watch, bars) == "engine"
    assert bars.bars == [
        ("compiling: cloning", 12, 12),
        ("compiling: timing", 20, 3),
        ("compiling: tactics", 30, 2),
    ]


def test_what_the_work_raises_is_raised() -> None:
    def work() -> None:
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        run_watched(work, Watch(), SILENT)


WATCHED = """
import os, signal, threading, time
from unblur.core.console import SILENT
from unblur.engines.tensorrt.progress import Event, Watch, run_watched

signal.signal(signal.SIGINT, signal.default_int_handler)
watch = Watch()

def work():
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    while not watch.stop.wait(0.01):
        watch.events.put(Event("step", "Timing"))
    time.sleep(0.1)
    print("the work ended")

try:
    run_watched(work, watch, SILENT)
except KeyboardInterrupt:
    print("then Ctrl-C was raised")
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_asks_the_work_to_stop_and_waits_for_its_end() -> None:
    """In a process of its own: what other tests do with signals, or a worker of pytest, has no say in it."""
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["the work ended", "then Ctrl-C was raised"]), done.stderr


INTERRUPTED = """
import os, signal, sys, threading
from unblur.cli.build_engine import main
from unblur.core import console
from unblur.engines.tensorrt import progress as tensorrt_progress

real = tensorrt_progress.open_monitor
def open_monitor(trt, watch):
    monitor = real(trt, watch)
    told = type(monitor).step_complete
    def step_complete(self, phase, step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            watch.stop.wait(30)
        return told(self, phase, step)
    type(monitor).step_complete = step_complete
    return monitor
tensorrt_builder = __import__("unblur.engines.tensorrt.builder", fromlist=["x"])
tensorrt_builder.open_monitor = open_monitor
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.tensorrt_rtx
@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_in_a_real_build_leaves_nothing_and_exits_with_130(fixed_graph: Path, tmp_path: Path) -> None:
    """The signal comes while the compiler is inside its fourth step of a phase."""
    arguments = ["--onnx", str(fixed_graph), "--fp16", "--target", "sm89", "--output", str(tmp_path / "x.engine")]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert "stopping the build" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
