"""Ctrl-C where a library does not survive it, and the end of processes that work for another."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Let a block come to its end before Ctrl-C strikes; a second Ctrl-C ends the process at once, with 130.

    For blocks of seconds that write nothing: PyTorch's tracer, interrupted at the wrong moment, aborts the process
    from C++ ("trying to set the current ProxyTorchDispatchMode, but one already exists"), and nobody tidies up.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield
        return
    struck: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        del frame
        if struck:
            os._exit(130)
        struck.append(number)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if struck:
            signal.raise_signal(signal.SIGINT)


def end_with_parent() -> None:
    """In a process that works for another: Ctrl-C is for who asks, and none outlives who asks, however that one ends
    (on Linux; elsewhere a hang may)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
