"""The export form is the network: float64 against float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unblur.networks.banet.network import STRIP_BINS, nearest_index
from unblur.networks.banet.strips import late_lengths
from unblur.networks.banet_v1.form import BANetV1Form, DynamicAxis, FixedAxis, spread_matrix
from unblur.networks.banet_v1.network import BANetV1, BANetV1Spec

TOLERANCE = 1e-12  # observed at most 4e-15 on outputs of size 5

SIZES = [(16, 16), (34, 58), (62, 94), (246, 16), (16, 410), (2, 6)]


@pytest.fixture(autouse=True)
def float64_by_default() -> Iterator[None]:
    """So that what a form of every size computes of whole numbers is float64 too."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def drawn() -> BANetV1:
    torch.manual_seed(5)
    network = BANetV1(BANetV1Spec(depth=2, stem_width=4, entry_width=6, width=8)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0.02, 1.2 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.2)
    return network


def difference(form: torch.nn.Module, network: BANetV1, size: tuple[int, int]) -> float:
    x = torch.rand((1, 3, *size), generator=torch.Generator().manual_seed(1)) - 0.5
    with torch.inference_mode():
        return float((form(x)[0] - network(x)).abs().max())


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_form_is_the_network(size: tuple[int, int], dynamic: bool) -> None:
    network = drawn()
    assert difference(BANetV1Form(network, None if dynamic else size, False), network, size) < TOLERANCE


@pytest.mark.parametrize("name", sorted(n for n, _ in drawn().named_parameters() if "BAM_1" in n))
def test_one_changed_weight_turns_the_comparison_red(name: str) -> None:
    network = drawn()
    form = BANetV1Form(network, (32, 48), False)
    with torch.no_grad():
        network.get_parameter(name).view(-1)[0] += 1e-2
    assert difference(form, network, (32, 48)) > 100 * TOLERANCE


@pytest.mark.parametrize("length", [1, 2, 5, 7, 64, 123, 205, 246, 287, 360])
def test_a_place_reads_what_its_neighbours_read(length: int) -> None:
    """Against torch: a kernel of one tap, left, in the middle or right, on the stretched strip."""
    rows = iter(spread_matrix(length))
    for bins in STRIP_BINS:
        stretched = F.one_hot(nearest_index(length, bins), bins).double().t()[None]
        for tap in range(3):
            kernel = torch.zeros(bins, 1, 3)
            kernel[:, 0, tap] = 1
            for row in F.conv1d(stretched, kernel, padding=1, groups=bins)[0]:
                np.testing.assert_array_equal(next(rows), row.numpy())


def test_constants_of_every_size_are_the_fixed_ones() -> None:
    dynamic = DynamicAxis()
    assert torch.equal(dynamic.get_buffer("late"), late_lengths())
    for length in (*range(1, 130), 205, 246, 287, 360, 640):
        _, (spread,), _ = dynamic(length)
        _, (segments,), fine = FixedAxis(length)(length)
        assert fine is not None
        assert segments.shape[1] <= 39
        assert torch.equal(spread, segments[:, fine])
        np.testing.assert_array_equal(spread.numpy(), spread_matrix(length))


def test_flipped_form_takes_and_gives_the_other_channel_order() -> None:
    network = drawn()
    x = torch.rand((1, 3, 32, 48)) - 0.5
    with torch.inference_mode():
        got = BANetV1Form(network, (32, 48), True)(x.flip(1))[0].flip(1)
        assert float((got - network(x)).abs().max()) < TOLERANCE
