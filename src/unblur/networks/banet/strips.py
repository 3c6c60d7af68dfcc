"""The constants behind strip pooling: bins, nearest indices, segments.

Adaptive average pooling along one axis of length L is a product with a constant matrix, and nearest upsampling
is a choice of indices; neither depends on the data. All four strip widths (1, 3, 5, 7) together are 16 columns.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unblur.images.contract import LONGEST_SIDE
from unblur.networks.banet.network import STRIP_BINS, nearest_index

LONGEST = LONGEST_SIDE // 2
"""Longest axis of a map in a dynamic graph, at half the frame's resolution."""


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


def late_lengths() -> Tensor:
    """(12, E) int32, filled up with 0: for row (n, k), 1 <= k < n, lengths at which `nearest_index` is late in bin k.

    A bin is entered where n j reaches k L. Elsewhere n j / L is too far from a whole number for float32 to round across
    it; there, since n divides L, it comes out a place late where n / L was rounded down: at 8 % of such lengths.
    """
    late = []
    for bins in STRIP_BINS:
        lengths = np.arange(bins, LONGEST + 1, bins)
        scale = np.float32(bins) / lengths.astype(np.float32)
        for k in range(1, bins):
            place = k * lengths // bins
            late.append(lengths[place.astype(np.float32) * scale < k])
    widest = max(map(len, late))
    return torch.from_numpy(np.stack([np.pad(row, (0, widest - len(row))) for row in late]).astype(np.int32))


def traced_axis(length: int, late: Tensor) -> tuple[Tensor, list[Tensor]]:
    """`pool_matrix`, and `nearest_index` of the strip widths over 1, as tensor operations, so that a dynamic graph
    computes them for the size it is given. `late`: of `late_lengths`.

    Whole numbers are compared, nothing is divided or rounded: a compiler that turns a / b into a * (1 / b), or computes
    in 16 bits, moves no bin. floor(i L / n) <= j is written i L < (j + 1) n, and j < ceil((i + 1) L / n) as
    j n < (i + 1) L. The upsampled bin of j is the number of k with j n >= k L, or > where float32 is late.
    """
    i, n = _rows(0)
    position = torch.arange(length)
    inside = (((position + 1) * n > i * length) & (position * n < (i + 1) * length)).to(torch.int64)
    k, n = _rows(1)
    entered = position * n >= k * length + (late == length).to(torch.int64).amax(dim=1, keepdim=True)
    widths = [bins - 1 for bins in STRIP_BINS if bins > 1]
    indices = [rows.sum(dim=0) for rows in torch.split(entered.to(torch.int64), widths)]
    return inside / inside.sum(dim=1, keepdim=True), indices


def _rows(first: int) -> tuple[Tensor, Tensor]:
    """Columns k and n of every row (n, k), first <= k < n."""
    pairs = torch.tensor([[k, bins] for bins in STRIP_BINS for k in range(first, bins)])
    return pairs[:, :1], pairs[:, 1:]
