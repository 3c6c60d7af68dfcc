"""How SAPHN is trained: the squared error of the last level's image, as in the DMPHN it grew from (the text gives no
loss)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unblur.core.config import Section
from unblur.core.errors import InputError
from unblur.networks.recipe import Adam, Supervised, kaiming
from unblur.networks.saphn.network import Block, Decoder, PixelFilter, SAPHNetwork

COPIES = {"stem_width": 3, "middle_width": 6, "width": 24}
"""Channels that `near_identity` sends a frame through."""

COLOURS = torch.tensor([[2, 2, 2], [3, 0, -3], [-1.5, 3, -1.5]]) / 6
"""Rows: brightness and two differences of colour; within half of 0, as R, G and B are."""


class Settings(Section):
    """The keys of a training configuration that are SAPHN's own."""

    start: Literal["torch", "identity"] = "torch"
    optimiser: Adam = Adam()


def recipe(network: SAPHNetwork, settings: Mapping[str, Any]) -> Supervised:
    """`start` "torch" keeps torch's weights, "identity" is `near_identity`, for short trainings.

    Raises InputError for a network that is too narrow for the latter.
    """
    own = Settings.model_validate({key: settings[key] for key in Settings.model_fields})
    first = None
    if own.start == "identity":
        for name, least in COPIES.items():
            if (width := getattr(network.spec, name)) < least:
                raise InputError(f"SAPHN begins at the identity from {name} {least} on, this network has {width}.")
        first = partial(near_identity, network, settings["seed"])
    return Supervised(network, settings, own.optimiser, mse, first)


def mse(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of the output as it is, not clamped; in float32."""
    return (restored.float() - truth.float()).square().mean()


def near_identity(network: SAPHNetwork, seed: int) -> None:
    """Kaiming's scale in place, filters that are plain convolutions, and blocks and lower levels that add next to
    nothing. There is no way around encoder 1 and decoder 1, so `_copy` sends the frame through them.
    """
    kaiming([m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)], seed, 0.0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, PixelFilter):
                module.begin_plain()
            elif isinstance(module, Block):
                module.leave.weight.zero_()
            elif isinstance(module, Decoder):
                module.image.weight.zero_()
        for attention in (network.cross_level_1, network.cross_level_2):
            attention.select.bias.fill_(-6.0)  # type: ignore[union-attr]
        _copy(network)


def _copy(network: SAPHNetwork) -> None:
    """The first channels of every layer carry the frame, above 0 so that no ReLU cuts it: its brightness at every
    pixel, 16 values of a place at a quarter of the resolution, and two differences of colour at every second, 8.
    """
    encoder, decoder = network.encoder_1, network.decoder_1
    pixels = list(enumerate(product((1, 2), (1, 2))))  # taps of a kernel of 3 or 4 that lie on the four pixels of one
    encoder.stem.weight[:3] = 0
    encoder.stem.weight[:3, :, 1, 1] = COLOURS
    encoder.stem.bias[:3] = 0.5  # type: ignore[index]
    encoder.down_1.weight[:6] = 0
    encoder.down_2.weight[:24] = 0
    decoder.up_1.weight[:, :6] = 0
    decoder.up_2.weight[:, :3] = 0
    for k, (row, column) in pixels:
        encoder.down_1.weight[k, 0, row, column] = 1
        encoder.down_1.weight[[4, 5], [1, 2], row, column] = 0.25
        decoder.up_2.weight[[k, 4, 5], [0, 1, 2], row, column] = 1
        same = range(6)
        encoder.down_2.weight[[6 * k + j for j in same], same, row, column] = 1
        decoder.up_1.weight[[6 * k + j for j in same], same, row, column] = 1
    back = torch.linalg.inv(COLOURS)
    decoder.image.weight[:, :3, 1, 1] = back
    decoder.image.bias.copy_(-0.5 * back.sum(dim=1))  # type: ignore[union-attr]
