"""SGENet's loss: Charbonnier + 0.05 edge over both stages and every picture of each, held to a naive one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from unblur.networks.family import Batch
from unblur.networks.sgenet.network import SGENet, SGENetSpec
from unblur.networks.sgenet.recipe import Settings, StagedRecipe, laplacian

TAPS = (0.05, 0.25, 0.4, 0.25, 0.05)
Map = NDArray[np.float64]


def naive_blur(x: Map) -> Map:
    _, height, width = x.shape
    out = np.zeros_like(x)
    for i in range(height):
        for j in range(width):
            for a in range(5):
                for b in range(5):
                    row, column = min(max(i + a - 2, 0), height - 1), min(max(j + b - 2, 0), width - 1)
                    out[:, i, j] += TAPS[a] * TAPS[b] * x[:, row, column]
    return out


def naive_laplacian(x: Map) -> Map:
    low = naive_blur(x)
    sparse = np.zeros_like(x)
    for i in range(0, x.shape[1], 2):
        for j in range(0, x.shape[2], 2):
            sparse[:, i, j] = 4 * low[:, i, j]
    return x - naive_blur(sparse)


def naive_charbonnier(a: Map, b: Map) -> float:
    return float(np.mean(np.sqrt((a - b) ** 2 + 1e-6)))


def recipe_of(start: str = "torch") -> StagedRecipe:
    torch.manual_seed(1)
    settings: dict[str, Any] = Settings(start=start).model_dump() | {"seed": 3, "amp": "off"}  # type: ignore[arg-type]
    return StagedRecipe(SGENet(SGENetSpec((6, 9, 12), 1)), settings)


def pictures(seed: int) -> Tensor:
    return torch.rand((1, 3, 12, 16), generator=torch.Generator().manual_seed(seed))


def test_laplacian_is_the_naive_one() -> None:
    x = pictures(1).double()
    assert np.abs(laplacian(x)[0].numpy() - naive_laplacian(x[0].numpy())).max() < 1e-14


def test_the_loss_is_over_both_stages_and_every_picture() -> None:
    recipe = recipe_of()
    blurred, sharp = pictures(1), pictures(2)
    with torch.inference_mode():
        made = [picture[0].double().numpy() for stage in recipe.network.pictures(blurred) for picture in stage]
    full = sharp[0].double().numpy()
    half = sum(full[:, a::2, b::2] for a in (0, 1) for b in (0, 1)) / 4
    assert [picture.shape[1] for picture in made] == [12, 12, 6] * 2
    expected = 0.0
    for picture in made:
        truth = full if picture.shape[1] == 12 else half
        edges = naive_charbonnier(naive_laplacian(picture), naive_laplacian(truth))
        expected += naive_charbonnier(picture, truth) + 0.05 * edges
    losses = recipe.step(Batch(blurred, sharp, 1e-3, recipe.network))
    assert losses["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_step_trains_every_weight_and_leaves_no_hook() -> None:
    recipe = recipe_of()
    before = {key: value.clone() for key, value in recipe.network.state_dict().items()}
    for _ in range(2):
        recipe.step(Batch(pictures(1), pictures(2), 1e-2, recipe.network))
    still = {key for key, value in recipe.network.state_dict().items() if torch.equal(before[key], value)}
    behind = ("acts", "squeeze", "excite")  # a ReLU that may be shut
    assert [key for key in still if not any(name in key for name in behind)] == []
    assert recipe.pictures == []
    assert not any(module._forward_hooks for module in recipe.network.modules())


def test_identity_gives_every_input_back() -> None:
    recipe = recipe_of("identity")
    recipe.initialise()
    for stage in recipe.network.pictures(pictures(1)):
        assert torch.equal(stage[0], pictures(1))
        assert torch.equal(stage[1], pictures(1))


def test_a_state_is_taken_up_again() -> None:
    batch = Batch(pictures(1), pictures(2), 1e-3, lambda x: x)
    one, other = recipe_of(), recipe_of()

    def step(recipe: StagedRecipe) -> None:
        recipe.step(Batch(batch.blurred, batch.sharp, batch.rate, recipe.network))

    step(one)
    other.network.load_state_dict(one.network.state_dict())
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    step(one)
    step(other)
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
