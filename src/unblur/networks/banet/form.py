"""BANet written as a compiler wants it: the same function, with strip pooling as matrix products.

Per attention (docs/numerics.md has the derivation and what each step saves):

* eight adaptive poolings are two products with constant (16, L) matrices on the channels-last map;
* `fuse_conv`, a 1x1 convolution of the concatenated strips, is folded into the strip convolutions
  (bias-free, so the composition is one convolution of the same size), in float64;
* upsampling is indexing: first to the at most 13 segments on which all strips are constant, then to the map.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.networks.banet.network import (
    NEGATIVE_SLOPE,
    STRIP_BINS,
    BlurAwareAttention,
    BlurAwareModule,
    BlurAwareNetwork,
)
from unblur.networks.banet.strips import (
    late_lengths,
    pool_matrix,
    segments,
    traced_axis,
)
from unblur.networks.form import reverse_channels

Axis = tuple[Tensor, list[Tensor], Tensor | None]
"""Pool matrix (16, L); for each strip width over 1 the index to segments (or to the axis); the segments of the axis."""


class FixedAxis(nn.Module):
    """The constants of one axis whose length is known."""

    def __init__(self, length: int) -> None:
        super().__init__()
        coarse, fine = segments(length)
        self.register_buffer("pool", torch.from_numpy(pool_matrix(length)))
        self.register_buffer("fine", torch.from_numpy(fine))
        for k, index in enumerate(coarse):
            self.register_buffer(f"coarse_{k}", torch.from_numpy(index))

    def forward(self, length: int) -> Axis:
        del length
        coarse = [self.get_buffer(f"coarse_{k}") for k in range(1, len(STRIP_BINS))]
        return self.get_buffer("pool"), coarse, self.get_buffer("fine")


class DynamicAxis(nn.Module):
    """The same constants, computed in the graph from the length it meets."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("late", late_lengths())

    def forward(self, length: int) -> Axis:
        return *traced_axis(length, self.get_buffer("late")), None


class AttentionForm(nn.Module):
    """`BlurAwareAttention` with folded strip convolutions; (1, C, h, w) -> same."""

    def __init__(self, attention: BlurAwareAttention) -> None:
        super().__init__()
        self.take_strips(attention)
        self.conv_final = attention.conv_final
        self.mask_conv_1, self.mask_conv_2 = attention.mask_conv_1, attention.mask_conv_2

    def take_strips(self, attention: BlurAwareAttention) -> None:
        """Fold the fusion into the convolutions of the strips."""
        fuse = attention.fuse_conv.weight[:, :, 0, 0]
        tall: list[nn.Parameter] = []
        wide: list[nn.Parameter] = []
        for bins, block in zip(STRIP_BINS, fuse.chunk(len(STRIP_BINS), dim=1), strict=True):
            conv_h, conv_w = attention.strip_convs(bins)
            tall.append(_folded(block, conv_h))
            wide.append(tall[-1] if conv_w is conv_h else _folded(block, conv_w))
        self.tall, self.wide = nn.ParameterList(tall), nn.ParameterList(wide)

    def forward(self, f: Tensor, rows: Axis, columns: Axis) -> Tensor:
        _, channels, height, width = f.shape
        # Channels-last: the compiler keeps maps so, and a product along W or H of it needs no copy of the map.
        g = f.permute(0, 2, 3, 1)
        tall = torch.matmul(columns[0], g).permute(0, 3, 1, 2)
        wide = torch.matmul(rows[0], g.reshape(1, height, width * channels))
        wide = wide.reshape(1, 16, width, channels).permute(0, 3, 1, 2)
        z = F.relu(self.fused(tall, wide, rows, columns))
        o = f * torch.sigmoid(self.conv_final(z))
        return o * torch.sigmoid(self.mask_conv_2(F.relu(self.mask_conv_1(o))))

    def fused(self, tall: Tensor, wide: Tensor, rows: Axis, columns: Axis) -> Tensor:
        """(1, C, h, 16), (1, C, 16, w) pooled -> the fused map (1, q, h, w)."""
        return _strips(tall, self.tall, columns, 3) + _strips(wide, self.wide, rows, 2)


def _folded(fuse: Tensor, conv: nn.Conv2d) -> nn.Parameter:
    """A 1x1 convolution (q, m) after a bias-free one (m, C, i, j): one convolution (q, C, i, j)."""
    return nn.Parameter(torch.einsum("qm,mcij->qcij", fuse, conv.weight))


def _strips(pooled: Tensor, weights: nn.ParameterList, axis: Axis, dim: int) -> Tensor:
    """Sum over the widths of the convolved, upsampled strips; `dim` is the pooled axis."""
    total: Tensor | None = None
    for k, strip in enumerate(torch.split(pooled, list(STRIP_BINS), dim)):
        weight = weights[k]
        # A strip one pixel wide has a kernel one pixel wide: no padding across it.
        convolved = F.conv2d(strip, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2))
        if STRIP_BINS[k] > 1:
            convolved = convolved.index_select(dim, axis[1][k - 1])
        total = convolved if total is None else total + convolved
    assert total is not None
    return total if axis[2] is None else total.index_select(dim, axis[2])


class BANetForm(nn.Module):
    """The exact export form of a BANet: (1, 3, H, W) in the network's range -> (1, 3, H, W), not clamped.

    `size` is (H, W), or None for a form that takes every even size. `flip_channels` permutes the first and the
    last convolution so that the form takes and gives the other channel order (exact).
    """

    attention: type[AttentionForm] = AttentionForm
    fixed_axis: Callable[[int], nn.Module] = FixedAxis
    dynamic_axis: Callable[[], nn.Module] = DynamicAxis

    def __init__(self, network: BlurAwareNetwork, size: tuple[int, int] | None, flip_channels: bool) -> None:
        super().__init__()
        network = copy.deepcopy(network).double().eval()  # folding is done in float64, the caller casts the result
        if flip_channels:
            first, last = network.en_layer1[0], network.de_layer3[0]
            assert isinstance(first, nn.Conv2d)
            assert isinstance(last, nn.Conv2d)
            reverse_channels([first], [last])
        self.en_layer1, self.en_layer2 = network.en_layer1, network.en_layer2
        self.blocks = network.blocks
        for k, block in enumerate(self.blocks, start=1):
            block.add_module("BA", self.attention(block.BA))
            self.add_module(f"BAM_{k}", block)
        self.de_layer1, self.de_layer2, self.de_layer3 = network.de_layer1, network.de_layer2, network.de_layer3
        self.rows: nn.Module = self.dynamic_axis() if size is None else self.fixed_axis(size[0] // 2)
        self.columns: nn.Module = self.rows if size is None else self.fixed_axis(size[1] // 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the restored tensor and, for the exporter's checks, the output of the first block."""
        res = self.en_layer1(x)
        y = self.en_layer2(res)
        rows, columns = self.rows(y.shape[2]), self.columns(y.shape[3])
        first: Tensor | None = None
        for block in self.blocks:
            y = _block(block, y, rows, columns)
            first = y if first is None else first
        assert first is not None
        y = self.de_layer2(torch.cat([self.de_layer1(y), res], dim=1))
        return self.de_layer3(y) + x, first


def _block(block: BlurAwareModule, x: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """`BlurAwareModule.forward` with the attention's form."""
    x = x if block.shortcut_conv is None else block.shortcut_conv(x)
    f = F.leaky_relu(block.input_conv(x), NEGATIVE_SLOPE)
    p = torch.cat([conv(f) for conv in block.dilated_convs("")], dim=1)
    t = F.leaky_relu(block.fuse_conv_1(p), NEGATIVE_SLOPE)
    p = torch.cat([conv(t) for conv in block.dilated_convs("_2")], dim=1)
    y = block.final_conv(torch.cat([p, block.BA(f, rows, columns)], dim=1))
    return F.leaky_relu(y + x, NEGATIVE_SLOPE)
