"""BANet against a naive second implementation, and the published key list and parameter counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import naive_banet
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unblur.core.errors import InputError
from unblur.networks.banet.family import BANET
from unblur.networks.banet.network import BANet, BANetSpec, BlurAwareAttention, nearest_index, stretch
from unblur.networks.registry import build_network

TOLERANCE = 2e-12
"""Largest |difference| in float64. Observed over the cases below: 2.0e-15 on outputs up to 2.3; margin 1000."""

BROKEN = 1e-6
"""What every mutation must exceed, half a million tolerances. Observed: 4.3e-5 at least, for one weight changed."""

SPEC = BANetSpec(depth=2, stem_width=3, width=6, fuse_width=5)
SIZE = (22, 30)
State = dict[str, torch.Tensor]


def asymmetric_state(spec: BANetSpec, seed: int = 7) -> State:
    """Float64 weights, every element drawn alone (biases too), scaled so that signals neither die nor explode."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in BANet(spec).state_dict().items():
        draw = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        state[key] = draw * (1.2 / value[0].numel() ** 0.5) if value.ndim == 4 else 0.3 * draw
    return state


def frame(height: int, width: int, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((1, 3, height, width), generator=generator, dtype=torch.float64) - 0.5


def fast(state: State, spec: BANetSpec, x: torch.Tensor) -> np.ndarray:
    network = BANet(spec).double().eval()
    network.load_state_dict(state)
    with torch.inference_mode():
        return network(x)[0].numpy()


def slow(state: State, x: torch.Tensor) -> np.ndarray:
    return naive_banet.banet(x[0].numpy(), {key: value.numpy() for key, value in state.items()})


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Maps of a few hundred pixels: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def truth() -> tuple[State, torch.Tensor, np.ndarray]:
    """One asymmetric state, one frame, and what the naive network makes of them."""
    state, x = asymmetric_state(SPEC), frame(*SIZE)
    return state, x, slow(state, x)


@pytest.mark.parametrize(
    ("spec", "height", "width"),
    [
        (SPEC, *SIZE),
        (BANetSpec(depth=1, stem_width=4, width=4, fuse_width=2), 16, 40),
        (BANetSpec(depth=1, stem_width=2, width=6, fuse_width=6), 26, 10),  # fuse_width = width, as in BANet+
        (BANetSpec(depth=1, stem_width=2, width=2, fuse_width=1), 246, 4),  # 123 rows at half size
        (BANetSpec(depth=1, stem_width=2, width=2, fuse_width=1), 4, 410),  # 205 columns
        (BANetSpec(depth=1, stem_width=2, width=2, fuse_width=3), 2, 2),  # strips of 7 bins on one pixel
        (BANetSpec(depth=3, stem_width=1, width=2, fuse_width=1), 6, 8),
    ],
)
def test_agrees_with_the_naive_network(spec: BANetSpec, height: int, width: int) -> None:
    state, x = asymmetric_state(spec), frame(height, width)
    assert np.abs(fast(state, spec, x) - slow(state, x)).max() <= TOLERANCE


def test_the_network_does_something(truth: tuple[State, torch.Tensor, np.ndarray]) -> None:
    _, x, out = truth
    assert np.abs(out - x[0].numpy()).mean() > 0.1, "parity on dead activations would prove nothing"


@pytest.mark.parametrize("key", sorted(BANet(SPEC).state_dict()))
def test_one_changed_weight_breaks_parity(truth: tuple[State, torch.Tensor, np.ndarray], key: str) -> None:
    state, x, out = truth
    changed = dict(state)
    weight = state[key].clone()
    place = weight.numel() // 3  # away from the centre tap and the first channel
    weight.view(-1)[place] += 0.05
    changed[key] = weight
    assert np.abs(fast(changed, SPEC, x) - out).max() > BROKEN


def swapped(state: State, one: str, other: str) -> State:
    """Every key under `one` and `other` exchanged."""
    result = dict(state)
    for key in state:
        if key.startswith(one):
            twin = other + key.removeprefix(one)
            result[key], result[twin] = state[twin], state[key]
    return result


def rolled(state: State, key: str, channels: int) -> State:
    """The input channels of one convolution rotated: the same as concatenating its inputs in another order."""
    return {**state, key: state[key].roll(channels, dims=1)}


def transposed(state: State) -> State:
    """Height and width exchanged in every square kernel and between the two strips of one bin."""
    result = {k: v.transpose(2, 3).contiguous() if v.ndim == 4 else v for k, v in state.items()}
    for k in (1, 2):
        tall, wide = f"BAM_{k}.BA.conv_1_h.weight", f"BAM_{k}.BA.conv_1_w.weight"
        result[tall], result[wide] = result[wide], result[tall]
    return result


BA, MID = "BAM_1.BA", SPEC.mid
MUTATIONS: dict[str, Callable[[State], State]] = {
    "blocks": lambda s: swapped(s, "BAM_1.", "BAM_2."),
    "strips 3 and 5": lambda s: swapped(s, f"{BA}.conv_3.", f"{BA}.conv_5."),
    "strips 5 and 7": lambda s: swapped(s, f"{BA}.conv_5.", f"{BA}.conv_7."),
    "refinement masks": lambda s: swapped(s, f"{BA}.mask_conv_1.", f"{BA}.mask_conv_2."),
    "dilations 1 and 3": lambda s: swapped(s, "BAM_1.content_conv_d1.", "BAM_1.content_conv_d3."),
    "dilations 3 and 5": lambda s: swapped(s, "BAM_1.content_conv_d3.", "BAM_1.content_conv_d5."),
    "second dilations 1 and 5": lambda s: swapped(s, "BAM_2.content_conv_d1_2.", "BAM_2.content_conv_d5_2."),
    "first and second group": lambda s: swapped(s, "BAM_1.content_conv_d3.", "BAM_1.content_conv_d3_2."),
    "order of the levels": lambda s: rolled(s, f"{BA}.fuse_conv.weight", MID),
    "order of the branches": lambda s: rolled(s, "BAM_1.fuse_conv_1.weight", MID),
    "attention before branches": lambda s: rolled(s, "BAM_1.final_conv.weight", SPEC.width),
    "skip before decoder": lambda s: rolled(s, "de_layer2.0.weight", SPEC.stem_width),
    "height and width": transposed,
    "rgb": lambda s: {**s, "en_layer1.0.weight": s["en_layer1.0.weight"].flip(1)},
    "flipped stamp": lambda s: {**s, "de_layer1.0.weight": s["de_layer1.0.weight"].flip(2, 3)},
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_exchanged_weights_break_parity(truth: tuple[State, torch.Tensor, np.ndarray], name: str) -> None:
    state, x, out = truth
    assert np.abs(fast(MUTATIONS[name](state), SPEC, x) - out).max() > BROKEN


def paper_pool(f: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The papers' eq. 2: stride floor(L/n), kernel L - (n-1)*stride; other bins than the adaptive ones."""
    stride = (f.shape[2] // size[0], f.shape[3] // size[1])
    kernel = tuple(f.shape[2 + i] - (size[i] - 1) * stride[i] for i in (0, 1))
    return F.avg_pool2d(f, kernel, stride)


def exact_nearest(strip: torch.Tensor, size: Any) -> torch.Tensor:
    """floor(n*j/L) in integers, as ONNX Resize computes it."""
    rows = torch.arange(size[0]) * strip.shape[2] // size[0]
    columns = torch.arange(size[1]) * strip.shape[3] // size[1]
    return strip[:, :, rows][..., columns]


def unshared(self: BlurAwareAttention, bins: int) -> tuple[Any, Any]:
    """The wide strip with the transposed kernel, as a network with one kernel per direction could have it."""
    if bins == 1:
        return self.conv_1_h, self.conv_1_w
    conv = getattr(self, f"conv_{bins}")
    return conv, lambda strip: F.conv2d(strip, conv.weight.transpose(2, 3), padding=1)


@pytest.mark.parametrize("name", ["paper's bins", "linear strips", "slope", "strips not shared", "relu for leaky"])
def test_another_wiring_breaks_parity(
    truth: tuple[State, torch.Tensor, np.ndarray], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    state, x, out = truth
    if name == "paper's bins":
        monkeypatch.setattr(F, "adaptive_avg_pool2d", paper_pool)
    elif name == "linear strips":
        monkeypatch.setattr(
            "unblur.networks.banet.network.stretch", lambda s, size: F.interpolate(s, size, mode="bilinear")
        )
    elif name == "slope":
        monkeypatch.setattr("unblur.networks.banet.network.NEGATIVE_SLOPE", 0.1)
    elif name == "strips not shared":
        monkeypatch.setattr(BlurAwareAttention, "strip_convs", unshared)
    else:
        monkeypatch.setattr(F, "leaky_relu", lambda y, *_: F.relu(y))
    assert np.abs(fast(state, SPEC, x) - out).max() > BROKEN


@pytest.mark.parametrize(("height", "width"), [(246, 4), (4, 410)])
def test_exact_integer_nearest_breaks_parity(monkeypatch: pytest.MonkeyPatch, height: int, width: int) -> None:
    spec = BANetSpec(depth=1, stem_width=2, width=2, fuse_width=1)
    state, x = asymmetric_state(spec), frame(height, width)
    monkeypatch.setattr("unblur.networks.banet.network.stretch", exact_nearest)
    assert np.abs(fast(state, spec, x) - slow(state, x)).max() > BROKEN


LENGTHS = (1, 2, 64, 123, 128, 205, 246, 287, 360, 410, 640, 1024)


@pytest.mark.parametrize("bins", [1, 3, 5, 7])
@pytest.mark.parametrize("other", [1, 60])  # torch has one kernel for small maps and another for large ones
def test_nearest_index_is_torchs_in_float32(bins: int, other: int) -> None:
    strip = torch.arange(bins, dtype=torch.float32).expand(1, 2, other, bins).contiguous()
    for length in LENGTHS:
        theirs = F.interpolate(strip, size=(other, length), mode="nearest")[0, 0, 0].long().tolist()
        assert nearest_index(length, bins).tolist() == theirs, length
        assert naive_banet.nearest_index(length, bins) == theirs, length


@pytest.mark.parametrize(("length", "bins"), [(123, 3), (246, 3), (205, 5), (287, 7)])
def test_nearest_index_is_not_the_exact_one(length: int, bins: int) -> None:
    """These are the sizes where float32 rounding shows; on others the test above could not tell."""
    assert nearest_index(length, bins).tolist() != [bins * j // length for j in range(length)]


@pytest.mark.parametrize("other", [2, 60])
@pytest.mark.parametrize(("length", "bins"), [(123, 3), (246, 3), (205, 5), (287, 7)])
def test_float64_reads_the_places_that_float32_reads(length: int, bins: int, other: int) -> None:
    tall = torch.arange(bins, dtype=torch.float32).expand(1, 1, other, bins)
    wide = tall.transpose(2, 3)
    assert torch.equal(stretch(tall.double(), (other, length)).float(), stretch(tall, (other, length)))
    assert torch.equal(stretch(wide.double(), (length, other)).float(), stretch(wide, (length, other)))


def published_keys(depth: int) -> list[str]:
    keys = [f"en_layer{i}.0.{part}" for i in (1, 2) for part in ("weight", "bias")]
    biased = ["input_conv", "fuse_conv_1", "final_conv"]
    biased += [f"content_conv_d{d}{suffix}" for suffix in ("", "_2") for d in (1, 3, 5)]
    biased += ["BA.conv_final", "BA.mask_conv_1", "BA.mask_conv_2"]
    bare = [f"BA.{name}" for name in ("conv_1_h", "conv_1_w", "conv_3", "conv_5", "conv_7", "fuse_conv")]
    for k in range(1, depth + 1):
        keys += [f"BAM_{k}.{name}.{part}" for name in biased for part in ("weight", "bias")]
        keys += [f"BAM_{k}.{name}.weight" for name in bare]
    return keys + [f"de_layer{i}.0.{part}" for i in (1, 2, 3) for part in ("weight", "bias")]


@pytest.mark.parametrize(("name", "parameters"), [("banet", 17_988_547), ("banet_plus", 40_768_131)])
def test_published_sizes_and_keys(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = build_network(name)
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(state) == 310
    assert sorted(state) == sorted(published_keys(10))


@pytest.mark.parametrize(("depth", "parameters"), [(4, 7_364_803), (8, 14_447_299), (12, 21_529_795)])
def test_published_sizes_of_the_shallower_stacks(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        network = BANet(BANetSpec(depth=depth))
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("shape", [(1, 3, 5, 6), (1, 3, 6, 5), (1, 4, 6, 6), (3, 6, 6)])
def test_a_wrong_shape_names_the_cure(shape: tuple[int, ...]) -> None:
    network = BANet(BANetSpec(depth=1, stem_width=1, width=2, fuse_width=1))
    with pytest.raises(InputError, match="even H and W"):
        network(torch.zeros(shape))


@pytest.mark.parametrize("values", [{"depth": 0}, {"width": 7}, {"stem_width": -1}, {"fuse_width": 0}])
def test_an_impossible_spec_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        BANetSpec(**values)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'banet_plus'"):
        build_network("banet_plsu")
    assert set(BANET.presets) == {"banet", "banet_plus", "banet_nano", "banet_s4", "banet_s8", "banet_s12"}
