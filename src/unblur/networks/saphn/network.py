"""SAPHN: Spatially-Attentive Patch-Hierarchical Network for adaptive motion deblurring (Suin et al., CVPR 2020).

No code was published. Equations are the paper's; where it is silent or contradicts itself, the choice and its reason
are in docs/networks.md. Pixels are RGB in [-0.5, 0.5]; the clamp belongs to the pixel contract.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.core.errors import InputError

LEVELS = ((1, 1), (2, 1), (2, 2))
"""Rows and columns of patches that the encoders of levels 1, 2 and 3 see."""

TAPS = 5
"""Side of the pixel-dependent filter (section 3.3)."""

MAX_OFFSET = 4.0
"""Farthest that a tap of variant (b) moves, in pixels of the map (the paper's Delta_max, not stated there)."""

MULTIPLE = 8
"""Two strides of 2 inside patches that are half a frame."""


@dataclass(frozen=True)
class SAPHNSpec:
    """Everything that fixes the shapes: channels at full, half and quarter resolution, blocks of each encoder and
    decoder, and whether the filter's taps move (variant b) or not (a).
    """

    offsets: bool = False
    stem_width: int = 32
    middle_width: int = 64
    width: int = 128
    blocks: int = 3

    def __post_init__(self) -> None:
        for name in ("stem_width", "middle_width", "width", "blocks"):
            if getattr(self, name) < 1:
                raise InputError(f"SAPHN: {name} is {getattr(self, name)}; it must be at least 1.")

    def label(self) -> str:
        """Name of a spec that is no preset: variant, blocks and width, such as "saphn_b-2x64"."""
        return f"saphn_{'b' if self.offsets else 'a'}-{self.blocks}x{self.width}"


def patches(x: Tensor, rows: int, columns: int) -> Tensor:
    """(B, C, H, W) -> (B rows columns, C, H / rows, W / columns): the patches of each frame, row by row."""
    batch, channels, height, width = x.shape
    cut = x.reshape(batch, channels, rows, height // rows, columns, width // columns)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch * rows * columns, channels, height // rows, width // columns)


def joined(x: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `patches`."""
    batch, channels, height, width = x.shape
    cut = x.reshape(batch // (rows * columns), rows, columns, channels, height, width)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(batch // (rows * columns), channels, rows * height, columns * width)


class Attention(nn.Module):
    """Global attention (eqs. 4-10): maps from a query x, values from v; (B, C, h, w) twice -> same.

    Self-attention has v = x, cross-attention a decoder's x and its encoder's v, cross-level attention a level's x and
    the v of the level below it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mask = nn.Conv2d(width, 1, 3, padding=1)
        self.spread = nn.Conv2d(width, width, 3, padding=1)
        self.gather = nn.Conv2d(width, width, 3, padding=1)
        self.select = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        m1 = torch.sigmoid(self.mask(x))
        x, v = x * m1, v * m1
        p = torch.softmax(self.spread(x), dim=1).flatten(2)  # over the C2 maps, at each place
        q = torch.softmax(self.gather(x).flatten(2), dim=2)  # over the places, for each map
        m2 = torch.sigmoid(self.select(x.mean(dim=(2, 3), keepdim=True))).flatten(2)
        y = (m2 * (v.flatten(2) @ q.transpose(1, 2))) @ p  # eq. 10
        return y.reshape(v.shape)


class PixelFilter(nn.Module):
    """Pixel-dependent filtering (eqs. 11-12): y_j = sum over taps k of V_jk W_k x(j + p_k + D_jk) + b.

    V is linear and starts at 1, D = MAX_OFFSET tanh(.) starts at 0, so that training begins at a plain convolution.
    Both are shared by all channels. Beyond the map x is 0; between pixels it is bilinear.
    """

    def __init__(self, width: int, offsets: bool) -> None:
        super().__init__()
        self.weights = nn.Conv2d(width, width, TAPS, padding=TAPS // 2)  # holds W and b
        self.adapt = nn.Conv2d(width, TAPS * TAPS, 3, padding=1)
        if offsets:
            self.offset = nn.Conv2d(width, 2 * TAPS * TAPS, 3, padding=1)
        self.begin_plain()

    def begin_plain(self) -> None:
        """V = 1 and D = 0 everywhere, in place: a plain convolution."""
        nn.init.zeros_(self.adapt.weight)
        nn.init.ones_(self.adapt.bias)  # type: ignore[arg-type]
        if hasattr(self, "offset"):
            nn.init.zeros_(self.offset.weight)
            nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        if hasattr(self, "offset"):
            seen = sampled(x, MAX_OFFSET * torch.tanh(self.offset(x)))
        else:
            seen = F.unfold(x, TAPS, padding=TAPS // 2).reshape(batch, channels, TAPS * TAPS, height, width)
        weighted = (seen * self.adapt(x)[:, None]).flatten(1, 2)
        return F.conv2d(weighted, self.weights.weight.flatten(1)[..., None, None], self.weights.bias)


def sampled(x: Tensor, offsets: Tensor) -> Tensor:
    """(B, C, h, w), (B, 2 taps, h, w) -> (B, C, taps, h, w): x at every tap of every place, moved by its offset.

    Offsets are (down, right) in pixels for one tap after the other, as in ONNX's DeformConv.
    """
    batch, channels, height, width = x.shape
    taps = offsets.shape[1] // 2

    def count(length: int) -> Tensor:
        return torch.arange(length, dtype=x.dtype, device=x.device)

    reach = count(TAPS) - TAPS // 2
    down, right = offsets.reshape(batch, taps, 2, height, width).unbind(2)
    row = down + count(height)[:, None] + reach.repeat_interleave(TAPS)[:, None, None]
    column = right + count(width) + reach.repeat(TAPS)[:, None, None]
    # align_corners=False: -1 and 1 are the map's edges, half a pixel outside of its outermost centres.
    grid = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], dim=-1)
    grid = grid.reshape(batch, taps * height, width, 2)
    values = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return values.reshape(batch, channels, taps, height, width)


class Block(nn.Module):
    """Residual block with the content-aware module (fig. 3) between its two convolutions.

    h = ReLU(conv x); g = SA(h), in a decoder + CA(h, e); m = sigmoid(conv h); x + conv(m g + (1 - m) PDF(h)).
    """

    def __init__(self, spec: SAPHNSpec, decodes: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(spec.width, spec.width, 3, padding=1)
        self.self_attention = Attention(spec.width)
        if decodes:
            self.cross_attention = Attention(spec.width)
        self.filter = PixelFilter(spec.width, spec.offsets)
        self.mix = nn.Conv2d(spec.width, 1, 3, padding=1)
        self.leave = nn.Conv2d(spec.width, spec.width, 3, padding=1)

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        h = F.relu(self.enter(x))
        g = self.self_attention(h, h)
        if e is not None:
            g = g + self.cross_attention(h, e)
        m = torch.sigmoid(self.mix(h))
        out: Tensor = x + self.leave(m * g + (1 - m) * self.filter(h))
        return out


class Encoder(nn.Module):
    """(B, 3, H, W) -> (B, width, H/4, W/4)."""

    def __init__(self, spec: SAPHNSpec) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, spec.stem_width, 3, padding=1)
        self.down_1 = nn.Conv2d(spec.stem_width, spec.middle_width, 3, stride=2, padding=1)
        self.down_2 = nn.Conv2d(spec.middle_width, spec.width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(spec, decodes=False) for _ in range(spec.blocks))

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.stem, self.down_1, self.down_2):
            x = F.relu(conv(x))
        for block in self.blocks:
            x = block(x)
        return x


class Decoder(nn.Module):
    """(B, width, H/4, W/4), its encoder's features -> (B, 3, H, W), an image."""

    def __init__(self, spec: SAPHNSpec) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(spec, decodes=True) for _ in range(spec.blocks))
        self.up_1 = nn.ConvTranspose2d(spec.width, spec.middle_width, 4, stride=2, padding=1)
        self.up_2 = nn.ConvTranspose2d(spec.middle_width, spec.stem_width, 4, stride=2, padding=1)
        self.image = nn.Conv2d(spec.stem_width, 3, 3, padding=1)

    def forward(self, e: Tensor) -> Tensor:
        x = e
        for block in self.blocks:
            x = block(x, e)
        out: Tensor = self.image(F.relu(self.up_2(F.relu(self.up_1(x)))))
        return out


class SAPHNetwork(nn.Module):
    """Three levels from four patches to the whole frame; each adds what it made to the next one's input.

    forward: (B, 3, H, W) RGB in [-0.5, 0.5] -> (B, 3, H, W), not clamped. Raises InputError where H or W is no
    multiple of 8.
    """

    def __init__(self, spec: SAPHNSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder_1, self.encoder_2, self.encoder_3 = (Encoder(spec) for _ in LEVELS)
        self.decoder_1, self.decoder_2, self.decoder_3 = (Decoder(spec) for _ in LEVELS)
        self.cross_level_1, self.cross_level_2 = Attention(spec.width), Attention(spec.width)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % MULTIPLE or x.shape[3] % MULTIPLE:
            raise InputError(
                f"SAPHN takes (B, 3, H, W) with H and W multiples of {MULTIPLE}, got {tuple(x.shape)}; "
                "pad right and bottom and crop the result (PixelContract does both)."
            )
        f3 = joined(self.lowest_level(x), *LEVELS[2])
        r3 = joined(self.decoder_3(patches(f3, *LEVELS[1])), *LEVELS[1])
        f2 = joined(self.encoder_2(patches(x + r3, *LEVELS[1])), *LEVELS[1])
        f2 = f2 + self.cross_level_2(f2, f3)
        f1 = self.encoder_1(x + self.decoder_2(f2))
        f1 = f1 + self.cross_level_1(f1, f2)
        out: Tensor = self.decoder_1(f1)
        return out

    def lowest_level(self, x: Tensor) -> Tensor:
        """What encoder 3 makes of the four patches, (4 B, width, H/8, W/8)."""
        out: Tensor = self.encoder_3(patches(x, *LEVELS[2]))
        return out
