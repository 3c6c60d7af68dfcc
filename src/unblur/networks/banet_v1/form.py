"""BA-Net v1 written as a compiler wants it: BANet's form, with the 3x3 fusion done on the strips.

A 3x3 convolution of a stretched strip is, for each of its three columns, a 3x1 convolution of the strip that is
stretched with an index one place to the left, in place, or to the right; beyond the map there is nothing. So the 12
parts of a direction (4 widths, 3 shifts), together 48 wide, are convolved as strips and stretched by one 48 x L matrix
of zeros and ones. The strips' own convolutions are not folded into it: they pad with zeros inside the strip.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.networks.banet.form import AttentionForm, Axis, BANetForm
from unblur.networks.banet.network import STRIP_BINS, BlurAwareAttention, nearest_index
from unblur.networks.banet.strips import late_lengths, pool_matrix, traced_axis

SHIFTS = (-1, 0, 1)


def spread_matrix(length: int) -> NDArray[np.float64]:
    """(48, length): row (n, s, i) is 1 at every place j whose neighbour j + s is there and reads bin i of n."""
    rows = []
    for bins in STRIP_BINS:
        index = np.pad(nearest_index(length, bins).numpy(), 1, constant_values=-1)
        for shift in SHIFTS:
            rows += [index[1 + shift : 1 + shift + length] == i for i in range(bins)]
    return np.stack(rows).astype(np.float64)


class FixedAxis(nn.Module):
    """The constants of one axis whose length is known; its places fall into at most 39 segments."""

    def __init__(self, length: int) -> None:
        super().__init__()
        distinct, segment = np.unique(spread_matrix(length), axis=1, return_inverse=True)
        self.register_buffer("pool", torch.from_numpy(pool_matrix(length)))
        self.register_buffer("spread", torch.from_numpy(np.ascontiguousarray(distinct)))
        self.register_buffer("fine", torch.from_numpy(segment.reshape(-1)))

    def forward(self, length: int) -> Axis:
        del length
        return self.get_buffer("pool"), [self.get_buffer("spread")], self.get_buffer("fine")


class DynamicAxis(nn.Module):
    """The same constants, computed in the graph from the length it meets: whole numbers that are compared."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("late", late_lengths())

    def forward(self, length: int) -> Axis:
        pool, indices = traced_axis(length, self.get_buffer("late"))
        nothing = torch.full((1,), -1)
        rows = []
        for bins, index in zip(STRIP_BINS, [torch.zeros_like(indices[0]), *indices], strict=True):
            beyond = torch.cat([nothing, index, nothing])
            bin_of = torch.arange(bins)[:, None]
            rows += [beyond[1 + shift : 1 + shift + length] == bin_of for shift in SHIFTS]
        return pool, [torch.cat(rows).to(pool.dtype)], None


class AttentionV1Form(AttentionForm):
    """`BlurAwareAttention` of v1 with its fusion on the strips; (1, C, h, w) -> same."""

    def take_strips(self, attention: BlurAwareAttention) -> None:
        for bins in STRIP_BINS:
            for name, conv in zip("hw", attention.strip_convs(bins), strict=True):
                self.add_module(f"conv_{bins}_{name}", conv)
        blocks = attention.fuse_conv.weight.chunk(len(STRIP_BINS), dim=1)
        # (q, m, down, right) -> (3 q, m, 3, 1) for tall strips, which shift right, and (3 q, m, 1, 3) for wide ones.
        self.tall = nn.ParameterList(torch.cat(block.unbind(3))[..., None] for block in blocks)
        self.wide = nn.ParameterList(torch.cat(block.unbind(2))[:, :, None] for block in blocks)

    def fused(self, tall: Tensor, wide: Tensor, rows: Axis, columns: Axis) -> Tensor:
        tall = torch.matmul(self._parts(tall, "h", self.tall, 3), columns[1][0])
        wide = torch.matmul(rows[1][0].t(), self._parts(wide, "w", self.wide, 2))
        if columns[2] is not None and rows[2] is not None:
            tall, wide = tall.index_select(3, columns[2]), wide.index_select(2, rows[2])
        return tall + wide

    def _parts(self, pooled: Tensor, name: str, weights: nn.ParameterList, dim: int) -> Tensor:
        """Strips of all widths and shifts, convolved, side by side along `dim`."""
        parts: list[Tensor] = []
        for k, strip in enumerate(torch.split(pooled, list(STRIP_BINS), dim)):
            strip = self.get_submodule(f"conv_{STRIP_BINS[k]}_{name}")(strip)
            weight = weights[k]
            strip = F.conv2d(strip, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2))
            parts += strip.chunk(len(SHIFTS), dim=1)
        return torch.cat(parts, dim)


class BANetV1Form(BANetForm):
    """The exact export form of a BA-Net v1, as `BANetForm` is of a BANet."""

    attention = AttentionV1Form
    fixed_axis, dynamic_axis = FixedAxis, DynamicAxis
