"""The seam of a new paper: what the registry must know of an architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from unblur.images.contract import PixelContract

MOST_CHANNELS = 1 << 16
"""A file may claim any shape; beyond this a proposal's sizes would overflow even on device "meta"."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Family:
    """One architecture of the registry. `infer` gives its best proposal, whatever the state dict holds.

    `form`: the exact form of a network at (height, width), None for every size, with channels flipped or not: a module
    in float64 that gives the restored tensor and the output of its first block.
    """

    infer: Callable[[Shapes], Any]
    build: Callable[[Any], nn.Module]
    form: Callable[[Any, tuple[int, int] | None, bool], nn.Module]
    presets: Mapping[str, Any]
    contract: PixelContract = field(default_factory=PixelContract)
