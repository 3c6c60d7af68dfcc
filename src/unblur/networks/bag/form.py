"""BAG written as a compiler wants it: the same function, with what an instance norm makes of it.

* A bias in front of an instance norm is taken away again by its mean: dropped.
* A constant added to the frame is taken away too, for the first convolution reads a reflected border, not zeros. So the
  frame's mean goes before 16 bits round what is left of a dark or even picture, and not behind.
* IN(cat(a, b)) = cat(IN(a), IN(b)): each new slice is normalised once, before it is concatenated, and never again.
* The last transposed convolution has stride 1: a convolution with its kernel turned about.

Statistics of an instance norm stay FP32 in every precision: graphs/rewrites/casting.py keeps sums over a map.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.networks.bag.network import BlurAttentionModule, Generator, normalise
from unblur.networks.form import reverse_channels


class Normalised(nn.Module):
    """ReLU(IN(conv(x))), without the convolution's bias; a module, so that the graph's nodes bear its name.

    A 1x1 convolution keeps its own: without one it is a matrix product to the compiler, with copies around it.
    """

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        if conv.kernel_size != (1, 1):
            conv.bias = None
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(normalise(self.conv(x)))


class ModuleForm(nn.Module):
    """`BlurAttentionModule`; (1, width, h, w) -> same."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        assert isinstance(module, BlurAttentionModule)
        self.dense = nn.ModuleList(Normalised(conv) for conv in module.dense)
        self.transition = Normalised(module.transition)
        self.attention = module.attention

    def forward(self, u: Tensor) -> Tensor:
        f = u
        for conv in self.dense:
            f = torch.cat([f, conv(f)], dim=1)
        out: Tensor = self.attention(self.transition(f))
        return out


class BAGForm(nn.Module):
    """The exact export form of a BAG: (1, 3, H, W) in the network's range -> (1, 3, H, W), not clamped.

    It takes every size that the network takes, whatever `size` it is asked for. `flip_channels` permutes the first and
    the last convolution so that the form takes and gives the other channel order (exact).
    """

    def __init__(self, network: Generator, size: tuple[int, int] | None, flip_channels: bool) -> None:
        del size
        super().__init__()
        network = copy.deepcopy(network).double()
        self.encoder = nn.ModuleList(Normalised(conv) for conv in network.encoder)
        self.blocks = nn.ModuleList(ModuleForm(block) for block in network.blocks)
        last = turned(network.decoder[-1])
        self.decoder = nn.ModuleList([*(Normalised(conv) for conv in network.decoder[:-1]), last])
        if flip_channels:
            first = network.encoder[0]
            assert isinstance(first, nn.Conv2d)
            reverse_channels([first], [last])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the restored tensor and, for the exporter's checks, the output of the first module."""
        y = F.pad(x - x.mean(dim=(2, 3), keepdim=True), (3, 3, 3, 3), mode="reflect")
        for conv in self.encoder:
            y = conv(y)
        first = u = y
        probe: Tensor | None = None
        for block in self.blocks:
            y = block(u) + u
            probe = y if probe is None else probe
            u = y + first
        for conv in self.decoder:
            y = conv(y)
        assert probe is not None
        return x + torch.tanh(y), probe


def turned(conv: nn.Module) -> nn.Conv2d:
    """A transposed convolution of stride 1 as a convolution: y_i = sum_k w_k x_{i + p - k}, so k counts backwards."""
    assert isinstance(conv, nn.ConvTranspose2d)
    kernel, pad = conv.kernel_size[0], int(conv.padding[0])
    made = nn.Conv2d(conv.in_channels, conv.out_channels, kernel, padding=kernel - 1 - pad, dtype=conv.weight.dtype)
    made.weight.data = conv.weight.data.flip(2, 3).transpose(0, 1).contiguous()
    made.bias = conv.bias
    return made
