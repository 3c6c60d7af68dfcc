"""Counts of a map's values over centred bins, fast and in little memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

HALF_BINS = 4096
"""Bins on each side of zero. Over a range of full width that is 32 bins for each of the 127 positive levels of a
signed byte, and 2048 pairs of bins, the resolution of TensorRT's entropy calibrator."""

BINS = 2 * HALF_BINS + 1
CHUNK = 1 << 16
"""Values counted at once: their indices stay in the cache, and no copy of a map is made."""

SMALLEST_PEAK = 2.0**-100
"""Below it a tensor is taken for all zero: the bins would be too narrow for float32."""

Counts = NDArray[np.int64]
"""(BINS,): how many values round to k * peak / HALF_BINS, for k from -HALF_BINS to HALF_BINS. Zero has a bin of its
own centre: the zeros that ReLU makes are counted where they are."""


def add_counts(counts: Counts, values: NDArray[np.float32], peak: float) -> None:
    """Add the values of a map, of magnitude `peak` at most, to `counts` in place.

    What lies beyond the outermost bin's centre by rounding only is counted in it.
    """
    flat = values.reshape(-1)
    if peak < SMALLEST_PEAK:
        counts[HALF_BINS] += flat.size
        return
    scale = np.float32(HALF_BINS / peak)
    shifted, index = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.intp)
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK]
        size = chunk.size
        np.multiply(chunk, scale, out=shifted[:size])
        shifted[:size] += np.float32(HALF_BINS + 0.5)  # positive now, so cutting off the fraction rounds
        np.copyto(index[:size], shifted[:size], casting="unsafe")
        counts += np.bincount(index[:size], minlength=BINS)


def centres(peak: float) -> NDArray[np.float64]:
    """(BINS,): the value that each bin stands for."""
    return np.arange(-HALF_BINS, HALF_BINS + 1, dtype=np.float64) * (peak / HALF_BINS)


def folded(counts: NDArray[Any]) -> NDArray[Any]:
    """(HALF_BINS + 1,): counts of |value|; the first bin is zero's."""
    right = counts[HALF_BINS:].copy()
    right[1:] += counts[HALF_BINS - 1 :: -1]
    return right
