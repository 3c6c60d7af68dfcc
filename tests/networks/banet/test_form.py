"""The export form is the network: float64 against float64, so that nothing hides in rounding."""

from __future__ import annotations

import pytest
import torch
from tiny_banet import TINY, asymmetric

from unblur.networks.banet.form import BANetForm
from unblur.networks.banet.network import BANet, BANetSpec

TOLERANCE = 1e-12  # observed at most 3e-15 on outputs of size 10

SIZES = [(16, 16), (34, 58), (62, 94), (246, 16), (16, 410), (2, 6)]


def difference(form: torch.nn.Module, network: torch.nn.Module, size: tuple[int, int]) -> float:
    x = torch.rand((1, 3, *size), dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.5
    with torch.inference_mode():
        return float((form(x)[0] - network(x)).abs().max())


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize(
    "spec", [TINY, BANetSpec(depth=1, stem_width=4, width=12, fuse_width=12)], ids=["q=mid", "q=width"]
)
def test_form_is_the_network(spec: BANetSpec, size: tuple[int, int]) -> None:
    network = asymmetric(spec)
    assert difference(BANetForm(network, size, False), network.double(), size) < TOLERANCE


def test_flipped_form_takes_and_gives_the_other_channel_order() -> None:
    network = asymmetric(TINY)
    form = BANetForm(network, (32, 48), True)
    x = torch.rand((1, 3, 32, 48), dtype=torch.float64) - 0.5
    with torch.inference_mode():
        assert float((form(x.flip(1))[0].flip(1) - network.double()(x)).abs().max()) < TOLERANCE


@pytest.mark.parametrize("name", [name for name, _ in BANet(TINY).named_parameters() if "BAM_1" in name])
def test_one_changed_weight_turns_the_comparison_red(name: str) -> None:
    network = asymmetric(TINY)
    form = BANetForm(network, (32, 48), False)
    with torch.no_grad():
        network.get_parameter(name).view(-1)[0] += 1e-3
    assert difference(form, network.double(), (32, 48)) > 100 * TOLERANCE


def test_the_network_handed_in_is_not_changed() -> None:
    network = asymmetric(TINY)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    BANetForm(network, (32, 48), True)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())
