"""A network that is none of the papers': a residual CNN of RGB pixels in [0, 1] that takes every size.

All that the house is told of it is this file. What passes with it, passes by the record `Family` alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.images.contract import PixelContract
from unblur.networks.family import Exactness, Family, Shapes
from unblur.networks.form import reverse_channels
from unblur.networks.recipe import Adam, Supervised


@dataclass(frozen=True)
class ForeignSpec:
    width: int = 8
    blocks: int = 2

    def label(self) -> str:
        return f"foreign-{self.blocks}x{self.width}"


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return y


class Foreign(nn.Module):
    """(B, 3, H, W) RGB in [0, 1] -> the same, not clamped."""

    def __init__(self, spec: ForeignSpec) -> None:
        super().__init__()
        self.spec = spec
        self.head = nn.Conv2d(3, spec.width, 5, padding=2)
        self.body = nn.Sequential(*(Block(spec.width) for _ in range(spec.blocks)))
        self.tail = nn.Conv2d(spec.width, 3, 3, padding=1)

    def early(self, x: Tensor) -> Tensor:
        y: Tensor = self.body[0](self.head(x))
        return y

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.tail(self.body(self.head(x)))
        return y


class ForeignForm(nn.Module):
    """The network itself, which exports exactly, with its probe."""

    def __init__(self, network: Foreign, size: tuple[int, int] | None, flip: bool) -> None:
        super().__init__()
        network = copy.deepcopy(network).double().eval()
        self.head, self.body, self.tail = network.head, network.body, network.tail
        if flip:
            reverse_channels([self.head], [self.tail])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        probe = self.body[0](self.head(x))
        return x + self.tail(self.body[1:](probe)), probe


def infer(shapes: Shapes) -> ForeignSpec:
    width = shapes.get("tail.weight", (3, 8))[1:2] or (8,)
    blocks = {key.split(".")[1] for key in shapes if key.startswith("body.")}
    return ForeignSpec(min(max(width[0], 1), 512), min(len(blocks), 64) or 1)


def part_of(layer: str) -> tuple[str, str]:
    """`body.0.conv1` is of block `body.0`; each layer is its own group."""
    return ".".join(layer.split(".")[: 2 if layer.startswith("body.") else 1]), layer


def recipe(network: Foreign, settings: Mapping[str, Any]) -> Supervised:
    return Supervised(network, settings, Adam(), lambda restored, sharp: F.l1_loss(restored.float(), sharp))


FOREIGN = Family(
    name="foreign",
    title="A residual CNN",
    paper="none",
    year=2026,
    presets={"foreign_small": ForeignSpec()},
    contract=PixelContract(channel_order="rgb", low=0.0, high=1.0, multiple=1),
    infer=infer,
    build=Foreign,
    exact=Exactness(form=ForeignForm, probe=Foreign.early, smallest=7, sizes=((7, 7), (9, 16), (31, 17), (24, 40))),
    part_of=part_of,
    recipe=recipe,
    reach="local",
)


def foreign(spec: ForeignSpec | None = None) -> Foreign:
    """Random weights whose residual is visible."""
    torch.manual_seed(4)
    network = Foreign(spec or ForeignSpec()).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.4)
        network.tail.weight.mul_(0.3)
    return network
