"""Ctrl-C waits for what does not survive it, once; nobody outlives whom he works for."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import unblur

STRUCK = """
import signal
from unblur.core.interrupts import deferred_interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with deferred_interrupts():
        signal.raise_signal(signal.SIGINT)
        print("ended")
        {error}
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.parametrize("error", ["", "1 / 0"])
def test_a_block_comes_to_its_end_first(error: str) -> None:
    """In a process of its own: a runner of tests may treat the signal as it likes."""
    code = STRUCK.format(error=error)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["ended", "interrupted", "True"], done.stderr


def test_the_second_ends_at_once() -> None:
    code = (
        "import os, signal\nfrom unblur.core.interrupts import deferred_interrupts\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nwith deferred_interrupts():\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGINT)\n    print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


TRACED = """
import signal
import torch
from unblur.export import trace
signal.signal(signal.SIGINT, signal.default_int_handler)

def export(*args, **kwargs):
    signal.raise_signal(signal.SIGINT)
    print("ended")

class Form(torch.nn.Module):
    bytes = False

torch.onnx.export = export
try:
    trace.trace(Form(), (16, 16), 2, 16, 20, lambda layer: (layer, layer))
except KeyboardInterrupt:
    print("interrupted")
"""


def test_the_tracer_is_such_a_block() -> None:
    done = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["ended", "interrupted"], done.stderr


PARENT = """
import subprocess, sys
child = ["import time", "from unblur.core.interrupts import end_with_parent as end", "end()", "print('up', flush=True)"]
subprocess.run([sys.executable, "-c", "; ".join([*child, "time.sleep(60)"])])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a signal of Linux")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_whom_it_works_for(end: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        parent.send_signal(end)
        assert select.select([parent.stdout], [], [], 30)[0], "the child lives, and has its stdout open"
        assert parent.stdout.read() == ""


def test_every_process_that_works_for_another_is_such_a_one() -> None:
    root = Path(unblur.__file__).parent
    marks = ('"-m", __name__', "get_context(")
    started = [path for path in root.rglob("*.py") if any(mark in path.read_text() for mark in marks)]
    assert len(started) == 5
    assert [path.name for path in started if "end_with_parent" not in path.read_text()] == []
