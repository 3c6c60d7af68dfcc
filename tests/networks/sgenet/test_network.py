"""SGENet against a naive second implementation, the sizes of its specification, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from naive_sgenet import Naive
from torch import Tensor, nn

from unblur.core.errors import InputError
from unblur.networks.sgenet.network import Select, SGENet, SGENetSpec

TOLERANCE = 1e-11
"""Largest |difference| in float64. Observed: 2.8e-14 on outputs to 16."""

BROKEN = 1e-3
"""What every changed weight must exceed. Observed: 0.011 at least (seeds whose ReLUs let everything through)."""

SPEC = SGENetSpec(widths=(12, 9, 15), modules=2)
SMALL = SGENetSpec(widths=(12, 9, 15), modules=1)


def asymmetric(spec: SGENetSpec, seed: int = 12) -> SGENet:
    """Float64 weights, every element drawn alone; slopes too."""
    generator = torch.Generator().manual_seed(seed)
    network = SGENet(spec).double()
    with torch.no_grad():
        for parameter in network.parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(draw * (1.2 / parameter[0].numel() ** 0.5) if parameter.ndim == 4 else 0.2 + 0.1 * draw)
    return network.eval()


def frame(height: int, width: int) -> Tensor:
    return torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize(
    ("spec", "height", "width"),
    [
        (SPEC, 12, 20),
        (SMALL, 4, 4),
        (SMALL, 28, 8),
        (SGENetSpec((3, 6), 1), 8, 12),
    ],
)
@torch.inference_mode()
def test_agrees_with_the_naive_network(spec: SGENetSpec, height: int, width: int) -> None:
    network, x = asymmetric(spec), frame(height, width)
    naive = Naive({key: value.numpy() for key, value in network.state_dict().items()}).pictures(x[0].numpy())
    pictures = network.pictures(x)
    assert [len(stage) for stage in pictures] == [len(stage) for stage in naive] == [len(spec.widths)] * 2
    for got, expected in zip([*pictures[0], *pictures[1]], [*naive[0], *naive[1]], strict=True):
        assert np.abs(got[0].numpy() - expected).max() <= TOLERANCE
    assert torch.equal(network(x), pictures[1][0])
    assert np.abs(naive[1][0] - x[0].numpy()).mean() > 0.1, "parity on dead activations would prove nothing"


@pytest.mark.parametrize("key", [key for key in sorted(SGENet(SMALL).state_dict()) if "acts" not in key])
@torch.inference_mode()
def test_a_changed_weight_breaks_parity(key: str) -> None:
    network, x = asymmetric(SMALL), frame(28, 44)  # a quarter of it holds the widest dilation
    before = network(x)
    weight = network.get_parameter(key).view(len(network.get_parameter(key)), -1)
    weight[:, weight.shape[1] // 3] += 0.05  # of every output: some are cut off by their ReLU
    assert float((network(x) - before).abs().max()) > BROKEN


@torch.inference_mode()
def test_selection_agrees_with_the_naive_one_where_its_slopes_count() -> None:
    select = Select(48).double()
    generator = torch.Generator().manual_seed(2)
    for parameter in select.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    features = [torch.randn((1, 48, 4, 5), generator=generator, dtype=torch.float64) for _ in range(3)]
    weights = {f"select.{key}": value.numpy() for key, value in select.state_dict().items()}
    expected = Naive(weights).select([f[0].numpy() for f in features], "select")
    assert np.abs(select(features)[0].numpy() - expected).max() <= TOLERANCE
    for act in select.acts:
        before = select(features)
        act.weight += 0.05
        assert float((select(features) - before).abs().max()) > BROKEN


def test_parameters_of_the_published_widths() -> None:
    with torch.device("meta"):
        network = SGENet(SGENetSpec())

    def count(*modules: nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    assert count(network) == 19_521_658
    assert count(network.shallow_1, network.act) == 173_089
    assert count(network.stage_1.encoder[0][0]) == 48 * 96**2
    assert count(network.stage_2.select) == 22_185
    assert count(network.sam) == 9_792


def test_shapes_of_the_published_widths() -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    network = SGENet(SGENetSpec())
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    with torch.inference_mode():
        network(torch.rand(1, 3, 16, 12))
    assert len(shapes) == sum(isinstance(m, nn.Conv2d) for m in network.modules())
    assert shapes["stage_1.encoder.0.1.last"] == (96, 16, 12)
    assert shapes["stage_1.down.0"] == shapes["stage_2.enhance.1.fuse"] == (120, 8, 6)
    assert shapes["stage_2.encoder.2.0.fuse"] == shapes["stage_1.decoder.2.1.first"] == (144, 4, 3)
    assert shapes["stage_2.enhance.1.restore"] == (3, 8, 6)
    assert shapes["stage_2.select.2.squeeze.1"] == (18, 1, 1)
    assert shapes["shallow_1.squeeze"] == (24, 1, 1)
    assert shapes["tail"] == (3, 16, 12)


@pytest.mark.parametrize("shape", [(1, 3, 10, 12), (1, 3, 12, 10), (1, 1, 8, 8), (3, 8, 8)])
def test_refuses_sizes_that_it_cannot_take(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="multiples of 4"):
        SGENet(SPEC)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("widths", "modules", "reason"),
    [((6, 8), 1, "a width is 8"), ((6,), 1, "1 scales"), ((6, 6, 6, 6), 1, "4 scales"), ((6, 9), 0, "0 modules")],
)
def test_refuses_specs_that_cannot_be(widths: tuple[int, ...], modules: int, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        SGENetSpec(widths, modules)
