"""What the pictures of a comparison say together: means with their intervals, and engines beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from unblur.compare.parts import Difference
from unblur.compare.report import FrameResult
from unblur.metrics.quantiles import Interval, mean_interval


def interval_of(values: Sequence[float]) -> Interval | None:
    """Of the mean of the finite values, one a picture; None for fewer than two, which say nothing of others."""
    finite = [value for value in values if math.isfinite(value)]
    return mean_interval(finite) if len(finite) > 1 else None


def less(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """first - second picture by picture, of those where both are finite."""
    return [a - b for a, b in zip(first, second, strict=True) if math.isfinite(a) and math.isfinite(b)]


def differences_of(frames: Mapping[str, Sequence[FrameResult]]) -> tuple[Difference, ...]:
    """Every two engines paired by picture, on the pictures that both have; () without truth."""
    psnr = {
        name: {frame.frame: frame.quality.psnr_db for frame in results if frame.quality}
        for name, results in frames.items()
    }
    found = []
    for one, two in combinations(psnr, 2):
        both = [frame for frame in psnr[one] if frame in psnr[two]]
        paired = less([psnr[one][frame] for frame in both], [psnr[two][frame] for frame in both])
        if len(paired) < 2:
            continue
        if sum(paired) < 0:
            one, two, paired = two, one, [-value for value in paired]
        found.append(Difference(better=one, other=two, pictures=len(paired), psnr_db=mean_interval(paired)))
    return tuple(found)
