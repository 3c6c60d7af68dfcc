"""A tiny BANet whose weights are symmetric in nothing."""

from __future__ import annotations

import torch

from unblur.networks.banet.network import BANet, BANetSpec

TINY = BANetSpec(depth=2, stem_width=4, width=8, fuse_width=4)


def asymmetric(spec: BANetSpec, seed: int = 0) -> BANet:
    """Random weights large enough that every branch matters, a visible residual, no symmetry."""
    torch.manual_seed(seed)
    network = BANet(spec).eval()
    for parameter in network.parameters():
        scale = 1.5 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.1
        torch.nn.init.normal_(parameter, 0.02, scale)
    with torch.no_grad():
        x = torch.rand(1, 3, 32, 32) - 0.5
        residual = network(x) - x
        for parameter in network.de_layer3.parameters():  # most pixels inside the clamp, or it would hide errors
            parameter *= 0.15 / residual.std()
    return network
