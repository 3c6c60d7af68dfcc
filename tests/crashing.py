"""An engine that gives back its input until it ends its process. Light to import: it is, in a process of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from functools import partial
from typing import Any

from numpy.typing import NDArray

from unblur.engines.base import BaseRunner
from unblur.engines.engine import Engine, Opening
from unblur.engines.own_process import open_in_own_process
from unblur.engines.runner import Runner
from unblur.images.contract import PixelContract
from unblur.images.signature import Signature

HOW = "CRASH_HOW"
"""Variable of the environment: how it ends, for engines that say nothing else."""


class Crashing(BaseRunner):
    """`how` its process ends when it is asked for more than `good` frames."""

    def __init__(self, contract: PixelContract, how: str, good: int) -> None:
        about = {"backend": "crashing", "version": "1", "device": "cpu", "threads": "1", "precision": "f32"}
        super().__init__(Signature(contract), about)
        self._how, self._good = how, good

    @property
    def description(self) -> dict[str, str]:
        """Of now, as engines on a GPU tell theirs."""
        return super().description | {"mode": f"{self._good} to go"}

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        self._good -= 1
        if self._good < 0:
            end(self._how)
        return tensor.copy()

    def _release(self) -> None:
        pass


def end(how: str) -> None:
    """Of this process, but for "raise" and ""."""
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(7)
    elif how == "hang":
        time.sleep(600)
    elif how == "raise":
        raise ZeroDivisionError("a bug of its own")


def _open(contract: PixelContract, how: str, good: int, opening: Opening) -> Runner:
    if good < 0:
        end(how)
    return Crashing(contract, how, good)


def _open_checkpoint(opening: Opening) -> Runner:
    return Crashing(opening.checkpoint.contract, os.environ.get(HOW, ""), 0)


def _engine(open_it: Any) -> Engine:
    return Engine("crashing", "crashing", "fp32", "checkpoint", "cpu", frozenset({"numpy"}), "numpy", open_it)


CRASHING = _engine(_open_checkpoint)
"""For the catalogue; ends with the first frame, as HOW says."""


def open_crashing(contract: PixelContract, how: str, good: int, hang_s: float = 60.0) -> Runner:
    """In a process of its own; it ends while it is opened where `good` is negative."""
    opening = Opening("crashing", None, None, 1)
    return open_in_own_process(_engine(partial(_open, contract, how, good)), False, opening, hang_s)
