"""From statistics of a tensor to its range: the five known ways.

Those that clip choose thresholds, and the range is [low, high] cut to them. On a symmetric grid ("s8", and 8-bit
floating point) only the larger end counts, so there is one threshold for |x|. "u8" spreads 256 levels over the range,
zero included: percentile and MSE cut each end by itself there, for what LeakyReLU leaves below zero is short, and a
threshold that suits the upper end never reaches it.
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
from unblur.graphs.rewrites.forms import OUTSIDE, Form
from unblur.graphs.rewrites.ranges import Range, Ranges, named_range

BEST = "best"
"""Asks for the algorithm that costs the fewest decibels."""


Grid = Literal["s8", "u8"]
CANDIDATES = 128
"""Thresholds that are tried, evenly spaced up to the peak."""

SMOOTHING = 1e-4
Floats = NDArray[np.float64]
Ends = tuple[float, float]
"""Low and high end of a range."""


@dataclass(frozen=True)
class Algorithm:
    """A way of choosing ranges. `outside`: the share of all values that percentile leaves out, of |x| on s8 and at each
    end on u8. Raises InputError for an unknown name or grid, and for a share that is none.
    """

    name: str
    grid: Grid = "s8"
    outside: float = OUTSIDE

    def __post_init__(self) -> None:
        if self.name not in ALGORITHMS:
            raise InputError(
                f"Unknown calibration algorithm {self.name!r}{nearest(self.name, ALGORITHMS)}; "
                f"known: {', '.join(ALGORITHMS)}."
            )
        if self.grid not in ("s8", "u8"):
            raise InputError(f"Unknown grid {self.grid!r}; known: s8 (symmetric), u8 (with a zero point).")
        if not 0 <= self.outside < 0.5:
            raise InputError(f"percentile: {self.outside} of all values outside; it is a share from 0 to below 0.5.")

    def __str__(self) -> str:
        share = f" {self.outside:g}" if self.name == "percentile" else ""
        return f"{self.name}{share} {self.grid}"

    @property
    def needs_histogram(self) -> bool:
        """Whether a second pass over the frames is needed."""
        return self.name not in ("minmax", "moving-average")

    def ranges(self, statistics: Mapping[str, TensorStatistics]) -> Ranges:
        """The range of every tensor. Raises InputError for an end that is not finite, naming the tensor."""
        choose = ALGORITHMS[self.name]
        ends = {name: choose(tensor, self) for name, tensor in statistics.items()}
        return Ranges(str(self), {name: named_range(name, pair) for name, pair in ends.items()})


def minmax(tensor: TensorStatistics, algorithm: Algorithm) -> Ends:
    """Everything that was seen (Jacob et al., CVPR 2018, for weights; the calibration of most runtimes)."""
    del algorithm
    return tensor.low, tensor.high


def moving_average(tensor: TensorStatistics, algorithm: Algorithm) -> Ends:
    """Moving averages of each frame's extremes, so that one frame cannot set them.

    Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
    CVPR 2018, section 3.1.
    """
    del algorithm
    return tensor.mean_low, tensor.mean_high


def percentile(tensor: TensorStatistics, algorithm: Algorithm) -> Ends:
    """The smallest threshold that leaves at most a share of all magnitudes outside; on u8 a threshold at each end.

    Wu et al., "Integer quantization for deep learning inference", arXiv 2004.09602, section 3.3, where 99.99 % is among
    the best for convolutional networks. Of a map that is zero but for that share nothing would be left, and the grid
    would be anybody's: it gets all that was seen.
    """
    counts, outside = _counts(tensor), algorithm.outside
    if algorithm.grid == "s8":
        inside = np.cumsum(folded(counts))
        ends = _cut(tensor, int(np.searchsorted(inside, (1 - outside) * inside[-1])) * tensor.peak / HALF_BINS)
    else:
        below, bins = np.cumsum(counts), centres(tensor.peak)
        low = bins[int(np.searchsorted(below, outside * below[-1], side="right"))]
        high = bins[int(np.searchsorted(below, (1 - outside) * below[-1]))]
        ends = _within(tensor, float(low), float(high))
    return ends if any(ends) else (tensor.low, tensor.high)


def mse(tensor: TensorStatistics, algorithm: Algorithm) -> Ends:
    """The thresholds with the least mean squared error after rounding to the grid, clipping included.

    As OMSE (Choukroun et al., "Low-bit quantization of neural networks for efficient inference", ICCV workshops 2019),
    by trying: each bin's centre is quantised as ONNX QuantizeLinear would. On u8 the ends are tried in turn, twice.
    """
    counts, grid = _counts(tensor), algorithm.grid
    used = np.flatnonzero(counts)
    values, weights = centres(tensor.peak)[used], counts[used].astype(np.float64)

    def error(ends: Ends) -> float:
        return float(weights @ np.square(values - quantised(values, Range(*ends), grid)))

    best = min((_cut(tensor, t) for t in _thresholds(tensor)), key=error)
    steps = [k / CANDIDATES for k in range(1, CANDIDATES + 1)]
    for _ in range(2 if grid == "u8" else 0):
        best = min((_within(tensor, best[0], step * tensor.high) for step in steps), key=error)
        best = min((_within(tensor, step * tensor.low, best[1]) for step in steps), key=error)
    return best


def entropy(tensor: TensorStatistics, algorithm: Algorithm) -> Ends:
    """The threshold whose quantised distribution diverges least (Kullback and Leibler) from the clipped one.

    Migacz, "8-bit inference with TensorRT", GTC 2017, slides 38 to 40; smoothing of empty bins as in MXNet and ONNX
    Runtime. s8: magnitudes in 2048 bins merged to 128 levels, as there; zero's bin is left out, since ReLU's zeros are
    exact at every scale and would outweigh all else. u8: the same with signed bins and 256 levels over the range.
    """
    counts = _counts(tensor).astype(np.float64)
    if algorithm.grid == "s8":
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


def _within(tensor: TensorStatistics, low: float, high: float) -> Ends:
    """Both ends inside what was seen, and in order."""
    low, high = max(tensor.low, min(low, tensor.high)), min(tensor.high, max(high, tensor.low))
    return min(low, high), max(low, high)


def _counts(tensor: TensorStatistics) -> Counts:
    if tensor.counts is None:
        raise InputError("This algorithm needs a histogram, and only the first pass was made; measure again with both.")
    return tensor.counts


ALGORITHMS: Mapping[str, Callable[[TensorStatistics, Algorithm], Ends]] = {
    "minmax": minmax,
    "moving-average": moving_average,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


DEFAULT_ALGORITHM = "percentile"
"""The best mean fidelity of five in every INT8 form on the bundled network: 52.8 to 57.4 dB where min-max has 45.4 to
52.0 (13 held-out frames of 256x256, as written); in FP8 within 0.1 dB of min-max."""


WITHOUT_GRID = ("minmax", "moving-average", "percentile")
"""What suits 8-bit floating point too: the others minimise errors on an integer grid."""


def algorithms_for(form: Form) -> tuple[str, ...]:
    """Algorithms that are meant for the form's type of activations."""
    return WITHOUT_GRID if form.precision == "fp8" else tuple(ALGORITHMS)


def check_algorithm(name: str, form: Form) -> Algorithm:
    """The algorithm on the form's grid. Raises InputError for an unknown one and for one the form has no use for."""
    grid: Grid = "u8" if form.activation.affine else "s8"
    algorithm = Algorithm(name, grid, form.outside)
    if name not in algorithms_for(form):
        raise InputError(
            f"{name} minimises errors on a grid of integers, which form {form.name} has not"
            f"{nearest(name, algorithms_for(form))}; take {', '.join(algorithms_for(form))}."
        )
    return algorithm
