"""A runner of every size out of an engine that is opened for one: each size gets its own, as it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from unblur.core.bounds import Size
from unblur.engines.base import BaseRunner
from unblur.engines.runner import Runner
from unblur.images.contract import PixelContract
from unblur.images.signature import Signature

SIZES_MAX = 8
"""So many stay open; then the one unused for longest makes room."""


class PerSizeRunner(BaseRunner):
    """`open_size` opens the engine for a padded (height, width); all take and give `contract`.

    The first, for `size`, is opened at once, so that what is missing shows before the first frame, and described.
    """

    def __init__(self, open_size: Callable[[Size], Runner], contract: PixelContract, size: Size) -> None:
        """Raises what `open_size` raises."""
        self._open_size = open_size
        first = open_size(size)
        self._runners: dict[Size, Runner] = {size: first}
        super().__init__(Signature(contract), first.description | {"graph": "fixed, one for each size"})

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        height, width = tensor.shape[2:] if self._signature.contract.layout == "nchw" else tensor.shape[1:3]
        size = (int(height), int(width))
        runner = self._runners.pop(size, None)
        if runner is None:
            if len(self._runners) >= SIZES_MAX:
                self._runners.pop(next(iter(self._runners))).close()
            runner = self._open_size(size)
        self._runners[size] = runner  # the latest is the last
        return runner.run(tensor)

    def _release(self) -> None:
        runners, self._runners = self._runners, {}
        for runner in runners.values():
            runner.close()
