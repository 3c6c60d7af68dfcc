"""From statistics of a tensor to its range: the five known ways.

Those that clip choose one threshold t for |x| and the range is [low, high] cut to [-t, t]. It serves both grids:
"s8" is signed and symmetric, so that only the larger end counts; "u8" spreads 256 levels over the range, zero included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unblur.calibration.histogram import HALF_BINS, Counts, centres, folded
from unblur.calibration.statistics import TensorStatistics
from unblur.core.errors import InputError, nearest
from unblur.graphs.rewrites.forms import Form
from unblur.graphs.rewrites.ranges import Range, Ranges, named_range

BEST = "best"
"""Asks for the algorithm that costs the fewest decibels."""


Grid = Literal["s8", "u8"]
PERCENTILE = 99.99
CANDIDATES = 128
"""Thresholds that are tried, evenly spaced up to the peak."""

SMOOTHING = 1e-4
Floats = NDArray[np.float64]
Ends = tuple[float, float]
"""Low and high end of a range."""


@dataclass(frozen=True)
class Algorithm:
    """A way of choosing ranges. Raises InputError for an unknown name or grid."""

    name: str
    grid: Grid = "s8"

    def __post_init__(self) -> None:
        if self.name not in ALGORITHMS:
            raise InputError(
                f"Unknown calibration algorithm {self.name!r}{nearest(self.name, ALGORITHMS)}; "
                f"known: {', '.join(ALGORITHMS)}."
            )
        if self.grid not in ("s8", "u8"):
            raise InputError(f"Unknown grid {self.grid!r}; known: s8 (symmetric), u8 (with a zero point).")

    def __str__(self) -> str:
        return f"{self.name} {self.grid}"

    @property
    def needs_histogram(self) -> bool:
        """Whether a second pass over the frames is needed."""
        return self.name not in ("minmax", "moving-average")

    def ranges(self, statistics: Mapping[str, TensorStatistics]) -> Ranges:
        """The range of every tensor. Raises InputError for an end that is not finite, naming the tensor."""
        choose = ALGORITHMS[self.name]
        ends = {name: choose(tensor, self.grid) for name, tensor in statistics.items()}
        return Ranges(str(self), {name: named_range(name, pair) for name, pair in ends.items()})


def minmax(tensor: TensorStatistics, grid: Grid) -> Ends:
    """Everything that was seen (Jacob et al., CVPR 2018, for weights; the calibration of most runtimes)."""
    del grid
    return tensor.low, tensor.high


def moving_average(tensor: TensorStatistics, grid: Grid) -> Ends:
    """Moving averages of each frame's extremes, so that one frame cannot set them.

    Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
    CVPR 2018, section 3.1.
    """
    del grid
    return tensor.mean_low, tensor.mean_high


def percentile(tensor: TensorStatistics, grid: Grid) -> Ends:
    """The smallest threshold that leaves at most 0.01 % of all magnitudes outside.

    Wu et al., "Integer quantization for deep learning inference", arXiv 2004.09602, section 3.3, where 99.99 is among
    the best for convolutional networks.
    """
    del grid
    magnitudes = folded(_counts(tensor))
    inside = np.cumsum(magnitudes)
    k = int(np.searchsorted(inside, PERCENTILE / 100 * inside[-1]))
    return _cut(tensor, k * tensor.peak / HALF_BINS)


def mse(tensor: TensorStatistics, grid: Grid) -> Ends:
    """The threshold with the least mean squared error after rounding to the grid, clipping included.

    As OMSE (Choukroun et al., "Low-bit quantization of neural networks for efficient inference", ICCV workshops 2019),
    by trying: each bin's centre is quantised as ONNX QuantizeLinear would.
    """
    counts = _counts(tensor)
    used = np.flatnonzero(counts)
    values, weights = centres(tensor.peak)[used], counts[used].astype(np.float64)
    errors = []
    candidates = [_cut(tensor, t) for t in _thresholds(tensor)]
    for ends in candidates:
        errors.append(float(weights @ np.square(values - quantised(values, Range(*ends), grid))))
    return candidates[int(np.argmin(errors))]


def entropy(tensor: TensorStatistics, grid: Grid) -> Ends:
    """The threshold whose quantised distribution diverges least (Kullback and Leibler) from the clipped one.

    Migacz, "8-bit inference with TensorRT", GTC 2017, slides 38 to 40; smoothing of empty bins as in MXNet and ONNX
    Runtime. s8: magnitudes in 2048 bins merged to 128 levels, as there; zero's bin is left out, since ReLU's zeros are
    exact at every scale and would outweigh all else. u8: the same with signed bins and 256 levels over the range.
    """
    counts = _counts(tensor).astype(np.float64)
    if grid == "s8":
        bins, levels, zero = folded(counts)[1:].reshape(-1, 2).sum(1), 128, 0
    else:
        left, right = counts[HALF_BINS - 1 :: -1].reshape(-1, 2).sum(1), counts[HALF_BINS + 1 :].reshape(-1, 2).sum(1)
        bins, levels, zero = np.concatenate([left[::-1], right]), 256, len(left)
    if not bins.any():
        return tensor.low, tensor.high
    half = HALF_BINS // 2
    occupied = np.flatnonzero(bins)
    first, last = int(occupied[0]), int(occupied[-1]) + 1
    best, threshold = np.inf, tensor.peak
    for t in _thresholds(tensor):
        reach = round(t / tensor.peak * half)
        start, end = max(first, zero - reach) if zero else 0, min(last, zero + reach)
        if end - start < levels and reach < half:
            continue  # fewer bins than levels: nothing would be merged, and the divergence says nothing
        found = divergence(bins, start, end, levels)
        if found < best:
            best, threshold = found, t
    return _cut(tensor, threshold)


def divergence(bins: Floats, start: int, end: int, levels: int) -> float:
    """KL divergence of bins[start:end], its ends holding all that is clipped, from itself merged to `levels`."""
    inside = bins[start:end]
    clipped = inside.copy()
    clipped[0] += bins[:start].sum()
    clipped[-1] += bins[end:].sum()
    edges = np.unique(np.arange(levels) * len(inside) // levels)
    used = inside > 0
    occupied = np.add.reduceat(used, edges, dtype=np.int64)
    mass = np.add.reduceat(inside, edges)
    spread = np.repeat(mass / np.maximum(occupied, 1), np.diff([*edges, len(inside)])) * used
    if not spread.any():
        return float("inf")
    p, q = _smoothed(clipped), _smoothed(spread)
    return float(np.sum(p * np.log(p / q)))


def quantised(values: Floats, chosen: Range, grid: Grid) -> Floats:
    """Values after QuantizeLinear and DequantizeLinear: rounded half to even, saturated."""
    if grid == "s8":
        scale = chosen.symmetric_scale()
        return np.asarray(np.clip(np.rint(values / scale), -128, 127) * scale)
    scale, zero = chosen.affine()
    return np.asarray((np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale)


def _smoothed(bins: Floats) -> Floats:
    """A distribution without empty bins: each gets a little, taken from the others in proportion."""
    empty = bins == 0
    smooth = np.where(empty, SMOOTHING / len(bins), bins / bins.sum())
    return np.asarray(smooth / smooth.sum())


def _thresholds(tensor: TensorStatistics) -> list[float]:
    """Candidates for t, the peak last; none below every magnitude that was seen."""
    least = max(tensor.low, -tensor.high, 0.0)
    below = [k * tensor.peak / CANDIDATES for k in range(1, CANDIDATES)]
    return [*(t for t in below if t > least), tensor.peak]


def _cut(tensor: TensorStatistics, threshold: float) -> Ends:
    low, high = max(tensor.low, -threshold), min(tensor.high, threshold)
    return min(low, tensor.high), max(high, tensor.low)


def _counts(tensor: TensorStatistics) -> Counts:
    if tensor.counts is None:
        raise InputError("This algorithm needs a histogram, and only the first pass was made; measure again with both.")
    return tensor.counts


ALGORITHMS: Mapping[str, Callable[[TensorStatistics, Grid], Ends]] = {
    "minmax": minmax,
    "moving-average": moving_average,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


DEFAULT_ALGORITHM = "percentile"
"""The best mean fidelity of five in every INT8 form on the bundled network: 52.2 to 56.0 dB where min-max has 44.9 to
51.2 (4 held-out frames of 256x256); in FP8 0.4 dB behind min-max."""


WITHOUT_GRID = ("minmax", "moving-average", "percentile")
"""What suits 8-bit floating point too: the others minimise errors on an integer grid."""


def algorithms_for(form: Form) -> tuple[str, ...]:
    """Algorithms that are meant for the form's type of activations."""
    return WITHOUT_GRID if form.precision == "fp8" else tuple(ALGORITHMS)


def check_algorithm(name: str, form: Form) -> Algorithm:
    """The algorithm on the form's grid. Raises InputError for an unknown one and for one the form has no use for."""
    grid: Grid = "u8" if form.activation.affine else "s8"
    algorithm = Algorithm(name, grid)
    if name not in algorithms_for(form):
        raise InputError(
            f"{name} minimises errors on a grid of integers, which form {form.name} has not"
            f"{nearest(name, algorithms_for(form))}; take {', '.join(algorithms_for(form))}."
        )
    return algorithm
