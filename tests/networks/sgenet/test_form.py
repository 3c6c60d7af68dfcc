"""The export form is the network: float64 against float64, so that nothing hides in rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unblur.networks.sgenet.form import SGENetForm
from unblur.networks.sgenet.network import SGENet, SGENetSpec

TOLERANCE = 1e-11
"""Observed at most 3e-14 on outputs to 20."""

SPEC = SGENetSpec(widths=(12, 9, 15), modules=1)
TWO = SGENetSpec(widths=(3, 6), modules=2)
SIZES = [(4, 4), (8, 124), (44, 12), (52, 76), (236, 4), (68, 148)]


def asymmetric(spec: SGENetSpec) -> SGENet:
    generator = torch.Generator().manual_seed(12)
    network = SGENet(spec)
    with torch.no_grad():
        for parameter in network.parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(draw * (1.2 / parameter[0].numel() ** 0.5) if parameter.ndim == 4 else 0.2 + 0.1 * draw)
    return network.eval()


@torch.inference_mode()
def difference(form: nn.Module, network: nn.Module, size: tuple[int, int], flip: bool = False) -> float:
    x = torch.rand((1, 3, *size), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got: Tensor = form(x.flip(1))[0].flip(1) if flip else form(x)[0]
    return float((got - network(x)).abs().max())


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_form_is_the_network(size: tuple[int, int]) -> None:
    network = asymmetric(SPEC)
    assert difference(SGENetForm(network, size, False).eval(), network.double(), size) < TOLERANCE


def test_two_scales() -> None:
    network = asymmetric(TWO)
    assert difference(SGENetForm(network, None, False).eval(), network.double(), (8, 12)) < TOLERANCE


@pytest.mark.parametrize("spec", [SPEC, TWO])
def test_flipped_form_takes_and_gives_the_other_channel_order(spec: SGENetSpec) -> None:
    network = asymmetric(spec)
    form = SGENetForm(network, None, True).eval()
    assert difference(form, network.double(), (20, 28), flip=True) < TOLERANCE
    assert difference(form, network, (20, 28)) > 1e6 * TOLERANCE


def test_the_probe_is_the_first_stages_shallow_features() -> None:
    network = asymmetric(SPEC)
    x = torch.rand((1, 3, 20, 28), dtype=torch.float64)
    with torch.inference_mode():
        probe = SGENetForm(network, None, False).eval()(x)[1]
        assert float((probe - network.double().first_block(x)).abs().max()) < TOLERANCE


def test_slopes_are_constants() -> None:
    network = asymmetric(SPEC)
    form = SGENetForm(network, None, False)
    assert not any(isinstance(m, nn.PReLU) for m in form.modules())
    for name, module in network.named_modules():
        if isinstance(module, nn.PReLU):
            assert form.get_submodule(name).negative_slope == module.weight.item()


@pytest.mark.parametrize("name", [n for n, _ in SGENet(SPEC).named_parameters() if "acts" not in n])
def test_a_changed_layer_turns_the_comparison_red(name: str) -> None:
    network = asymmetric(SPEC)
    form = SGENetForm(network, None, False).eval()
    with torch.no_grad():
        network.get_parameter(name).add_(1e-3)
    assert difference(form, network.double(), (44, 60)) > 100 * TOLERANCE


def test_the_network_handed_in_is_not_changed() -> None:
    network = asymmetric(SPEC)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    SGENetForm(network, (32, 48), True)
    assert list(before) == list(network.state_dict())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
