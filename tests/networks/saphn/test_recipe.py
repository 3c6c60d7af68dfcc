"""What SAPHN's recipe minimises and begins with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unblur.core.errors import InputError
from unblur.networks.family import Batch
from unblur.networks.saphn.network import SAPHNetwork, SAPHNSpec, joined, patches
from unblur.networks.saphn.recipe import Settings, mse, recipe

SPEC = SAPHNSpec(True, stem_width=4, middle_width=7, width=25, blocks=1)
SETTINGS = {**Settings(start="identity").model_dump(), "seed": 1, "amp": "off"}


def test_the_loss_is_the_squared_error_beyond_the_clamp_too() -> None:
    assert float(mse(torch.tensor([0.0, 2.0]), torch.zeros(2))) == pytest.approx(2.0)
    assert mse(torch.zeros(2).bfloat16(), torch.zeros(2)).dtype == torch.float32


def test_an_identity_gives_back_brightness_and_at_half_the_resolution_colour() -> None:
    network = SAPHNetwork(SPEC)
    recipe(network, SETTINGS).initialise()
    rng = torch.Generator().manual_seed(2)
    grey = (torch.rand(1, 1, 16, 24, generator=rng) - 0.5).expand(1, 3, 16, 24)
    colour = (torch.rand(1, 3, 8, 12, generator=rng) - 0.5).repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.inference_mode():
        for x in (grey, colour):  # the next level's attention adds a little
            assert float((network(x) - x).abs().max()) < 0.01
        features = joined(network.encoder_3(patches(grey, 2, 2)), 2, 2)
        assert float(network.decoder_3(features).abs().max()) == 0
        h = torch.rand(1, 25, 5, 5, generator=rng)
        pixel_filter = network.encoder_1.blocks[0].filter
        torch.testing.assert_close(pixel_filter(h), pixel_filter.weights(h), rtol=1e-5, atol=1e-5)


def test_a_network_too_narrow_for_an_identity_is_refused() -> None:
    with pytest.raises(InputError, match="from width 24 on, this network has 23"):
        recipe(SAPHNetwork(replace(SPEC, width=23)), SETTINGS)


def test_the_same_seed_starts_the_same() -> None:
    one, other = SAPHNetwork(SPEC), SAPHNetwork(SPEC)
    for network in (one, other):
        recipe(network, SETTINGS).initialise()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_some_steps_bring_it_nearer() -> None:
    torch.manual_seed(0)
    network = SAPHNetwork(SPEC)
    trained = recipe(network, SETTINGS | {"start": "torch"})
    trained.initialise()
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    losses = [trained.step(Batch(x, x, 3e-3, network))["loss"] for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]
