"""Quantisation-aware fine-tuning: the loop that exists, with convolutions that see 8 bits and gradients that do not.

Each convolution's map and weights are rounded to the 8-bit grid they will have (Jacob et al., CVPR 2018, section 3),
the gradient passes straight through inside the range and is zero outside it (Bengio et al., 2013). The checkpoint
keeps plain weights: it is calibrated and quantised afterwards like any other.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.core.errors import InputError
from unblur.graphs.facts import is_map
from unblur.training.config import FakeQuantise


@dataclass(frozen=True)
class Seen:
    """Smallest and largest value that a convolution read, 0 included: padding and ReLU make it of everything."""

    low: float
    high: float


def observe(network: nn.Module, batches: Iterable[Tensor]) -> dict[str, Seen]:
    """Ranges of the maps that convolutions read, over all batches; convolution's name -> Seen.

    Left out are those that calibration leaves in floating point: the first, the last, transposed ones, and the
    convolutions of strips. Raises InputError for a value that is not finite.
    """
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    left_out = {names[0], names[-1]}
    seen: dict[str, Seen] = {}
    frame = (0, 0)

    def watch(name: str) -> object:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            data = inputs[0]
            if not is_map(data.shape[2], data.shape[3], *frame):
                left_out.add(name)
                return
            low, high = (float(end) for end in data.aminmax())
            if not low - high <= 0:
                raise InputError(f"{name} reads a value that is not finite; check the checkpoint.")
            before = seen.get(name, Seen(0.0, 0.0))
            seen[name] = Seen(min(before.low, low), max(before.high, high))

        return network.get_submodule(name).register_forward_pre_hook(hook)

    handles = [watch(name) for name in names]
    try:
        with torch.no_grad():
            for batch in batches:
                frame = (batch.shape[2], batch.shape[3])
                network(batch)
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
    return {name: ends for name, ends in seen.items() if name not in left_out}


def fake_quantise(network: nn.Module, seen: Mapping[str, Seen], what: FakeQuantise) -> None:
    """Let the named convolutions compute as in 8 bits, in place. Parameters and their names stay."""
    for name, ends in seen.items():
        convolution = network.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        if what.activation == "u8":
            scale = (ends.high - ends.low) / 255 or 1.0
            grid = (scale, round(-ends.low / scale), 0, 255)
        else:
            grid = (max(-ends.low, ends.high) / 127 or 1.0, 0, -127, 127)
        convolution.forward = types.MethodType(_Forward(grid, what.per_channel), convolution)  # type: ignore[method-assign]


@dataclass(frozen=True)
class _Forward:
    """`forward` of a convolution; `grid` is its map's (scale, zero point, smallest, largest)."""

    grid: tuple[float, int, int, int]
    per_channel: bool

    def __call__(self, convolution: nn.Conv2d, data: Tensor) -> Tensor:
        rounded = torch.fake_quantize_per_tensor_affine(data, *self.grid)
        weight = convolution.weight
        peaks = weight.detach().abs().amax((1, 2, 3) if self.per_channel else (0, 1, 2, 3))
        scale = torch.where(peaks > 0, peaks / 127, torch.ones_like(peaks))
        zero = torch.zeros_like(scale, dtype=torch.int32)
        if self.per_channel:
            weight = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)
        else:
            weight = torch.fake_quantize_per_tensor_affine(weight, scale, zero, -127, 127)
        return F.conv2d(
            rounded, weight, convolution.bias, convolution.stride, convolution.padding, convolution.dilation,
            convolution.groups,
        )  # fmt: skip
