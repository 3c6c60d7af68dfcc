"""How BANet is trained (Tsai et al., IEEE TIP 2022, and its published code): one Adam, Charbonnier + FFT-L1."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from unblur.core.config import Section
from unblur.networks.banet.network import NEGATIVE_SLOPE, BlurAwareNetwork
from unblur.networks.losses import charbonnier, fft_l1
from unblur.networks.recipe import Adam, Supervised, kaiming


class Loss(Section):
    """Charbonnier's epsilon and the weight of the FFT term."""

    charbonnier_eps: float = Field(1e-3, gt=0)
    fft_weight: float = Field(0.01, ge=0)


class Settings(Section):
    """The keys of a training configuration that are BANet's own."""

    start: Literal["torch", "identity"] = "torch"
    loss: Loss = Loss()
    optimiser: Adam = Adam()


def recipe(network: BlurAwareNetwork, settings: Mapping[str, Any]) -> Supervised:
    """`start` "torch" keeps torch's weights, which the published networks began with; "identity" is `near_identity`."""
    own = Settings.model_validate({key: settings[key] for key in Settings.model_fields})
    loss = partial(deblurring_loss, eps=own.loss.charbonnier_eps, fft_weight=own.loss.fft_weight)
    first = partial(near_identity, network, settings["seed"]) if own.start == "identity" else None
    return Supervised(network, settings, own.optimiser, loss, first)


def deblurring_loss(restored: Tensor, truth: Tensor, eps: float = 1e-3, fft_weight: float = 0.01) -> Tensor:
    """Charbonnier + `fft_weight` FFT-L1 on the output clamped to [-0.5, 0.5], computed in float32."""
    clamped, truth = restored.float().clamp(-0.5, 0.5), truth.float()
    loss = charbonnier(clamped, truth, eps)
    return loss + fft_weight * fft_l1(clamped, truth) if fft_weight else loss


def near_identity(network: BlurAwareNetwork, seed: int) -> None:
    """Weights for short trainings, in place: Kaiming's scale, half of it where a block joins its residual, and a last
    convolution of zeros. The network then gives its input back, and no iteration is spent on learning to copy.
    """
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    kaiming(convolutions, seed, NEGATIVE_SLOPE)
    with torch.no_grad():
        for block in network.blocks:
            block.final_conv.weight.mul_(0.5)
        convolutions[-1].weight.zero_()
