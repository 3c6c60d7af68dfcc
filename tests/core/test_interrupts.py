"""Ctrl-C waits for what does not survive it, once."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
