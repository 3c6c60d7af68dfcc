"""BA-Net v1: the blur-aware attention network as first published (Tsai et al., arXiv 2101.07518v1, January 2021).

The text gives no widths. These are of the code that its authors published five months later (docs/networks.md);
parameter names are those of its checkpoints. What v1 shares with BANet is BANet's code here. Pixels are BGR in
[-0.5, 0.5]; the clamp belongs to the pixel contract.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from unblur.core.errors import InputError
from unblur.networks.banet.network import BlurAwareAttention, BlurAwareModule, BlurAwareNetwork


@dataclass(frozen=True)
class BANetV1Spec:
    """Everything that fixes the shapes: blocks, and channels at full resolution, after the encoder and of the blocks.

    The first block widens `entry_width` to `width`, the decoder's deconvolution narrows it again.
    """

    depth: int = 8
    stem_width: int = 64
    entry_width: int = 128
    width: int = 256

    def __post_init__(self) -> None:
        for name in ("depth", "stem_width", "entry_width", "width"):
            if getattr(self, name) < 1:
                raise InputError(f"BA-Net v1: {name} is {getattr(self, name)}; it must be at least 1.")
        if self.width % 2:
            raise InputError(f"BA-Net v1: width is {self.width}; it must be even (branches have width/2 channels).")

    def label(self) -> str:
        return f"banet_v1-{self.depth}x{self.width}"


class BANetV1(BlurAwareNetwork):
    """BANet's wiring with three differences (section 3.2 of v1, and its code):

    * strips of 3, 5 and 7 bins have a convolution for each direction;
    * the strips are fused by a 3x3 convolution, to width/2 channels;
    * the first block begins with a 1x1 convolution, whose output is also what its residual adds.
    """

    def __init__(self, spec: BANetV1Spec) -> None:
        def block(k: int) -> BlurAwareModule:
            attention = BlurAwareAttention(spec.width, spec.width // 2, fuse_kernel=3, shared=False)
            shortcut = nn.Conv2d(spec.entry_width, spec.width, 1, bias=False) if k == 0 else None
            return BlurAwareModule(spec.width, attention, shortcut)

        blocks = map(block, range(spec.depth))
        super().__init__(spec.stem_width, spec.entry_width, spec.width, spec.entry_width, blocks)
        self.spec = spec
