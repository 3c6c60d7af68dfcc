"""BA-Net v1 against a naive second implementation, its published key list and the counts of its code."""

from __future__ import annotations

from collections.abc import Callable

import naive_banet_v1
import numpy as np
import pytest
import torch

from unblur.core.errors import InputError
from unblur.networks.banet_v1.network import BANetV1, BANetV1Spec

TOLERANCE = 2e-12
"""Largest |difference| in float64. Observed: 2.2e-15 on outputs up to 3; margin 1000."""

BROKEN = 1e-6
"""What every mutation must exceed, half a million tolerances."""

SPEC = BANetV1Spec(depth=2, stem_width=3, entry_width=4, width=6)
SIZE = (22, 30)
State = dict[str, torch.Tensor]
Truth = tuple[State, torch.Tensor, np.ndarray]


def asymmetric_state(spec: BANetV1Spec) -> State:
    """Float64 weights, every element drawn alone, scaled so that signals neither die nor explode."""
    generator = torch.Generator().manual_seed(9)
    state = {}
    for key, value in BANetV1(spec).state_dict().items():
        draw = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        state[key] = draw * (1.2 / value[0].numel() ** 0.5) if value.ndim == 4 else 0.3 * draw
    return state


def frame(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand((1, 3, height, width), generator=generator, dtype=torch.float64) - 0.5


def fast(state: State, spec: BANetV1Spec, x: torch.Tensor) -> np.ndarray:
    network = BANetV1(spec).double().eval()
    network.load_state_dict(state)
    with torch.inference_mode():
        return network(x)[0].numpy()


def slow(state: State, x: torch.Tensor) -> np.ndarray:
    return naive_banet_v1.banet_v1(x[0].numpy(), {key: value.numpy() for key, value in state.items()})


@pytest.fixture(scope="module")
def truth() -> Truth:
    state, x = asymmetric_state(SPEC), frame(*SIZE)
    return state, x, slow(state, x)


@pytest.mark.parametrize(
    ("spec", "height", "width"),
    [
        (SPEC, *SIZE),
        (BANetV1Spec(depth=1, stem_width=2, entry_width=3, width=4), 246, 4),  # 123 rows: the float32 index
        (BANetV1Spec(depth=1, stem_width=2, entry_width=5, width=2), 4, 410),  # 205 columns
        (BANetV1Spec(depth=1, stem_width=2, entry_width=2, width=2), 2, 2),  # strips of 7 bins on one pixel
    ],
)
def test_agrees_with_the_naive_network(spec: BANetV1Spec, height: int, width: int) -> None:
    state, x = asymmetric_state(spec), frame(height, width)
    expected = slow(state, x)
    assert np.abs(fast(state, spec, x) - expected).max() <= TOLERANCE
    assert np.abs(expected - x[0].numpy()).mean() > 0.1, "parity on dead activations would prove nothing"


@pytest.mark.parametrize("key", sorted(BANetV1(SPEC).state_dict()))
def test_one_changed_weight_breaks_parity(truth: Truth, key: str) -> None:
    state, x, out = truth
    weight = state[key].clone()
    weight.view(-1)[weight.numel() // 3] += 0.05
    assert np.abs(fast({**state, key: weight}, SPEC, x) - out).max() > BROKEN


def swapped(state: State, one: str, other: str) -> State:
    result = dict(state)
    for key in state:
        if key.startswith(one):
            twin = other + key.removeprefix(one)
            result[key], result[twin] = state[twin], state[key]
    return result


def turned(state: State, key: str) -> State:
    return {**state, key: state[key].transpose(2, 3).contiguous()}


MUTATIONS: dict[str, Callable[[State], State]] = {
    "directions of a strip": lambda s: swapped(s, "BAM_1.BA.conv_5_h.", "BAM_1.BA.conv_5_w."),
    "strips 3 and 7": lambda s: swapped(s, "BAM_2.BA.conv_3_h.", "BAM_2.BA.conv_7_h."),
    "fusion on its side": lambda s: turned(s, "BAM_1.BA.fuse_conv.weight"),
    "order of the levels": lambda s: {**s, "BAM_1.BA.fuse_conv.weight": s["BAM_1.BA.fuse_conv.weight"].roll(3, 1)},
    "masks": lambda s: swapped(s, "BAM_1.BA.mask_conv_1.", "BAM_1.BA.mask_conv_2."),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_miswired_network_breaks_parity(truth: Truth, name: str) -> None:
    state, x, out = truth
    assert np.abs(fast(MUTATIONS[name](state), SPEC, x) - out).max() > BROKEN


def published_keys(depth: int) -> list[str]:
    biased = [f"content_conv_d{d}{suffix}" for suffix in ("", "_2") for d in (1, 3, 5)]
    biased += ["input_conv", "fuse_conv_1", "final_conv", "BA.conv_final", "BA.mask_conv_1", "BA.mask_conv_2"]
    bare = ["BA.fuse_conv", *(f"BA.conv_{n}_{direction}" for n in (1, 3, 5, 7) for direction in "hw")]
    keys = [f"{layer}.0.{part}" for layer in ("en_layer1", "en_layer2", "de_layer1", "de_layer2", "de_layer3")
            for part in ("weight", "bias")]  # fmt: skip
    for k in range(1, depth + 1):
        keys += [f"BAM_{k}.{name}.{part}" for name in biased for part in ("weight", "bias")]
        keys += [f"BAM_{k}.{name}.weight" for name in bare]
    return [*keys, "BAM_1.shortcut_conv.weight"]


@pytest.mark.parametrize(
    ("depth", "parameters"), [(4, 34_702_083), (8, 68_658_947), (10, 85_637_379), (12, 102_615_811)]
)
def test_sizes_and_keys(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        network = BANetV1(BANetV1Spec(depth))
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sorted(state) == sorted(published_keys(depth))
    assert len(state) == 33 * depth + 11
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert shapes["BAM_1.shortcut_conv.weight"] == (256, 128, 1, 1)
    assert shapes["BAM_1.BA.fuse_conv.weight"] == (128, 512, 3, 3)
    assert shapes["de_layer1.0.weight"] == (256, 128, 4, 4)
    assert shapes["de_layer2.0.weight"] == (64, 192, 3, 3)


def test_a_wrong_shape_names_the_cure() -> None:
    with pytest.raises(InputError, match="even H and W"):
        BANetV1(SPEC)(torch.zeros(1, 3, 5, 6))


@pytest.mark.parametrize("values", [{"depth": 0}, {"width": 7}, {"stem_width": -1}, {"entry_width": 0}])
def test_an_impossible_spec_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        BANetV1Spec(**values)
