"""SAPHN written as a compiler wants it: the same function in fewer, larger operators.

* Attention: the softmax over all places is deferred. With e = exp(b - max b) / HW^(1/2), (v e^T) / sum(e) is
  v softmax(b)^T. Both parts stay within HW^(1/2) of the values, at the top of a peak and on a plain, so that 16 bits
  hold them; weights of 1/HW would be subnormal there, a plain sum would overflow.
* Every convolution of a block that reads h to few channels (gates, filter values, offsets) is one.
* Pixel-dependent filter: the 25 taps of every channel side by side, times V, are one 1x1 convolution. The taps are
  five shifted rows of five shifted columns, or in variant (b) one GridSample of stacked grids. `DeformedTaps` is the
  same as one DeformConv, for engines that have it.
* Patches are a batch.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.networks.form import reverse_channels
from unblur.networks.saphn.network import (
    LEVELS,
    MAX_OFFSET,
    TAPS,
    Attention,
    Block,
    Decoder,
    Encoder,
    PixelFilter,
    SAPHNetwork,
    joined,
    patches,
)

REACH = TAPS // 2


def side_by_side(*convolutions: nn.Conv2d) -> nn.Conv2d:
    """One convolution with the outputs of all, which have one input and one kernel size."""
    side = convolutions[0].weight.shape[-1]
    outputs = sum(convolution.out_channels for convolution in convolutions)
    merged = nn.Conv2d(convolutions[0].in_channels, outputs, side, padding=side // 2)
    merged.weight = nn.Parameter(torch.cat([c.weight for c in convolutions]))
    merged.bias = nn.Parameter(torch.cat([_bias(c) for c in convolutions]))
    return merged


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias


class AttentionForm(nn.Module):
    """`Attention` with its mask given: (B, C, h, w) query, values, (B, 1, h, w) mask -> like the values."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.spread, self.gather, self.select = attention.spread, attention.gather, attention.select

    def forward(self, x: Tensor, v: Tensor, m1: Tensor) -> Tensor:
        x, v = x * m1, v * m1
        p = torch.softmax(self.spread(x), dim=1).flatten(2)
        e = exponentials(self.gather(x)).transpose(1, 2)
        m2 = torch.sigmoid(self.select(x.mean(dim=(2, 3), keepdim=True))).flatten(2)
        g = (v.flatten(2) @ e) / e.sum(dim=1, keepdim=True)
        return ((m2 * g) @ p).reshape(v.shape)


def exponentials(b: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, hw): exp(b - max b) / (hw)^(1/2), so that the sum is from (hw)^(-1/2) to (hw)^(1/2)."""
    places = b.shape[2] * b.shape[3]
    b = b.flatten(2)
    if isinstance(places, int):
        half_log: Tensor | float = 0.5 * math.log(places)
    else:  # a graph of every size computes it
        half_log = 0.5 * torch.log(torch.ones((), dtype=b.dtype) * places)
    return torch.exp(b - (b.amax(dim=2, keepdim=True) + half_log))


class ShiftedTaps(nn.Module):
    """Pixel-dependent filter (a): (B, C, h, w), V (B, 25, h, w) -> (B, C, h, w), tap by tap the channels."""

    def __init__(self, pixel_filter: PixelFilter) -> None:
        super().__init__()
        weight = pixel_filter.weights.weight  # (out, in, down, right) -> (out, right, down, in)
        self.weight = nn.Parameter(weight.permute(0, 3, 2, 1).flatten(1)[..., None, None])
        self.bias = pixel_filter.weights.bias

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        x = F.pad(x, (REACH, REACH, REACH, REACH))
        x = torch.cat([x[:, :, a : a + height] for a in range(TAPS)], dim=1)
        x = torch.cat([x[:, :, :, a : a + width] for a in range(TAPS)], dim=1)
        weighted = x.reshape(batch, TAPS * TAPS, channels, height, width) * v[:, :, None]
        return F.conv2d(weighted.flatten(1, 2), self.weight, self.bias)


Places = tuple[Tensor, Tensor, Tensor]
"""Of `sampling_places`: what a unit of tanh moves, and where the taps are, as parts of columns and of rows."""


def sampling_places(height: int, width: int, dtype: torch.dtype) -> Places:
    """(1, 2, 1, 1, 1), (1, 2, 25, 1, w), (1, 2, 25, h, 1): (right, down) in GridSample's coordinates.

    -1 and 1 are the map's edges, half a pixel outside of its outermost centres.
    """
    reach = torch.arange(TAPS, dtype=dtype) - REACH
    right = (2 * (torch.arange(width, dtype=dtype) + reach.repeat_interleave(TAPS)[:, None]) + 1) / width - 1
    down = (2 * (torch.arange(height, dtype=dtype) + reach.repeat(TAPS)[:, None]) + 1) / height - 1
    step = torch.ones(2, dtype=dtype) * (2 * MAX_OFFSET)
    step = torch.stack([step[0] / width, step[1] / height]).reshape(1, 2, 1, 1, 1)
    columns = torch.stack([right, torch.zeros_like(right)])[None, :, :, None, :]
    rows = torch.stack([torch.zeros_like(down), down])[None, ..., None]
    return step, columns, rows


class FixedPlaces(nn.Module):
    """`sampling_places` of a map whose size is known."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        for name, value in zip(["step", "columns", "rows"], sampling_places(height, width, torch.float64), strict=True):
            self.register_buffer(name, value)

    def forward(self, x: Tensor, shrink: int) -> Places:
        del x, shrink
        return self.get_buffer("step"), self.get_buffer("columns"), self.get_buffer("rows")


class DynamicPlaces(nn.Module):
    """The same, computed in the graph for a map `shrink` times smaller than x."""

    def forward(self, x: Tensor, shrink: int) -> Places:
        return sampling_places(x.shape[2] // shrink, x.shape[3] // shrink, x.dtype)


class SampledTaps(nn.Module):
    """Pixel-dependent filter (b): x, V and (B, 50, h, w) offsets before tanh, those to the right first."""

    def __init__(self, pixel_filter: PixelFilter) -> None:
        super().__init__()
        weight = pixel_filter.weights.weight  # (out, in, down, right) -> (out, in, right, down)
        self.weight = nn.Parameter(weight.transpose(2, 3).flatten(1)[..., None, None])
        self.bias = pixel_filter.weights.bias

    def forward(self, x: Tensor, v: Tensor, offsets: Tensor, places: Places) -> Tensor:
        batch, channels, height, width = x.shape
        taps = TAPS * TAPS
        step, columns, rows = places
        grid = torch.tanh(offsets).reshape(batch, 2, taps, height, width) * step + columns + rows
        grid = grid.permute(0, 2, 3, 4, 1).reshape(batch, taps * height, width, 2)
        x = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        weighted = x.reshape(batch, channels, taps, height, width) * v[:, None]
        return F.conv2d(weighted.flatten(1, 2), self.weight, self.bias)


def transposed_taps(convolution: nn.Conv2d, parts: int = 1) -> nn.Conv2d:
    """A convolution with 25 outputs for each tap, down first, made to give those to the right first.

    With `parts` 2 it has (down, right) for each tap, and gives right of every tap before down of every tap.
    """
    order = torch.arange(TAPS * TAPS * parts).reshape(TAPS, TAPS, parts).permute(2, 1, 0).flip(0).flatten()
    turned = copy.deepcopy(convolution)
    turned.weight = nn.Parameter(convolution.weight[order])
    turned.bias = nn.Parameter(_bias(convolution)[order])
    return turned


class BlockForm(nn.Module):
    """`Block`: x, a decoder's e or None, places of the taps -> like x."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.enter, self.leave = block.enter, block.leave
        self.self_attention = AttentionForm(block.self_attention)
        gates = [block.self_attention.mask, block.mix]
        if hasattr(block, "cross_attention"):
            self.cross_attention = AttentionForm(block.cross_attention)
            gates.append(block.cross_attention.mask)
        values = [transposed_taps(block.filter.adapt)]
        self.offsets = hasattr(block.filter, "offset")
        if self.offsets:
            values.append(transposed_taps(block.filter.offset, parts=2))
        self.heads = side_by_side(*gates, *values)
        self.sizes = [len(gates), *(convolution.out_channels for convolution in values)]
        self.filter: nn.Module = (SampledTaps if self.offsets else ShiftedTaps)(block.filter)

    def forward(self, x: Tensor, e: Tensor | None, places: Places | None) -> Tensor:
        h = F.relu(self.enter(x))
        gates, v, *offsets = torch.split(self.heads(h), self.sizes, dim=1)
        masks = torch.sigmoid(gates).chunk(self.sizes[0], dim=1)
        g = self.self_attention(h, h, masks[0])
        if e is not None:
            g = g + self.cross_attention(h, e, masks[2])
        filtered = self.filter(h, v, *offsets, places) if self.offsets else self.filter(h, v)
        out: Tensor = x + self.leave(filtered + masks[1] * (g - filtered))
        return out


class CrossLevelForm(nn.Module):
    """`Attention` between two levels, its mask made here."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.mask = attention.mask
        self.attention = AttentionForm(attention)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        out: Tensor = self.attention(x, v, torch.sigmoid(self.mask(x)))
        return out


class EncoderForm(nn.Module):
    """`Encoder`; `places` of the maps of its blocks."""

    def __init__(self, encoder: Encoder, places: nn.Module | None) -> None:
        super().__init__()
        self.stem, self.down_1, self.down_2 = encoder.stem, encoder.down_1, encoder.down_2
        self.blocks = nn.ModuleList(BlockForm(block) for block in encoder.blocks)  # type: ignore[arg-type]
        self.places = places

    def forward(self, x: Tensor) -> Tensor:
        places = None if self.places is None else self.places(x, 4)
        for conv in (self.stem, self.down_1, self.down_2):
            x = F.relu(conv(x))
        for block in self.blocks:
            x = block(x, None, places)
        return x


class DecoderForm(nn.Module):
    """`Decoder`."""

    def __init__(self, decoder: Decoder, places: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BlockForm(block) for block in decoder.blocks)  # type: ignore[arg-type]
        self.up_1, self.up_2, self.image = decoder.up_1, decoder.up_2, decoder.image
        self.places = places

    def forward(self, e: Tensor) -> Tensor:
        places = None if self.places is None else self.places(e, 1)
        x = e
        for block in self.blocks:
            x = block(x, e, places)
        out: Tensor = self.image(F.relu(self.up_2(F.relu(self.up_1(x)))))
        return out


class SAPHNForm(nn.Module):
    """The exact export form of a SAPHN: (1, 3, H, W) in the network's range -> (1, 3, H, W), not clamped.

    `size` is (H, W), or None for a form that takes every multiple of 8. `flip_channels` permutes the convolutions that
    read and write images, of every level, so that the form takes and gives the other channel order (exact).
    """

    encoder_1: EncoderForm
    encoder_2: EncoderForm
    encoder_3: EncoderForm
    decoder_1: DecoderForm
    decoder_2: DecoderForm
    decoder_3: DecoderForm

    def __init__(self, network: SAPHNetwork, size: tuple[int, int] | None, flip_channels: bool) -> None:
        super().__init__()
        network = copy.deepcopy(network).double().eval()

        def places(rows: int, columns: int) -> nn.Module | None:
            if not network.spec.offsets:
                return None
            return FixedPlaces(size[0] // rows // 4, size[1] // columns // 4) if size else DynamicPlaces()

        for k, cut in enumerate(LEVELS, start=1):
            encoder, decoder = network.get_submodule(f"encoder_{k}"), network.get_submodule(f"decoder_{k}")
            assert isinstance(encoder, Encoder)
            assert isinstance(decoder, Decoder)
            if flip_channels:
                reverse_channels([encoder.stem], [decoder.image])
            self.add_module(f"encoder_{k}", EncoderForm(encoder, places(*cut)))
            # Decoders see the patches of the next coarser level.
            self.add_module(f"decoder_{k}", DecoderForm(decoder, places(*LEVELS[max(k - 2, 0)])))
        self.cross_level_1 = CrossLevelForm(network.cross_level_1)
        self.cross_level_2 = CrossLevelForm(network.cross_level_2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the restored tensor and, for the exporter's checks, what encoder 3 made of the patches."""
        lowest = self.encoder_3(patches(x, *LEVELS[2]))
        f3 = joined(lowest, *LEVELS[2])
        r3 = joined(self.decoder_3(patches(f3, *LEVELS[1])), *LEVELS[1])
        f2 = joined(self.encoder_2(patches(x + r3, *LEVELS[1])), *LEVELS[1])
        f2 = f2 + self.cross_level_2(f2, f3)
        f1 = self.encoder_1(x + self.decoder_2(f2))
        f1 = f1 + self.cross_level_1(f1, f2)
        return self.decoder_1(f1), lowest
