"""SGENet: two U-Nets in a row whose skips are enhanced by what each scale restores (dual-stage, semantics-guided).

Pixels are RGB in [0, 1]. Scaffolding, resizes and biases are not in the paper; they are MPRNet's, which its blocks come
from (docs/networks.md). All convolutions are bias-free, and one PReLU slope serves the network but for CSAM's own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.core.errors import InputError

DILATIONS = (1, 2, 5)
"""Of a residual dilated module: the rates of hybrid dilated convolution, which leave no holes."""

REDUCTION, SQUEEZE = 4, 8
"""Channels over the inner channels of channel attention, and of CSAM's perceptrons."""


@dataclass(frozen=True)
class SGENetSpec:
    """Everything that fixes the shapes: channels of the scales, finest first, and residual dilated modules of each."""

    widths: tuple[int, ...] = (96, 120, 144)
    modules: int = 2

    def __post_init__(self) -> None:
        if self.modules < 1 or len(self.widths) not in (2, 3):
            raise InputError(f"SGENet: {self.modules} modules on {len(self.widths)} scales; at least 1, on 2 or 3.")
        if wrong := [width for width in self.widths if width < 3 or width % 3]:
            raise InputError(f"SGENet: a width is {wrong[0]}; widths are multiples of 3 (CSAM mixes three parts).")

    def label(self) -> str:
        return f"sgenet-{self.modules}x{'-'.join(map(str, self.widths))}"


def conv(into: int, out: int, kernel: int = 3, dilation: int = 1) -> nn.Conv2d:
    """Bias-free, of the same size."""
    return nn.Conv2d(into, out, kernel, padding=kernel // 2 * dilation, dilation=dilation, bias=False)


def resize(x: Tensor, factor: float) -> Tensor:
    """Bilinear, pixel centres at halves."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class Shallow(nn.Module):
    """Features of the picture: conv3x3, then a channel attention block (CAB): y + w(y) * y, y its two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv(3, width)
        self.body = nn.ModuleList([conv(width, width), conv(width, width)])
        inner = max(1, width // REDUCTION)
        self.squeeze, self.excite = conv(width, inner, 1), conv(inner, width, 1)

    def forward(self, x: Tensor, act: nn.Module) -> Tensor:
        x = self.conv(x)
        y = self.body[1](act(self.body[0](x)))
        weight = torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean(dim=(2, 3), keepdim=True)))))
        out: Tensor = x + y * weight
        return out


class ResidualDilated(nn.Module):
    """RDM(x) = x + conv3x3(act(conv1x1(cat_d(conv3x3_d(act(conv3x3(x))))))), d of DILATIONS: 48 C^2 weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, width)
        self.dilated = nn.ModuleList(conv(width, width, dilation=d) for d in DILATIONS)
        self.fuse = conv(len(DILATIONS) * width, width, 1)
        self.last = conv(width, width)

    def forward(self, x: Tensor, act: nn.Module) -> Tensor:
        y = act(self.first(x))
        y = act(self.fuse(torch.cat([branch(y) for branch in self.dilated], dim=1)))
        out: Tensor = x + self.last(y)
        return out


class Enhance(nn.Module):
    """CEM of scale s: a skip that knows what the scale restores.

    F_e = ReLU(conv(cat(F_s, up2 F_{s+1}))); R = conv(F_e), 3 channels; I_s = D_s + R, D_s the input at this scale;
    A = sigmoid(conv(I_s)); returns A * conv(cat(conv(R), F_e)) and I_s, which the loss supervises.
    """

    def __init__(self, width: int, coarser: int) -> None:
        super().__init__()
        self.encode = conv(width + coarser, width)
        self.restore = conv(width, 3)
        self.lift = conv(3, width)
        self.gate_conv = conv(3, width)
        self.fuse = conv(2 * width, width)

    def forward(self, fine: Tensor, coarse: Tensor, degraded: Tensor) -> tuple[Tensor, Tensor]:
        e = F.relu(self.encode(torch.cat([fine, resize(coarse, 2)], dim=1)))
        r = self.restore(e)
        image = degraded + r
        return torch.sigmoid(self.gate_conv(image)) * self.fuse(torch.cat([self.lift(r), e], dim=1)), image


class Select(nn.Module):
    """CSAM: F_1 + F_2 + F_3 each weighted by channel: w = GAP(sum F), its thirds through three perceptrons, softmax
    over the three in every channel.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // SQUEEZE)
        self.squeeze = nn.ModuleList(conv(width // 3, inner, 1) for _ in range(3))
        self.acts = nn.ModuleList(nn.PReLU() for _ in range(3))
        self.excite = nn.ModuleList(conv(inner, width, 1) for _ in range(3))

    def weights(self, features: list[Tensor]) -> Tensor:
        """(B, C, 3, 1): of each channel for each of the three, 1 together."""
        one, two, three = features
        thirds = (one + two + three).mean(dim=(2, 3), keepdim=True).chunk(3, dim=1)
        parts = zip(self.excite, self.acts, self.squeeze, thirds, strict=True)
        return torch.cat([excite(act(squeeze(third))) for excite, act, squeeze, third in parts], dim=2).softmax(dim=2)

    def forward(self, features: list[Tensor]) -> Tensor:
        weights = self.weights(features)
        total: Tensor = sum(f * weights[:, :, i : i + 1] for i, f in enumerate(features))  # type: ignore[assignment]
        return total


class Supervised(nn.Module):
    """SAM of MPRNet: the first stage's picture I = conv(x) + input gates what goes on: x + conv(x) * sigmoid(conv(I)).

    1x1 convolutions. Returns features and I.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = conv(width, width, 1)
        self.restore = conv(width, 3, 1)
        self.gate_conv = conv(3, width, 1)

    def forward(self, x: Tensor, degraded: Tensor) -> tuple[Tensor, Tensor]:
        image = self.restore(x) + degraded
        return x + self.features(x) * torch.sigmoid(self.gate_conv(image)), image


@dataclass(frozen=True)
class Maps:
    """Of a stage, finest first: encoder maps, decoder maps, and the pictures that its skips restore."""

    encoded: list[Tensor]
    decoded: list[Tensor]
    images: list[Tensor]


class Stage(nn.Module):
    """One U-Net: residual dilated modules at each scale, CEM on each skip and, in the second stage, CSAM behind each
    scale of the encoder.
    """

    def __init__(self, spec: SGENetSpec, selects: bool) -> None:
        super().__init__()
        widths = spec.widths
        pairs = list(itertools.pairwise(widths))

        def modules() -> nn.ModuleList:
            return nn.ModuleList(nn.ModuleList(ResidualDilated(width) for _ in range(spec.modules)) for width in widths)

        self.encoder, self.decoder = modules(), modules()
        self.down = nn.ModuleList(conv(fine, coarse, 1) for fine, coarse in pairs)
        self.up = nn.ModuleList(conv(coarse, fine, 1) for fine, coarse in pairs)
        self.enhance = nn.ModuleList(Enhance(fine, coarse) for fine, coarse in pairs)
        self.select = nn.ModuleList(Select(width) for width in widths) if selects else nn.ModuleList()

    def forward(self, f: Tensor, degraded: list[Tensor], act: nn.Module, before: Maps | None = None) -> Maps:
        """`f`: features (B, widths[0], H, W); `degraded`: the input at each scale that has a skip, finest first;
        `before`: the first stage's maps, for CSAM.
        """
        encoded: list[Tensor] = []
        for s, modules in enumerate(self.encoder):
            f = _through(modules, self.down[s - 1](resize(f, 0.5)) if s else f, act)
            if before is not None:
                f = self.select[s]([f, before.encoded[s], before.decoded[s]])
            encoded.append(f)
        f = _through(self.decoder[-1], f, act)
        decoded = [f]
        images: list[Tensor] = []
        for s in reversed(range(len(self.up))):
            skip, image = self.enhance[s](encoded[s], encoded[s + 1], degraded[s])
            f = _through(self.decoder[s], self.up[s](resize(f, 2)) + skip, act)
            decoded.insert(0, f)
            images.insert(0, image)
        return Maps(encoded, decoded, images)


def _through(modules: nn.Module, f: Tensor, act: nn.Module) -> Tensor:
    for module in modules.children():
        f = module(f, act)
    return f


class SGENet(nn.Module):
    """Stage 1, SAM, stage 2, tail.

    forward: (B, 3, H, W) RGB in [0, 1] -> (B, 3, H, W), not clamped. H and W must be multiples of 4.
    Raises InputError for other sizes or channel counts.
    """

    def __init__(self, spec: SGENetSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.widths[0]
        self.act = nn.PReLU()
        self.shallow_1, self.shallow_2 = Shallow(width), Shallow(width)
        self.stage_1, self.stage_2 = Stage(spec, selects=False), Stage(spec, selects=True)
        self.sam = Supervised(width)
        self.concat = conv(2 * width, width)
        self.tail = conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.pictures(x)[1][0]

    def pictures(self, x: Tensor) -> list[list[Tensor]]:
        """What the loss supervises, for each stage: its picture, then those of its skips, finest first."""
        degraded = self.scaled(x)
        first = self.stage_1(self.shallow_1(x, self.act), degraded, self.act)
        features, image = self.sam(first.decoded[0], x)
        start = self.concat(torch.cat([self.shallow_2(x, self.act), features], dim=1))
        second = self.stage_2(start, degraded, self.act, first)
        return [[image, *first.images], [self.tail(second.decoded[0]) + x, *second.images]]

    def scaled(self, x: Tensor) -> list[Tensor]:
        """The picture at each scale that has a skip: full, half, ..."""
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % 4 or x.shape[3] % 4:
            raise InputError(
                f"SGENet takes (B, 3, H, W) with H and W multiples of 4, got {tuple(x.shape)}; "
                "pad right and bottom and crop the result (PixelContract does both)."
            )
        pictures = [x]
        for _ in self.spec.widths[2:]:
            pictures.append(resize(pictures[-1], 0.5))
        return pictures

    def first_block(self, x: Tensor) -> Tensor:
        """Shallow features of the first stage, (B, widths[0], H, W)."""
        out: Tensor = self.shallow_1(x, self.act)
        return out
