"""Ctrl-C waits for what does not survive it, once."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import torch

from unblur.core.interrupts import deferred_interrupts
from unblur.export import trace


def struck(ended: list[int], error: type[Exception] | None = None) -> None:
    with deferred_interrupts():
        signal.raise_signal(signal.SIGINT)  # to this thread, at once
        ended.append(1)
        if error:
            raise error


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_a_block_comes_to_its_end_first(error: type[Exception] | None) -> None:
    ended: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        struck(ended, error)
    assert ended
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_ends_at_once() -> None:
    code = (
        "import os, signal\nfrom unblur.core.interrupts import deferred_interrupts\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nwith deferred_interrupts():\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGINT)\n    print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_the_tracer_is_such_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def export(*args: object, **kwargs: object) -> None:
        signal.raise_signal(signal.SIGINT)
        ended.append(1)

    class Form(torch.nn.Module):
        bytes = False

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(KeyboardInterrupt):
        trace.trace(Form(), (16, 16), 2, 16, 20, lambda layer: (layer, layer))  # type: ignore[arg-type]
    assert ended
