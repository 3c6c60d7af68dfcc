"""The constants of strip pooling against torch's own operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unblur.networks.banet.network import STRIP_BINS
from unblur.networks.banet.strips import pool_matrix, segments, traced_nearest_index, traced_pool_matrix

LENGTHS = [*range(1, 140), 205, 246, 287, 360, 640]
STARTS = dict(zip(STRIP_BINS, (0, 1, 4, 9), strict=True))


def torch_nearest(length: int, bins: int) -> np.ndarray:
    source = torch.arange(bins, dtype=torch.float32).reshape(1, 1, 1, bins)
    return F.interpolate(source, (1, length), mode="nearest")[0, 0, 0].long().numpy()


@pytest.mark.parametrize("length", [8, 13, 45, 123, 360])
def test_pool_matrix_is_adaptive_average_pooling(length: int) -> None:
    x = torch.rand(1, 1, 1, length, dtype=torch.float64)
    for bins, start in STARTS.items():
        expected = F.adaptive_avg_pool2d(x, (1, bins))[0, 0, 0].numpy()
        got = pool_matrix(length)[start : start + bins] @ x[0, 0, 0].numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-15)


def test_dynamic_constants_are_the_fixed_ones() -> None:
    for length in LENGTHS:
        np.testing.assert_allclose(traced_pool_matrix(length).numpy(), pool_matrix(length), rtol=1e-7)
        for bins, index in zip(STRIP_BINS, traced_nearest_index(length), strict=True):
            np.testing.assert_array_equal(index.numpy(), torch_nearest(length, bins))


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
