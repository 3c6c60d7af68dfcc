"""BANet and BANet+: Blur-aware Attention Networks (Tsai et al., IEEE TIP 2022).

Module and parameter names are those of the published checkpoints, so that `load_state_dict(strict=True)`
holds. Pixels are BGR in [-0.5, 0.5]; the clamp of the output belongs to the pixel contract, not to the network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.core.errors import InputError

STRIP_BINS = (1, 3, 5, 7)
"""Widths of the strips in multi-kernel strip pooling (paper section III-B)."""

DILATIONS = (1, 3, 5)
NEGATIVE_SLOPE = 0.2


@dataclass(frozen=True)
class BANetSpec:
    """Everything that fixes the shapes of a BANet: number of blocks and channel counts.

    `fuse_width` is the number of channels after `fuse_conv`: 64 (= mid) in BANet, but 192 (= width) in BANet+.
    """

    depth: int = 10
    stem_width: int = 64
    width: int = 128
    fuse_width: int = 64

    def __post_init__(self) -> None:
        for name in ("depth", "stem_width", "width", "fuse_width"):
            if getattr(self, name) < 1:
                raise InputError(f"BANet: {name} is {getattr(self, name)}; it must be at least 1.")
        if self.width % 2:
            raise InputError(f"BANet: width is {self.width}; it must be even (branches have width/2 channels).")

    @property
    def mid(self) -> int:
        """Channels of one strip and of one dilated branch."""
        return self.width // 2

    def label(self) -> str:
        return f"banet-{self.depth}x{self.width}"


def nearest_index(length: int, bins: int, device: torch.device | None = None) -> Tensor:
    """(length,) int64: which of `bins` each place reads, floor(j * float32(bins / length)) in float32.

    For 85, 51 and 39 of the lengths to 2048 (bins 3, 5, 7; e.g. 123, 205, 246, 287) this is not bins*j // length.
    """
    scale = torch.tensor(bins, dtype=torch.float32) / torch.tensor(length, dtype=torch.float32)
    index = torch.floor(torch.arange(length, dtype=torch.float32) * scale).long().clamp(max=bins - 1)
    return index.to(device)


def stretch(strip: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Nearest upsampling of a (B, C, h, w) strip to `size`, with the float32 index in every precision.

    torch 2.13 computes the index of float64 maps in double on the CPU, and in float for small ones: a float64
    reference would then be another network than the float32 one at the lengths above.
    """
    if strip.dtype == torch.float64:
        rows = nearest_index(size[0], strip.shape[2], strip.device)
        columns = nearest_index(size[1], strip.shape[3], strip.device)
        return strip[:, :, rows][..., columns]
    return F.interpolate(strip, size, mode="nearest")


class BlurAwareAttention(nn.Module):
    """Multi-kernel strip pooling and attention refinement (paper eqs. 2-5); (B, width, h, w) -> same.

    `shared`: one convolution for the tall and the wide strip of 3, 5 and 7 bins. BA-Net v1 has one for each.
    """

    def __init__(self, width: int, fuse_width: int, fuse_kernel: int = 1, shared: bool = True) -> None:
        super().__init__()
        mid = width // 2
        self.shared = shared
        self.conv_1_h = nn.Conv2d(width, mid, (3, 1), padding=(1, 0), bias=False)
        self.conv_1_w = nn.Conv2d(width, mid, (1, 3), padding=(0, 1), bias=False)
        for bins in STRIP_BINS[1:]:
            for name in [f"conv_{bins}"] if shared else [f"conv_{bins}_h", f"conv_{bins}_w"]:
                self.add_module(name, nn.Conv2d(width, mid, 3, padding=1, bias=False))
        self.fuse_conv = nn.Conv2d(4 * mid, fuse_width, fuse_kernel, padding=fuse_kernel // 2, bias=False)
        self.conv_final = nn.Conv2d(fuse_width, width, 1)
        self.mask_conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.mask_conv_2 = nn.Conv2d(width, width, 3, padding=1)

    def strip_convs(self, bins: int) -> tuple[nn.Conv2d, nn.Conv2d]:
        """Convolutions of the (H, bins) and of the (bins, W) strip."""
        ends = ("", "") if self.shared and bins > 1 else ("_h", "_w")
        tall, wide = (getattr(self, f"conv_{bins}{end}") for end in ends)
        return tall, wide

    def forward(self, f: Tensor) -> Tensor:
        size = f.shape[-2:]
        levels = []
        for bins in STRIP_BINS:
            conv_h, conv_w = self.strip_convs(bins)
            tall = conv_h(F.adaptive_avg_pool2d(f, (size[0], bins)))
            wide = conv_w(F.adaptive_avg_pool2d(f, (bins, size[1])))
            levels.append(stretch(tall, size) + stretch(wide, size))
        z = F.relu(self.fuse_conv(torch.cat(levels, dim=1)))
        o = f * torch.sigmoid(self.conv_final(z))
        return o * torch.sigmoid(self.mask_conv_2(F.relu(self.mask_conv_1(o))))


class BlurAwareModule(nn.Module):
    """BAM: attention beside two cascaded groups of parallel dilated convolutions (paper fig. 3)."""

    def __init__(self, width: int, attention: BlurAwareAttention, shortcut: nn.Conv2d | None = None) -> None:
        super().__init__()
        mid = width // 2
        self.shortcut_conv = shortcut  # of v1's first block: its output takes x's place
        self.input_conv = nn.Conv2d(width, width, 3, padding=1)
        self.BA = attention
        for suffix in ("", "_2"):
            for d in DILATIONS:
                self.add_module(f"content_conv_d{d}{suffix}", nn.Conv2d(width, mid, 3, padding=d, dilation=d))
        self.fuse_conv_1 = nn.Conv2d(3 * mid, width, 3, padding=1)
        self.final_conv = nn.Conv2d(3 * mid + width, width, 3, padding=1)

    def dilated_convs(self, suffix: str) -> list[nn.Conv2d]:
        """The parallel branches of the first ("") or second ("_2") group, in the order of concatenation."""
        return [self.get_submodule(f"content_conv_d{d}{suffix}") for d in DILATIONS]  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.shortcut_conv is None else self.shortcut_conv(x)
        f = F.leaky_relu(self.input_conv(x), NEGATIVE_SLOPE)
        p = torch.cat([conv(f) for conv in self.dilated_convs("")], dim=1)
        t = F.leaky_relu(self.fuse_conv_1(p), NEGATIVE_SLOPE)
        p = torch.cat([conv(t) for conv in self.dilated_convs("_2")], dim=1)
        y = self.final_conv(torch.cat([p, self.BA(f)], dim=1))
        return F.leaky_relu(y + x, NEGATIVE_SLOPE)


class BlurAwareNetwork(nn.Module):
    """Encoder, blur-aware modules at half resolution, decoder, global residual: BANet, and BA-Net v1.

    Channels: `stem` at full resolution, `entry` after the encoder, `width` of the blocks, `up` after the deconvolution.

    forward: (B, 3, H, W) BGR in [-0.5, 0.5] -> (B, 3, H, W), not clamped. H and W must be even: the decoder
    doubles H/2 and is concatenated with the stem. Raises InputError for odd sizes or another channel count.
    """

    def __init__(self, stem: int, entry: int, width: int, up: int, blocks: Iterable[BlurAwareModule]) -> None:
        super().__init__()

        def activated(conv: nn.Module) -> nn.Sequential:
            return nn.Sequential(conv, nn.LeakyReLU(NEGATIVE_SLOPE))

        self.en_layer1 = activated(nn.Conv2d(3, stem, 3, padding=1))
        self.en_layer2 = activated(nn.Conv2d(stem, entry, 3, stride=2, padding=1))
        self.depth = 0
        for self.depth, block in enumerate(blocks, start=1):
            self.add_module(f"BAM_{self.depth}", block)
        self.de_layer1 = activated(nn.ConvTranspose2d(width, up, 4, stride=2, padding=1))
        self.de_layer2 = activated(nn.Conv2d(up + stem, stem, 3, padding=1))
        self.de_layer3 = nn.Sequential(nn.Conv2d(stem, 3, 3, padding=1))

    @property
    def blocks(self) -> list[BlurAwareModule]:
        """BAM_1 .. BAM_depth, in order."""
        return [self.get_submodule(f"BAM_{k}") for k in range(1, self.depth + 1)]  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % 2 or x.shape[3] % 2:
            raise InputError(
                f"{type(self).__name__} takes (B, 3, H, W) with even H and W, got {tuple(x.shape)}; "
                "pad right and bottom to even sizes and crop the result (PixelContract does both)."
            )
        res = self.en_layer1(x)
        y = self.en_layer2(res)
        for block in self.blocks:
            y = block(y)
        y = self.de_layer2(torch.cat([self.de_layer1(y), res], dim=1))
        out: Tensor = self.de_layer3(y) + x
        return out

    def first_block(self, x: Tensor) -> Tensor:
        """Output of BAM_1, (B, width, H/2, W/2): all that depends on the size has happened once by then."""
        y: Tensor = self.blocks[0](self.en_layer2(self.en_layer1(x)))
        return y


class BANet(BlurAwareNetwork):
    """BANet, BANet+ and the stacks of other depths: all blocks alike."""

    def __init__(self, spec: BANetSpec) -> None:
        blocks = (
            BlurAwareModule(spec.width, BlurAwareAttention(spec.width, spec.fuse_width)) for _ in range(spec.depth)
        )
        super().__init__(spec.stem_width, spec.width, spec.width, spec.stem_width, blocks)
        self.spec = spec
