"""Parts that exact forms of several papers are made of."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


def reverse_channels(reads: Iterable[nn.Conv2d], writes: Iterable[nn.Conv2d]) -> None:
    """Reorder weights in place so that a network takes and gives the other channel order: exact, and free at run time.

    `reads`: every convolution that reads pixels alone. `writes`: every one whose output is pixels, or is added to them.
    """
    for conv in reads:
        conv.weight.data = conv.weight.data.flip(1)
    for conv in writes:
        conv.weight.data = conv.weight.data.flip(0)
        if conv.bias is not None:
            conv.bias.data = conv.bias.data.flip(0)
