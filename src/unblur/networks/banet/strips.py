"""The constants behind strip pooling: bins, nearest indices, segments.

Adaptive average pooling along one axis of length L is a product with a constant matrix, and nearest upsampling
is a choice of indices; neither depends on the data. All four strip widths (1, 3, 5, 7) together are 16 columns.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unblur.networks.banet.network import STRIP_BINS, nearest_index


def pool_matrix(length: int) -> NDArray[np.float64]:
    """(16, length): row (n, i) averages bin i of n, [floor(i L / n), ceil((i+1) L / n)), as torch's
    adaptive_avg_pool2d does; bins overlap by one pixel where n does not divide L."""
    rows = []
    for bins in STRIP_BINS:
        for i in range(bins):
            start, end = i * length // bins, -(-(i + 1) * length // bins)
            row = np.zeros(length)
            row[start:end] = 1.0 / (end - start)
            rows.append(row)
    return np.stack(rows)


def segments(length: int) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Where the upsampled strips of all widths together are constant along the axis: at most 13 segments.

    Returns, for each strip width, the bin of each segment (S,), and the segment of each position (length,).
    """
    index = np.stack([nearest_index(length, bins).numpy() for bins in STRIP_BINS], axis=1)
    distinct, segment = np.unique(index, axis=0, return_inverse=True)
    return [distinct[:, k].copy() for k in range(len(STRIP_BINS))], segment.reshape(-1)


def traced_pool_matrix(length: int) -> Tensor:
    """`pool_matrix` as tensor operations, so that a dynamic graph computes it for the size it is given.

    floor(i L / n) <= j is written i L < (j + 1) n, and j < ceil((i+1) L / n) as j n < (i+1) L: no division, and
    int64 throughout.
    """
    i = torch.tensor([[i] for bins in STRIP_BINS for i in range(bins)])
    n = torch.tensor([[bins] for bins in STRIP_BINS for _ in range(bins)])
    scaled = torch.arange(length) * n
    inside = ((scaled + n > i * length) & (scaled < (i + 1) * length)).to(torch.float32)
    return inside / inside.sum(dim=1, keepdim=True)


def traced_nearest_index(length: int) -> list[Tensor]:
    """`nearest_index` of every strip width as tensor operations, in float32 as torch computes it."""
    bins = torch.tensor([[n] for n in STRIP_BINS], dtype=torch.float32)
    position = torch.arange(length).to(torch.float32)
    index = torch.floor(position * (bins / (position[-1:] + 1)))
    return list(torch.minimum(index, bins - 1).to(torch.int64).unbind())
