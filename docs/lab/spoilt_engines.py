"""Engines that give a little less, or take a little longer, than they could: what a gate has to catch.

A module of its own, so that processes of engines find them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.engines.base import BaseRunner
from unblur.engines.engine import Engine, Opening
from unblur.engines.runner import Runner


class Noisy(BaseRunner):
    """A runner whose output has noise of this standard deviation, in the unit of its tensors."""

    def __init__(self, inner: Runner, deviation: float, seed: int) -> None:
        super().__init__(inner.signature, inner.description)
        self._inner, self._deviation, self._rng = inner, deviation, np.random.default_rng(seed)

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        found = self._inner.run(tensor)
        return found + (self._deviation * self._rng.standard_normal(found.shape)).astype(found.dtype)

    def _release(self) -> None:
        self._inner.close()


class Slow(BaseRunner):
    """A runner that takes a part longer, at work all the while as a slower engine would be."""

    def __init__(self, inner: Runner, part: float) -> None:
        super().__init__(inner.signature, inner.description)
        self._inner, self._part = inner, part

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        began = time.perf_counter()
        found = self._inner.run(tensor)
        until = began + (time.perf_counter() - began) * (1 + self._part)
        while time.perf_counter() < until:
            pass
        return found

    def _release(self) -> None:
        self._inner.close()


def slower(engine: Engine, part: float) -> Engine:
    """The engine, so much slower; it can be opened in a process of its own."""
    return replace(engine, open=partial(_open_slow, engine.name, part))


def _open_slow(name: str, part: float, opening: Opening) -> Runner:
    from unblur.engines.catalogue import find_engine

    return Slow(find_engine(name).open(opening), part)
