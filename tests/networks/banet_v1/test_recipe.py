"""What v1's recipe minimises, and how far one step may go."""

from __future__ import annotations

import pytest
import torch

from unblur.networks.banet_v1.network import BANetV1, BANetV1Spec
from unblur.networks.banet_v1.recipe import Settings, half_mse, recipe
from unblur.networks.family import Batch


def test_the_loss_is_half_the_squared_error_beyond_the_clamp_too() -> None:
    restored = torch.tensor([[0.0, 2.0]])
    assert float(half_mse(restored, torch.tensor([[0.0, 0.0]]))) == pytest.approx(1.0)
    assert half_mse(restored.bfloat16(), restored).dtype == torch.float32


def test_gradients_are_no_longer_than_the_code_cut_them() -> None:
    torch.manual_seed(0)
    network = BANetV1(BANetV1Spec(depth=1, stem_width=3, entry_width=4, width=4))
    trained = recipe(network, {**Settings().model_dump(), "seed": 1, "amp": "off"})
    x = torch.rand(1, 3, 16, 16)
    trained.step(Batch(x, x + 3, 1e-4, network))
    norm = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(0.02, rel=1e-3)


def test_the_identity_begins_with_the_input() -> None:
    network = BANetV1(BANetV1Spec(depth=2, stem_width=3, entry_width=4, width=4))
    recipe(network, {**Settings(start="identity").model_dump(), "seed": 1, "amp": "off"}).initialise()
    x = torch.rand(1, 3, 8, 8) - 0.5
    assert torch.equal(network(x), x)
