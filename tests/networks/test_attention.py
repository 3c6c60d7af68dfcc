"""The pictures of what a network looks at: the gates of its forward pass, of the frame's size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, Tiny
from torch import Tensor

from unblur.core.errors import InputError
from unblur.images.synthetic import synthetic_pair
from unblur.networks.attention import attention_maps
from unblur.networks.bag.family import BAG
from unblur.networks.bag.network import BAGSpec
from unblur.networks.registry import registered


@pytest.mark.parametrize("tiny", TINY, ids=lambda tiny: tiny.record.label(tiny.spec))
def test_every_family_shows_something_of_the_frames_size(tiny: Tiny) -> None:
    network = tiny.network()
    frame = synthetic_pair(0, 128, 128, "heldout")[0][:43, :58]
    maps = attention_maps(network, frame)
    assert len(maps) >= 1
    for name, picture in maps.items():
        assert picture.shape == (43, 58), name
        assert 0 <= picture.min() < picture.max() <= 1, name
    assert not any(module._forward_hooks for module in network.modules())


def test_a_map_is_the_gate_that_multiplies() -> None:
    """BAG's: what comes out of a module's attention over what went in."""
    torch.manual_seed(0)
    network = BAG.build(BAGSpec(stem=2, depth=2, layers=1, growth=2)).eval()
    frame = synthetic_pair(0, 64, 64, "heldout")[0][:20, :28]
    ratios: list[Tensor] = []

    def keep(_: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ratios.append(output.sum(dim=1) / inputs[0].sum(dim=1))

    for block in network.blocks:
        block.attention.register_forward_hook(keep)
    maps = attention_maps(network, frame)
    assert list(maps) == ["module 1", "module 2"]
    for picture, ratio in zip(maps.values(), ratios, strict=True):
        assert np.allclose(picture[::4, ::4], ratio[0].numpy(), rtol=1e-4, atol=1e-6)
        assert np.array_equal(picture[::4, ::4], picture[3::4, 3::4])


def test_a_family_without_gates_says_so() -> None:
    class Other(BAG.build):  # type: ignore[misc,name-defined]
        def __init__(self, spec: BAGSpec) -> None:
            super().__init__(spec)
            self.extra = torch.nn.Parameter(torch.zeros(1))

    plain = replace(BAG, name="plain", title="Plain", presets={}, build=Other, gates=None)
    network = Other(BAGSpec(stem=2, depth=1, layers=1, growth=2))
    with registered(plain), pytest.raises(InputError, match="Plain has no masks"):
        attention_maps(network, np.zeros((8, 8, 3), np.uint8))
