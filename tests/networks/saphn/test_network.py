"""SAPHN against a naive second implementation, its published and derived sizes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import naive_saphn
import numpy as np
import pytest
import torch

from unblur.core.errors import InputError
from unblur.networks.saphn.form import SAPHNForm
from unblur.networks.saphn.network import SAPHNetwork, SAPHNSpec, joined, patches

TOLERANCE = 1e-13
"""Largest |difference| in float64. Observed: 1.2e-16 on outputs up to 0.4."""

BROKEN = 1e-10
"""What every mutation must exceed, a thousand tolerances: the smallest level is seen through two others."""

SIZE = (24, 16)
State = dict[str, torch.Tensor]


def tiny(offsets: bool) -> SAPHNSpec:
    return SAPHNSpec(offsets, stem_width=4, middle_width=4, width=4, blocks=1)


def asymmetric_state(spec: SAPHNSpec, seed: int = 8) -> State:
    """Float64 weights, every element drawn alone: a gain below 1, since a block is a cubic of its input."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in SAPHNetwork(spec).state_dict().items():
        draw = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        state[key] = draw * (0.7 / value[0].numel() ** 0.5) if value.ndim == 4 else 0.25 + 0.15 * draw
    return state


def frame(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand((1, 3, height, width), generator=generator, dtype=torch.float64) - 0.5


def fast(state: State, spec: SAPHNSpec, x: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network_of(state, spec)(x)[0].numpy()


def network_of(state: State, spec: SAPHNSpec) -> SAPHNetwork:
    network = SAPHNetwork(spec).double().eval()
    network.load_state_dict(state)
    return network


def slow(state: State, x: torch.Tensor) -> np.ndarray:
    return naive_saphn.saphn(x[0].numpy(), {key: value.numpy() for key, value in state.items()})


Truth = tuple[State, torch.Tensor, np.ndarray]


@pytest.fixture(scope="module", params=[False, True], ids=["a", "b"])
def offsets(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def truth(offsets: bool) -> Truth:
    state, x = asymmetric_state(tiny(offsets)), frame(*SIZE)
    return state, x, slow(state, x)


def test_agrees_with_the_naive_network(truth: Truth, offsets: bool) -> None:
    state, x, out = truth
    assert np.abs(fast(state, tiny(offsets), x) - out).max() <= TOLERANCE
    assert out.std(axis=(1, 2)).min() > 0.02, "parity on dead activations would prove nothing"


@pytest.mark.parametrize("size", [(8, 8), (8, 40)])
def test_agrees_where_patches_are_a_pixel(offsets: bool, size: tuple[int, int]) -> None:
    spec = SAPHNSpec(offsets, stem_width=1, middle_width=1, width=2, blocks=2)
    state, x = asymmetric_state(spec), frame(*size)
    assert np.abs(fast(state, spec, x) - slow(state, x)).max() <= TOLERANCE


def leaving(state: State, down: float, right: float) -> State:
    """Every tap moved by all of the largest offset, four pixels, of a map that is three wide and two high."""
    state = {key: torch.zeros_like(value) if ".offset." in key else value for key, value in state.items()}
    for key, value in state.items():
        if key.endswith("filter.offset.bias"):
            value[0::2], value[1::2] = 50 * down, 50 * right
    return state


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-1, 0), (0, 1), (0, -1), (-1, 1)])
def test_offsets_that_leave_the_picture_see_zeros(down: float, right: float) -> None:
    """What is seen there is 0, not the edge's value, and pixels opposite are not wrapped to."""
    x = frame(16, 24)
    before = asymmetric_state(tiny(True))
    state = leaving(before, down, right)
    out = slow(state, x)
    assert np.abs(fast(state, tiny(True), x) - out).max() <= TOLERANCE
    with torch.inference_mode():
        form = SAPHNForm(network_of(state, tiny(True)), (16, 24), False)(x)[0][0].numpy()
    assert np.abs(form - out).max() <= TOLERANCE
    assert np.abs(slow(leaving(before, 0, 0), x) - out).max() > BROKEN


@pytest.mark.parametrize("key", sorted(SAPHNetwork(tiny(True)).state_dict()))
def test_a_changed_tensor_breaks_parity(key: str) -> None:
    state, x = asymmetric_state(tiny(True)), frame(*SIZE)
    before = fast(state, tiny(True), x)
    difference = np.abs(fast({**state, key: state[key] * 1.1}, tiny(True), x) - before).max()
    # What is added to all places alike leaves a softmax over them as it was: that bias is dead.
    assert difference < TOLERANCE if key.endswith("gather.bias") else difference > BROKEN


def swapped(state: State, one: str, other: str) -> State:
    result = dict(state)
    for key in state:
        if one in key:
            twin = key.replace(one, other)
            result[key], result[twin] = state[twin], state[key]
    return result


def turned(state: State, name: str) -> State:
    """A filter whose taps go right before they go down."""
    key = f"{name}.weights.weight"
    return {**state, key: state[key].transpose(2, 3).contiguous()}


MUTATIONS: dict[str, Callable[[State], State]] = {
    "levels 1 and 3": lambda s: swapped(s, "coder_1.", "coder_3."),
    "levels 1 and 2": lambda s: swapped(s, "encoder_1.", "encoder_2."),
    "what spreads and what gathers": lambda s: swapped(s, "decoder_2.blocks.0.self_attention.spread",
                                                       "decoder_2.blocks.0.self_attention.gather"),
    "self- and cross-attention": lambda s: swapped(s, "decoder_1.blocks.0.self_attention",
                                                   "decoder_1.blocks.0.cross_attention"),
    "attention between levels": lambda s: swapped(s, "cross_level_1.", "cross_level_2."),
    "gate and mask": lambda s: swapped(s, "encoder_1.blocks.0.mix", "encoder_1.blocks.0.self_attention.mask"),
    "order of the taps": lambda s: turned(s, "encoder_2.blocks.0.filter"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_miswired_network_breaks_parity(truth: Truth, offsets: bool, name: str) -> None:
    state, x, out = truth
    assert np.abs(fast(MUTATIONS[name](state), tiny(offsets), x) - out).max() > BROKEN


def test_taps_move_down_before_right() -> None:
    state, x = asymmetric_state(tiny(True)), frame(*SIZE)
    key = "encoder_1.blocks.0.filter.offset"
    pairs = {part: state[f"{key}.{part}"] for part in ("weight", "bias")}
    other = {f"{key}.{p}": v.unflatten(0, (25, 2)).flip(1).flatten(0, 1) for p, v in pairs.items()}
    assert np.abs(fast({**state, **other}, tiny(True), x) - slow(state, x)).max() > BROKEN


def test_training_begins_at_a_plain_convolution() -> None:
    torch.manual_seed(0)
    block = SAPHNetwork(tiny(True)).decoder_1.blocks[0]
    x = torch.rand(2, 4, 9, 7)
    with torch.inference_mode():
        torch.testing.assert_close(block.filter(x), block.filter.weights(x), rtol=1e-5, atol=1e-6)


def test_patches_go_row_by_row_and_come_back() -> None:
    x = torch.arange(2 * 3 * 8 * 6, dtype=torch.float32).reshape(2, 3, 8, 6)
    cut = patches(x, 2, 2)
    assert torch.equal(cut[1], x[0, :, :4, 3:])
    assert torch.equal(cut[6], x[1, :, 4:, :3])
    assert torch.equal(joined(cut, 2, 2), x)


@pytest.mark.parametrize(("moves", "parameters"), [(False, 23_074_042), (True, 24_111_742)])
def test_sizes(moves: bool, parameters: int) -> None:
    with torch.device("meta"):
        network = SAPHNetwork(SAPHNSpec(moves))
        outputs = {
            name: tuple(network.get_submodule(name)(torch.empty(2, channels, 64, 48)).shape)
            for name, channels in (("encoder_1", 3), ("decoder_1", 128), ("decoder_1.blocks.0.filter", 128))
        }
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert outputs == {
        "encoder_1": (2, 128, 16, 12),
        "decoder_1": (2, 3, 256, 192),
        "decoder_1.blocks.0.filter": (2, 128, 64, 48),
    }


@pytest.mark.parametrize("shape", [(1, 3, 8, 12), (1, 3, 20, 8), (1, 4, 8, 8), (3, 8, 8)])
def test_a_wrong_shape_names_the_cure(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="multiples of 8"):
        SAPHNetwork(tiny(False))(torch.zeros(shape))


@pytest.mark.parametrize("values", [{"blocks": 0}, {"width": 0}, {"stem_width": -1}, {"middle_width": 0}])
def test_an_impossible_spec_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        SAPHNSpec(**values)
