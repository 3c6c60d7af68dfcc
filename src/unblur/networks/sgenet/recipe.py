"""How SGENet is trained: Charbonnier + 0.05 edge, over both stages and all pictures that a stage restores.

Each stage is held to its own picture and to those of its skips; a smaller one to the truth of its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from unblur.core.config import Section
from unblur.networks.family import Batch
from unblur.networks.losses import charbonnier
from unblur.networks.recipe import Adam, Supervised
from unblur.networks.sgenet.network import SGENet, resize

BINOMIAL = (0.05, 0.25, 0.4, 0.25, 0.05)
"""Burt and Adelson's 5-tap kernel (1983), of the Laplacian whose edges are compared."""


class Loss(Section):
    """Charbonnier's epsilon and the weight of the edge term."""

    charbonnier_eps: float = Field(1e-3, gt=0)
    edge_weight: float = Field(0.05, ge=0)


class Settings(Section):
    """The keys of a training configuration that are SGENet's own."""

    start: Literal["torch", "identity"] = "torch"
    loss: Loss = Loss()
    optimiser: Adam = Adam()


class StagedRecipe(Supervised):
    """`Supervised`, of more pictures than the one that leaves the network: the others are caught as they are made."""

    def __init__(self, network: SGENet, settings: Mapping[str, Any]) -> None:
        own = Settings.model_validate({key: settings[key] for key in Settings.model_fields})
        super().__init__(network, settings, own.optimiser, self._total)
        self.network, self.own = network, own
        self.pictures: list[Tensor] = []

    def initialise(self) -> None:
        """`start` "identity": every convolution that writes a picture is 0, so that all give their input back."""
        if self.own.start == "identity":
            for name, module in self.network.named_modules():
                if name.endswith("restore") or name == "tail":
                    nn.init.zeros_(module.weight)

    def step(self, batch: Batch) -> dict[str, float]:
        stages = (self.network.stage_1, self.network.stage_2)
        makers = [self.network.sam, *(skip for stage in stages for skip in stage.enhance)]
        handles = [maker.register_forward_hook(self._catch) for maker in makers]
        try:
            return super().step(batch)
        finally:
            for handle in handles:
                handle.remove()
            self.pictures.clear()

    def _catch(self, maker: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, Tensor]) -> None:
        del maker, inputs
        self.pictures.append(outputs[1])

    def _total(self, restored: Tensor, sharp: Tensor) -> Tensor:
        truths = [sharp.float()]
        while len(truths) < len(self.network.spec.widths) - 1:
            truths.append(resize(truths[-1], 0.5))
        by_height = {truth.shape[2]: truth for truth in truths}
        losses = [self._one(picture.float(), by_height[picture.shape[2]]) for picture in (restored, *self.pictures)]
        return torch.stack(losses).sum()

    def _one(self, picture: Tensor, truth: Tensor) -> Tensor:
        what = self.own.loss
        edges = charbonnier(laplacian(picture), laplacian(truth), what.charbonnier_eps)
        return charbonnier(picture, truth, what.charbonnier_eps) + what.edge_weight * edges


def laplacian(x: Tensor) -> Tensor:
    """x less a coarser version of itself: blurred, every second pixel of it times 4 among zeros, blurred again."""
    low = blurred(x)
    sparse = torch.zeros_like(low)
    sparse[:, :, ::2, ::2] = 4 * low[:, :, ::2, ::2]
    return x - blurred(sparse)


def blurred(x: Tensor) -> Tensor:
    """Each channel with the kernel of BINOMIAL by itself, (B, C, H, W) -> same; the border is repeated."""
    taps = torch.tensor(BINOMIAL, dtype=x.dtype, device=x.device)
    weight = torch.outer(taps, taps).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), weight, groups=x.shape[1])
