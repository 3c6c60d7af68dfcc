"""How far a tensor of one graph is off in another, and which is the first that rounding does not explain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ROUNDING_DB = {"fp32": 120.0, "fp16": 66.0, "bf16": 48.0, "int8": 28.0, "fp8": 28.0}
"""What one rounding of each value leaves of a tensor, by the precision of the second graph, rounded down (a mantissa of
24, 11, 8 or, for FP8, 4 bits: 6.02 dB a bit, and 4.8 dB for an error that is spread over the last one). Of 8 bits with
a scale it depends on how far the peak lies above the rest: 53 dB less some 10 dB for a map, up to 25 for its tails."""

SUDDEN_DB = 12.0
"""Rounding adds up over layers by a few dB at a time; more at once is a layer's own doing."""


@dataclass(frozen=True)
class TensorError:
    """A tensor of the first graph that the second has too, over all frames.

    node: that makes it. snr_db: 20 log10(rms / rms error), inf if exact, -inf where the second is not finite.
    given_db: the least `snr_db` of what the node was given, inf if exact. largest: |value|, of the first graph.
    worst_error: mean squared error of the worst frame. rms: root of the mean square, of the first graph.
    """

    name: str
    node: str
    snr_db: float
    given_db: float
    largest: float
    worst_error: float
    rms: float

    @property
    def lost_db(self) -> float:
        """What its node took away."""
        return 0.0 if self.given_db == self.snr_db else self.given_db - self.snr_db


def first_parting(
    errors: Iterable[TensorError], rounding_db: float, rounded: Mapping[str, float] | None = None
) -> TensorError | None:
    """The first tensor, in the order of computation, that is further off than its inputs and rounding explain.

    rounding_db: what one rounding leaves (ROUNDING_DB); `rounded`: of some tensors, where that is known better. None
    where the graphs part nowhere.
    """
    explained = rounded or {}
    return next((e for e in errors if e.snr_db < min(e.given_db, explained.get(e.name, rounding_db)) - SUDDEN_DB), None)


def ratio_db(power: float, error: float) -> float:
    """10 log10(power / error): inf without an error, -inf for one that is not finite."""
    if not math.isfinite(error):
        return -math.inf
    return 10 * math.log10(power / error) if power and error else math.inf
