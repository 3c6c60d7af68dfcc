"""SGENet written as a compiler wants it: the same function, with its resizes in the convolutions beside them.

* Bilinear halving of even sides is the mean of 2x2 pixels: with the 1x1 convolution behind it, one convolution 2x2 of
  stride 2 with a quarter of the weights at each tap. The input's own halves are average pooling.
* A 1x1 convolution commutes with bilinear doubling, whose weights sum to 1 (and there is no bias): it runs below the
  resize, on a quarter of the pixels.
* PReLU with one slope is LeakyReLU.
* Only the tail's picture leaves. Those of SAM and CEM stay as far as features come of them.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unblur.networks.form import reverse_channels
from unblur.networks.sgenet.network import Maps, SGENet, Stage, resize


class Doubled(nn.Module):
    """A 1x1 convolution, then bilinear doubling."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return resize(self.conv(x), 2)


class StageForm(nn.Module):
    """`Stage` with the resizes in or below the convolutions."""

    def __init__(self, stage: Stage, act: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = stage.encoder, stage.decoder
        self.enhance, self.select = stage.enhance, stage.select
        self.up = nn.ModuleList(Doubled(conv) for conv in stage.up)
        self.down = nn.ModuleList(pooling(conv) for conv in stage.down)
        self.act = act

    def forward(self, f: Tensor, degraded: list[Tensor], before: Maps | None = None) -> Maps:
        encoded: list[Tensor] = []
        for s, modules in enumerate(self.encoder):
            f = self._through(modules, self.down[s - 1](f) if s else f)
            if before is not None:
                f = self.select[s]([f, before.encoded[s], before.decoded[s]])
            encoded.append(f)
        f = self._through(self.decoder[-1], f)
        decoded = [f]
        for s in reversed(range(len(self.up))):
            skip, _ = self.enhance[s](encoded[s], encoded[s + 1], degraded[s])
            f = self._through(self.decoder[s], self.up[s](f) + skip)
            decoded.insert(0, f)
        return Maps(encoded, decoded, [])

    def _through(self, modules: nn.Module, f: Tensor) -> Tensor:
        for module in modules.children():
            f = module(f, self.act)
        return f


class SGENetForm(nn.Module):
    """The exact export form of an SGENet: (1, 3, H, W) in the network's range -> (1, 3, H, W), not clamped.

    It takes every size that the network takes, whatever `size` it is asked for. `flip_channels` permutes what reads and
    writes pictures so that the form takes and gives the other channel order (exact).
    """

    def __init__(self, network: SGENet, size: tuple[int, int] | None, flip_channels: bool) -> None:
        del size
        super().__init__()
        network = copy.deepcopy(network).double()
        self.scales = len(network.spec.widths) - 1
        if flip_channels:
            reads = pictures(network, "conv", "lift", "gate_conv")
            reverse_channels(reads, pictures(network, "restore", "tail"))
        for select in network.stage_2.select.children():
            select.acts = nn.ModuleList(leaky(act) for act in select.get_submodule("acts").children())
        self.act = leaky(network.act)
        self.shallow_1, self.shallow_2 = network.shallow_1, network.shallow_2
        self.stage_1, self.stage_2 = StageForm(network.stage_1, self.act), StageForm(network.stage_2, self.act)
        self.sam, self.concat, self.tail = network.sam, network.concat, network.tail

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the restored tensor and, for the exporter's checks, the first stage's shallow features."""
        degraded = [x]
        for _ in range(self.scales - 1):
            degraded.append(F.avg_pool2d(degraded[-1], 2))
        probe = self.shallow_1(x, self.act)
        first = self.stage_1(probe, degraded)
        features, _ = self.sam(first.decoded[0], x)
        start = self.concat(torch.cat([self.shallow_2(x, self.act), features], dim=1))
        second = self.stage_2(start, degraded, first)
        return self.tail(second.decoded[0]) + x, probe


def leaky(act: nn.Module) -> nn.LeakyReLU:
    assert isinstance(act, nn.PReLU)
    return nn.LeakyReLU(act.weight.item())


def pooling(conv: nn.Module) -> nn.Conv2d:
    """Bilinear halving and a 1x1 convolution as one, 2x2 with stride 2."""
    assert isinstance(conv, nn.Conv2d)
    made = nn.Conv2d(conv.in_channels, conv.out_channels, 2, stride=2, bias=False, dtype=conv.weight.dtype)
    made.weight.data = (conv.weight.data / 4).expand(-1, -1, 2, 2).contiguous()
    return made


def pictures(network: SGENet, *names: str) -> list[nn.Conv2d]:
    """The convolutions of these names, which read or write a picture."""
    found = [(name.rpartition(".")[2], module) for name, module in network.named_modules()]
    return [module for name, module in found if name in names and isinstance(module, nn.Conv2d)]
