"""The export form is the network: float64 against float64."""

from __future__ import annotations

import pytest
import torch

from unblur.networks.saphn.form import SAPHNForm, exponentials
from unblur.networks.saphn.network import SAPHNetwork, SAPHNSpec

TOLERANCE = 1e-13  # observed at most 2e-15 on outputs of size 2

SIZES = [(8, 8), (16, 24), (88, 40), (136, 104), (8, 104)]
"""Multiples of 8 whose quotients are 1, primes, or far apart."""


def drawn(offsets: bool) -> SAPHNetwork:
    torch.manual_seed(5)
    network = SAPHNetwork(SAPHNSpec(offsets, stem_width=3, middle_width=4, width=6, blocks=1)).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0.0, 0.6 / parameter[0].numel() ** 0.5)
        else:  # positive, lest a ReLU be dead everywhere
            torch.nn.init.normal_(parameter, 0.25, 0.15)
    return network


@pytest.fixture(scope="module", params=[False, True], ids=["a", "b"])
def network(request: pytest.FixtureRequest) -> SAPHNetwork:
    return drawn(request.param)


def frame(size: tuple[int, int]) -> torch.Tensor:
    return torch.rand((1, 3, *size), dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.5


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_form_is_the_network(network: SAPHNetwork, size: tuple[int, int], dynamic: bool) -> None:
    x, double = frame(size), SAPHNetwork(network.spec).double()
    double.load_state_dict(network.state_dict())
    with torch.inference_mode():
        restored, lowest = SAPHNForm(network, None if dynamic else size, False)(x)
        assert float((restored - double(x)).abs().max()) < TOLERANCE
        assert float((lowest - double.lowest_level(x)).abs().max()) < TOLERANCE


def test_flipped_form_takes_and_gives_the_other_channel_order(network: SAPHNetwork) -> None:
    x = frame((32, 48))
    with torch.inference_mode():
        one, other = SAPHNForm(network, (32, 48), False)(x)[0], SAPHNForm(network, (32, 48), True)(x.flip(1))[0]
    assert float((other.flip(1) - one).abs().max()) < TOLERANCE


@pytest.mark.parametrize("name", sorted(name for name, _ in drawn(True).named_parameters()))
def test_a_changed_tensor_turns_the_comparison_red(name: str) -> None:
    network = drawn(True)
    x, size = frame((16, 24)), (16, 24)
    form = SAPHNForm(network, size, False)
    with torch.no_grad():
        network.get_parameter(name).mul_(1.1)
    with torch.inference_mode():
        difference = float((form(x)[0] - network.double()(x)).abs().max())
    # A softmax does not see what is added to all places alike: that bias is dead in the network too.
    assert difference < TOLERANCE if name.endswith("gather.bias") else difference > 100 * TOLERANCE


@pytest.mark.parametrize("peak", [0.0, 30.0], ids=["plain", "peak"])
def test_sums_of_attention_stay_within_16_bits(peak: float) -> None:
    """720p has 57,600 places, the largest frame 2^24: summed they overflow FP16, a share of each is subnormal there."""
    b = torch.zeros(1, 2, 180, 320, dtype=torch.float64)
    b[..., 90, 7] = peak
    total = exponentials(b).sum(dim=2)
    places = 180 * 320
    expected = places**0.5 if peak == 0 else places**-0.5
    torch.testing.assert_close(total, torch.full_like(total, expected), rtol=1e-6, atol=0)


def test_the_network_handed_in_is_not_changed(network: SAPHNetwork) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    SAPHNForm(network, (16, 16), True)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())
