"""Statistics of latency samples, computed after the measurement from all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from unblur.core.errors import InputError


@dataclass(frozen=True)
class Summary:
    """Order statistics of one candidate in ms. `mad_ms`: median absolute deviation from the median, not scaled.

    With fewer than 100 samples `p99_ms` lies between the two largest: an observation, not an estimate of a tail.
    """

    count: int
    minimum_ms: float
    p10_ms: float
    median_ms: float
    p90_ms: float
    p99_ms: float
    mad_ms: float


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians with the bounds of its bootstrapped confidence interval."""

    value: float
    low: float
    high: float
    level: float

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 1: otherwise neither of the two is faster, as far as was measured."""
        return not self.low <= 1 <= self.high


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its percentile bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of one candidate in ms, each with its interval at `level`.

    No bootstrap invents a slower call than was seen: the upper bound of `p99`, and with few samples of `p95`, is the
    slowest sample, not a bound of the tail.
    """

    p50: Interval
    p95: Interval
    p99: Interval
    level: float


def quantiles(latencies_ms: Sequence[float], *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Quantiles:
    """p50, p95 and p99 with their percentile bootstrap intervals. Raises InputError for no sample."""
    values = _samples(latencies_ms)
    places = (0.5, 0.95, 0.99)
    drawn = np.quantile(_drawn(values, resamples, np.random.default_rng(seed)), places, axis=1)
    bounds = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2), axis=1)
    found = zip(np.quantile(values, places), bounds[0], bounds[1], strict=True)
    p50, p95, p99 = (Interval(float(value), float(low), float(high)) for value, low, high in found)
    return Quantiles(p50, p95, p99, level)


def mean_interval(values: Sequence[float], *, level: float = 0.95, resamples: int = 5000, seed: int = 0) -> Interval:
    """The mean of one value a picture, with its percentile bootstrap interval over pictures.

    Raises InputError for no value. One alone has an interval of no width: of other pictures it says nothing.
    """
    everything = np.asarray(values, dtype=np.float64)
    if everything.size == 0:
        raise InputError("There is no picture to take a mean of.")
    means = _drawn(everything, resamples, np.random.default_rng(seed)).mean(axis=1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(everything.mean()), float(low), float(high))


def slowdown(
    before_ms: Sequence[float],
    now_ms: Sequence[float],
    yardstick: tuple[Sequence[float], Sequence[float]] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> Ratio:
    """median(now) / median(before) of two sessions, each drawn by itself; above 1 it has become slower.

    `yardstick`: samples of another candidate in the rounds of the two sessions; then of the medians in units of its
    own, so that a machine that is slower as a whole makes nothing slower. Raises InputError as `speedup`.
    """
    rng = np.random.default_rng(seed)
    sessions = [[_samples(before_ms)], [_samples(now_ms)]]
    for session, other in zip(sessions, yardstick or (), strict=False):
        session.append(_samples(other))
    found, drawn = [], []
    for samples in sessions:
        if len({one.size for one in samples}) != 1:
            raise InputError("Ratios need one sample of each per round.")
        rounds = rng.integers(0, samples[0].size, (resamples, samples[0].size))
        scale = np.median(samples[1][rounds], axis=1) if yardstick else 1.0
        drawn.append(np.median(samples[0][rounds], axis=1) / scale)
        found.append(float(np.median(samples[0]) / (np.median(samples[1]) if yardstick else 1.0)))
    low, high = np.quantile(drawn[1] / drawn[0], ((1 - level) / 2, (1 + level) / 2))
    return Ratio(found[1] / found[0], float(low), float(high), level)


def slowdown_of_sessions(before: Sequence[float], now: Sequence[float], *, level: float = 0.95) -> Ratio:
    """now / before of one number a session, by geometric means; above 1 it has become slower. The interval is Student's
    of the difference of mean logarithms: what sessions of one kind differ by is in it, and is taken to be the same on
    both sides. Raises InputError for fewer than two sessions on a side.
    """
    if min(len(before), len(now)) < 2:
        raise InputError(f"What sessions differ by takes two of a side, got {len(before)} and {len(now)}.")
    logs = [np.log(_samples(one)) for one in (before, now)]
    freedom = len(before) + len(now) - 2
    pooled = sum(float(((one - one.mean()) ** 2).sum()) for one in logs) / freedom
    half = float(student.ppf((1 + level) / 2, freedom)) * math.sqrt(pooled * (1 / len(before) + 1 / len(now)))
    found = float(logs[1].mean() - logs[0].mean())
    return Ratio(math.exp(found), math.exp(found - half), math.exp(found + half), level)


def summarise(latencies_ms: Sequence[float]) -> Summary:
    """Order statistics of the samples, quantiles by linear interpolation. Raises InputError for no sample."""
    values = _samples(latencies_ms)
    p10, middle, p90, p99 = (float(q) for q in np.quantile(values, (0.1, 0.5, 0.9, 0.99)))
    mad = float(np.median(np.abs(values - middle)))
    return Summary(len(values), float(values.min()), p10, middle, p90, p99, mad)


def speedup(
    reference_ms: Sequence[float],
    candidate_ms: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> Ratio:
    """median(reference) / median(candidate) and its percentile bootstrap interval; above 1 the candidate is faster.

    Sample i of both must come from one round: rounds are drawn, not samples, so that what disturbed a whole round
    disturbs numerator and denominator alike. Raises InputError when the lengths differ or there is no sample.
    """
    reference, candidate = _samples(reference_ms), _samples(candidate_ms)
    if reference.shape != candidate.shape:
        raise InputError(f"Ratios need one sample of each per round, got {reference.size} and {candidate.size}.")
    rounds = np.random.default_rng(seed).integers(0, reference.size, (resamples, reference.size))
    ratios = np.median(reference[rounds], axis=1) / np.median(candidate[rounds], axis=1)
    low, high = np.quantile(ratios, ((1 - level) / 2, (1 + level) / 2))
    return Ratio(float(np.median(reference) / np.median(candidate)), float(low), float(high), level)


AT_ONCE = 4_000_000
"""Numbers that are drawn in one piece of memory."""


def _drawn(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], resamples: int, rng: np.random.Generator
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(resamples, len(values)) drawn with replacement, fewer where there are so many that memory would run out."""
    rows = max(200, min(resamples, AT_ONCE // values.size))
    return values[rng.integers(0, values.size, (rows, values.size))]


def _samples(latencies_ms: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = np.asarray(latencies_ms, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.all(values > 0):
        raise InputError(f"Latency statistics need samples above 0 ms, got {values.size} of them.")
    return values
