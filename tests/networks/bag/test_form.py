"""The export form is the network: float64 against float64, so that nothing hides in rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unblur.networks.bag.form import BAGForm
from unblur.networks.bag.network import BAGSpec, Generator

TOLERANCE = 1e-12
"""Observed at most 7e-15 on outputs to 2."""

SPEC = BAGSpec(stem=2, depth=2, layers=3, growth=3)
SIZES = [(4, 4), (8, 8), (8, 124), (44, 12), (52, 76), (236, 8), (68, 148)]


def asymmetric(spec: BAGSpec) -> Generator:
    generator = torch.Generator().manual_seed(7)
    network = Generator(spec)
    with torch.no_grad():
        for parameter in network.parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(draw * (1.2 / parameter[0].numel() ** 0.5) if parameter.ndim == 4 else 0.3 * draw)
    return network.eval()


@torch.inference_mode()
def difference(form: nn.Module, network: nn.Module, size: tuple[int, int], flip: bool = False) -> float:
    x = torch.rand((1, 3, *size), dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    got: Tensor = form(x.flip(1))[0].flip(1) if flip else form(x)[0]
    return float((got - network(x)).abs().max())


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("spec", [SPEC, BAGSpec(stem=1, depth=1, layers=1, growth=1)], ids=["deep", "shallow"])
def test_form_is_the_network(spec: BAGSpec, size: tuple[int, int]) -> None:
    network = asymmetric(spec)
    assert difference(BAGForm(network, size, False).eval(), network.double(), size) < TOLERANCE


def test_flipped_form_takes_and_gives_the_other_channel_order() -> None:
    network = asymmetric(SPEC)
    form = BAGForm(network, None, True).eval()
    assert difference(form, network.double(), (20, 28), flip=True) < TOLERANCE
    assert difference(form, network, (20, 28)) > 1e6 * TOLERANCE


def test_the_probe_is_the_first_module() -> None:
    network = asymmetric(SPEC)
    x = torch.rand((1, 3, 20, 28), dtype=torch.float64)
    with torch.inference_mode():
        probe = BAGForm(network, None, False).eval()(x)[1]
        assert float((probe - network.double().first_block(x)).abs().max()) < TOLERANCE


def test_dead_biases_are_gone_where_they_cost() -> None:
    form = BAGForm(asymmetric(SPEC), None, False)
    biased = {name for name, m in form.named_modules() if getattr(m, "bias", None) is not None}
    of_blocks = {f"blocks.{k}.{name}.conv" for k in (0, 1) for name in ("attention", "transition")}
    assert biased == {"decoder.2", *of_blocks}


def test_the_mean_of_a_frame_is_gone_before_anything_rounds() -> None:
    """So a dark, even picture keeps in float32 what a bright one keeps."""
    network = asymmetric(SPEC)
    form = BAGForm(network, None, False).float().eval()
    x = 1e-3 * torch.rand((1, 3, 20, 28), dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.9
    with torch.inference_mode():
        single, by_form = network(x.float()).double(), form(x.float())[0].double()
        exact = network.double()(x)
    assert float((by_form - exact).abs().max()) < 0.25 * float((single - exact).abs().max())


@pytest.mark.parametrize("name", [n for n, p in Generator(SPEC).named_parameters() if p.ndim == 4])
def test_one_changed_weight_turns_the_comparison_red(name: str) -> None:
    network = asymmetric(SPEC)
    form = BAGForm(network, None, False).eval()
    with torch.no_grad():
        network.get_parameter(name).view(-1)[0] += 1e-3
    assert difference(form, network.double(), (20, 28)) > 100 * TOLERANCE


def test_the_network_handed_in_is_not_changed() -> None:
    network = asymmetric(SPEC)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    BAGForm(network, (32, 48), True)
    assert list(before) == list(network.state_dict())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
