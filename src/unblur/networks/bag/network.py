"""BAG: generator with blur-attention modules, and the critic it is trained against ("Blur-Attention: a boosting
mechanism for non-uniform blurred image restoration", arXiv 2008.08526).

Pixels are RGB in [-1, 1]; the clamp of the output belongs to the pixel contract, not to the network. Sizes, strides and
widths are not in the paper: docs/networks.md says which were chosen and why.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.core.errors import InputError

SMALLEST = 4
"""Shortest side: of a pixel at a quarter of it."""

EPS = 1e-5
"""Of every instance norm (torch's own)."""


@dataclass(frozen=True)
class BAGSpec:
    """Everything that fixes the shapes of a generator: `stem` channels at full size, twice and four times as many at
    a half and a quarter; `depth` modules of `layers` dense convolutions with `growth` channels each.
    """

    stem: int = 64
    depth: int = 4
    layers: int = 6
    growth: int = 72

    def __post_init__(self) -> None:
        for name in ("stem", "depth", "layers", "growth"):
            if getattr(self, name) < 1:
                raise InputError(f"BAG: {name} is {getattr(self, name)}; it must be at least 1.")

    @property
    def width(self) -> int:
        """Channels of the maps at a quarter of the frame's sides."""
        return 4 * self.stem

    def label(self) -> str:
        return f"bag-{self.depth}x{self.layers}-{self.stem}-{self.growth}"


def normalise(x: Tensor) -> Tensor:
    """IN: each channel to mean 0 and variance 1 over the picture it is of, when tested as when trained; no weights.

    (B, C, h, w) -> like x. A map of one pixel is its own mean, so 0 by the formula, which torch refuses to compute.
    """
    if x.shape[2] == 1 and x.shape[3] == 1:
        return torch.zeros_like(x)
    return F.instance_norm(x, eps=EPS)


class SpatialAttention(nn.Module):
    """SAU: one gate a pixel, A = sigmoid(conv7x7(cat(max_c F, mean_c F))); (B, C, h, w) -> A * F."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, f: Tensor) -> Tensor:
        pooled = torch.cat([torch.amax(f, dim=1, keepdim=True), torch.mean(f, dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(pooled)) * f


class BlurAttentionModule(nn.Module):
    """BAM: a dense block unit (DBU), then spatial attention (SAU); (B, width, h, w) -> same.

    DBU: y_i = ReLU(IN(conv3x3(f_i))), f_{i+1} = cat(f_i, y_i); then a seventh convolution, 1x1, back to `width`.
    """

    def __init__(self, spec: BAGSpec) -> None:
        super().__init__()
        inputs = [spec.width + k * spec.growth for k in range(spec.layers + 1)]
        self.dense = nn.ModuleList(nn.Conv2d(into, spec.growth, 3, padding=1) for into in inputs[:-1])
        self.transition = nn.Conv2d(inputs[-1], spec.width, 1)
        self.attention = SpatialAttention()

    def forward(self, u: Tensor) -> Tensor:
        f = u
        for conv in self.dense:
            f = torch.cat([f, F.relu(normalise(conv(f)))], dim=1)
        out: Tensor = self.attention(F.relu(normalise(self.transition(f))))
        return out


class Generator(nn.Module):
    """The generator: encoder to a quarter of the sides, `depth` modules in a multi-level residual, decoder.

    u_1 = x_0; y_k = BAM_k(u_k) + u_k; u_{k+1} = y_k + x_0; the decoder takes the last y.
    forward: (B, 3, H, W) RGB in [-1, 1] -> x + tanh(decoded), same shape, not clamped. H and W must be multiples of 4.
    Raises InputError for other sizes or channel counts.
    """

    def __init__(self, spec: BAGSpec) -> None:
        super().__init__()
        self.spec = spec
        full, half, quarter = spec.stem, 2 * spec.stem, spec.width
        self.encoder = nn.ModuleList(
            [
                nn.Conv2d(3, full, 7),  # behind a reflected border of 3
                nn.Conv2d(full, half, 3, stride=2, padding=1),
                nn.Conv2d(half, quarter, 3, stride=2, padding=1),
            ]
        )
        self.blocks = nn.ModuleList(BlurAttentionModule(spec) for _ in range(spec.depth))
        self.decoder = nn.ModuleList(
            [
                nn.ConvTranspose2d(quarter, half, 3, stride=2, padding=1, output_padding=1),
                nn.ConvTranspose2d(half, full, 3, stride=2, padding=1, output_padding=1),
                nn.ConvTranspose2d(full, 3, 7, padding=3),
            ]
        )

    def encode(self, x: Tensor) -> Tensor:
        """x_0, (B, width, H/4, W/4)."""
        y = F.pad(x, (3, 3, 3, 3), mode="reflect")
        for conv in self.encoder:
            y = F.relu(normalise(conv(y)))
        return y

    def first_block(self, x: Tensor) -> Tensor:
        """y_1, (B, width, H/4, W/4)."""
        u = self.encode(x)
        y: Tensor = self.blocks[0](u) + u
        return y

    def forward(self, x: Tensor) -> Tensor:
        check_size(x)
        first = self.encode(x)
        u = y = first
        for block in self.blocks:
            y = block(u) + u
            u = y + first
        for conv in self.decoder[:-1]:
            y = F.relu(normalise(conv(y)))
        return x + torch.tanh(self.decoder[-1](y))


class Critic(nn.Module):
    """PatchGAN of 70x70 pixels (pix2pix): conv4x4 with LeakyReLU(0.2), IN in the middle; no sigmoid, for it is a
    critic of WGAN. (B, 3, H, W) RGB in [-1, 1] -> (B, 1, h, w), high where a patch looks sharp.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = itertools.pairwise([3, width, 2 * width, 4 * width, 8 * width, 1])
        strides = (2, 2, 2, 1, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(into, out, 4, stride, padding=2) for (into, out), stride in zip(channels, strides, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.layers[0](x), 0.2)
        for layer in self.layers[1:-1]:
            y = F.leaky_relu(normalise(layer(y)), 0.2)
        out: Tensor = self.layers[-1](y)
        return out


def check_size(x: Tensor) -> None:
    """Raise InputError for a batch that the generator does not take."""
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % 4 or x.shape[3] % 4 or min(x.shape[2:]) < SMALLEST:
        raise InputError(
            f"BAG takes (B, 3, H, W) with H and W multiples of 4, got {tuple(x.shape)}; "
            "pad right and bottom and crop the result, as PixelContract does."
        )
