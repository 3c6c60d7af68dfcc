"""What SAPHN's recipe minimises and begins with."""

from __future__ import annotations

import pytest
import torch

from unblur.networks.family import Batch
from unblur.networks.saphn.network import SAPHNetwork, SAPHNSpec, joined, patches
from unblur.networks.saphn.recipe import Settings, mse, recipe

SPEC = SAPHNSpec(True, stem_width=3, middle_width=4, width=4, blocks=1)
SETTINGS = {**Settings(start="gentle").model_dump(), "seed": 1, "amp": "off"}


def test_the_loss_is_the_squared_error_beyond_the_clamp_too() -> None:
    assert float(mse(torch.tensor([0.0, 2.0]), torch.zeros(2))) == pytest.approx(2.0)
    assert mse(torch.zeros(2).bfloat16(), torch.zeros(2)).dtype == torch.float32


def test_a_gentle_start_has_plain_filters_and_silent_lower_levels() -> None:
    network = SAPHNetwork(SPEC)
    recipe(network, SETTINGS).initialise()
    x = torch.rand(1, 3, 16, 16) - 0.5
    with torch.inference_mode():
        features = joined(network.encoder_3(patches(x, 2, 2)), 2, 2)
        assert float(network.decoder_3(features).abs().max()) == 0
        h = torch.rand(1, 4, 5, 5)
        pixel_filter = network.encoder_1.blocks[0].filter
        torch.testing.assert_close(pixel_filter(h), pixel_filter.weights(h), rtol=1e-5, atol=1e-6)


def test_the_same_seed_starts_the_same() -> None:
    one, other = SAPHNetwork(SPEC), SAPHNetwork(SPEC)
    for network in (one, other):
        recipe(network, SETTINGS).initialise()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_some_steps_bring_it_nearer() -> None:
    network = SAPHNetwork(SPEC)
    trained = recipe(network, SETTINGS)
    trained.initialise()
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    losses = [trained.step(Batch(x, x, 3e-3, network))["loss"] for _ in range(12)]
    assert losses[-1] < 0.9 * losses[0]
