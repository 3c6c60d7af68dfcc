"""Weights before the first iteration."""

from __future__ import annotations

import math

import torch
from torch import nn

from unblur.networks.banet.network import NEGATIVE_SLOPE, BlurAwareModule

GAIN = math.sqrt(2 / (1 + NEGATIVE_SLOPE**2))


def initialise(network: nn.Module, seed: int, start: str) -> None:
    """Set the weights in place. `start` "torch" keeps torch's own, which the published networks began with.

    "identity" is for short trainings: Kaiming's scale (He et al., ICCV 2015), so that four blocks without
    normalisation neither fade nor swell, half of it where a block joins its residual, and a last convolution of zeros:
    a network with a global residual then gives its input back, and no iteration is spent on learning to copy.
    """
    if start == "torch":
        return
    generator = torch.Generator().manual_seed(seed)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    for conv in convolutions:
        # Inputs that reach one output: a transposed convolution of stride s spreads its kernel over s x s of them.
        fan_in = conv.in_channels * math.prod(conv.kernel_size) / conv.groups
        if isinstance(conv, nn.ConvTranspose2d):
            fan_in /= math.prod(conv.stride)
        with torch.no_grad():
            conv.weight.normal_(0, GAIN / math.sqrt(fan_in), generator=generator)
            if conv.bias is not None:
                conv.bias.zero_()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, BlurAwareModule):
                module.final_conv.weight.mul_(0.5)
        convolutions[-1].weight.zero_()
