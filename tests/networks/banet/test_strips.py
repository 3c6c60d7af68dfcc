"""The constants of strip pooling against torch's own operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unblur.networks.banet.network import STRIP_BINS
from unblur.networks.banet.strips import (
    LONGEST,
    late_lengths,
    pool_matrix,
    segments,
    traced_axis,
)

LENGTHS = [*range(1, 140), 205, 246, 287, 360, 640]
FAR = [length for start in (8190, LONGEST - 12) for length in range(start, start + 13)]
STARTS = dict(zip(STRIP_BINS, (0, 1, 4, 9), strict=True))


def torch_nearest(length: int, bins: int) -> torch.Tensor:
    source = torch.arange(bins, dtype=torch.float32).reshape(1, 1, 1, bins)
    return F.interpolate(source, (1, length), mode="nearest")[0, 0, 0].long()


@pytest.mark.parametrize("length", [8, 13, 45, 123, 360])
def test_pool_matrix_is_adaptive_average_pooling(length: int) -> None:
    x = torch.rand(1, 1, 1, length, dtype=torch.float64)
    for bins, start in STARTS.items():
        expected = F.adaptive_avg_pool2d(x, (1, bins))[0, 0, 0].numpy()
        got = pool_matrix(length)[start : start + bins] @ x[0, 0, 0].numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-15)


def test_dynamic_constants_are_the_fixed_ones_at_every_length() -> None:
    late = late_lengths()
    for length in (*range(1, 4200), *FAR):
        pool, indices = traced_axis(length, late)
        if length in LENGTHS:
            np.testing.assert_allclose(pool.numpy(), pool_matrix(length), rtol=1e-7)
        for bins, index in zip(STRIP_BINS[1:], indices, strict=True):
            assert not index.is_floating_point()
            assert torch.equal(index, torch_nearest(length, bins)), (length, bins)


def test_where_float32_is_late_is_known_to_the_longest_axis() -> None:
    """By torch's arithmetic at the one place of a length where an index may be late: n j = k L."""
    late = late_lengths()
    assert len(late) == sum(bins - 1 for bins in STRIP_BINS)
    rows = iter(late)
    for bins in STRIP_BINS:
        lengths = torch.arange(bins, LONGEST + 1, bins)
        scale = torch.tensor(bins, dtype=torch.float32) / lengths.to(torch.float32)
        for k in range(1, bins):
            index = torch.floor((lengths // bins * k).to(torch.float32) * scale)
            stated = next(rows)
            found = lengths[index < k]
            assert torch.equal(stated[stated > 0].long(), found)
            assert len(found) < 0.13 * len(lengths)


def test_segments_give_torchs_nearest_index_for_every_length() -> None:
    for length in LENGTHS:
        coarse, fine = segments(length)
        assert len(coarse[0]) <= 13
        for bins, index in zip(STRIP_BINS, coarse, strict=True):
            np.testing.assert_array_equal(index[fine], torch_nearest(length, bins))


def test_float32_index_differs_from_exact_arithmetic_where_the_reference_says() -> None:
    for length in (123, 205, 246, 287):
        exact = [j * bins // length for bins in STRIP_BINS for j in range(length)]
        float32 = [int(i) for bins in STRIP_BINS for i in torch_nearest(length, bins)]
        assert exact != float32
