"""What an engine needs of a checkpoint, by structure: the rooms engines and networks do not import each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from unblur.images.contract import PixelContract

if TYPE_CHECKING:  # an engine that runs a graph needs no torch
    from torch import nn


class Weights(Protocol):
    """A loaded checkpoint (`unblur.networks.checkpoints.Checkpoint`): its file, SHA-256, pixels and network.

    `network` is in eval mode on the CPU, float32.
    """

    @property
    def path(self) -> Path: ...

    @property
    def digest(self) -> str: ...

    @property
    def contract(self) -> PixelContract: ...

    @property
    def network(self) -> nn.Module: ...

    def form(self, size: tuple[int, int], contract: PixelContract) -> nn.Module:
        """The network's exact form at (height, width) for pixels of `contract`: float32, on the CPU, a copy.

        Gives the restored pixels first.
        """
