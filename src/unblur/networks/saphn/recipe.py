"""How SAPHN is trained: the squared error of the last level's image, as in the DMPHN it grew from (the text gives no
loss)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unblur.core.config import Section
from unblur.networks.recipe import Adam, Supervised, kaiming
from unblur.networks.saphn.network import Block, Decoder, PixelFilter, SAPHNetwork


class Settings(Section):
    """The keys of a training configuration that are SAPHN's own."""

    start: Literal["torch", "gentle"] = "torch"
    optimiser: Adam = Adam()


def recipe(network: SAPHNetwork, settings: Mapping[str, Any]) -> Supervised:
    """`start` "torch" keeps torch's weights, "gentle" is `gentle`, for short trainings."""
    own = Settings.model_validate({key: settings[key] for key in Settings.model_fields})
    first = partial(gentle, network, settings["seed"]) if own.start == "gentle" else None
    return Supervised(network, settings, own.optimiser, mse, first)


def mse(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of the output as it is, not clamped; in float32."""
    return (restored.float() - truth.float()).square().mean()


def gentle(network: SAPHNetwork, seed: int) -> None:
    """Kaiming's scale in place, filters that are plain convolutions, and nothing from what a block adds to its residual
    and from the two lower levels' images. There is no way around the decoders, so the input is not simply given back.
    """
    kaiming([m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)], seed, 0.0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, PixelFilter):
                module.begin_plain()
            elif isinstance(module, Block):
                module.leave.weight.mul_(0.1)
            elif isinstance(module, Decoder) and module is not network.decoder_1:
                module.image.weight.zero_()
