"""Levels and colours that are wrong in the whole picture: order, range, gamma, cast, clipping, banding."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from unblur.metrics.detectors.pictures import Measured, Pictures, Place, root_mean_square

BINS = 16
"""Groups of levels of 0 to 255 whose offsets are looked at."""

POPULATED = 0.02
"""Share of the picture below which a group of levels tells nothing."""

FEWEST = 16
"""Values below which neither does a small picture's, whatever their share."""

BEYOND = 4
"""Levels by which a value at an end of the range must be off to be clipped: rounding and noise stay below."""

SPAN, PER_LEVEL = 32, 16
"""Levels that a picture must span, and pixels it must have for each, before a gap among its levels means anything."""


def swapped_channels(pictures: Pictures) -> Measured | None:
    """How many times nearer to the base the picture would be with its channels in another order.

    A grey picture is as near in any order (1); a right one is nearest as it is.
    """
    restored, base = pictures.small
    own = root_mean_square(restored - base)
    others = [order for order in permutations(range(3)) if order != (0, 1, 2)]
    nearest = min(root_mean_square(restored[..., order] - base) for order in others)
    return Measured(own / max(nearest, 1.0), pictures.whole)


def wrong_range(pictures: Pictures) -> Measured | None:
    """Offset, in levels, root mean square over groups of the base's levels: a range or a gamma is a curve over them,
    while deblurring moves only the ends of the range. None beside an input too small to be averaged: sharpening
    widens the range of its pixels.
    """
    if pictures.reference is None and pictures.scale < 4:
        return None
    restored, base = (picture.ravel() for picture in pictures.smallest)
    group = base.astype(np.intp) * BINS // 256
    counts = np.bincount(group, minlength=BINS)
    offsets = np.bincount(group, restored - base, BINS) / np.maximum(counts, 1)
    return Measured(root_mean_square(offsets[counts >= max(POPULATED * base.size, FEWEST)]), pictures.whole)


def colour_cast(pictures: Pictures) -> Measured | None:
    """Largest offset of one channel's mean, in levels, from that of all three."""
    restored, base = pictures.small
    offsets = (restored - base).mean((0, 1))
    return Measured(float(np.abs(offsets - offsets.mean()).max()), pictures.whole)


def clipped(pictures: Pictures) -> Measured | None:
    """Share of values that lie at an end of the picture's own range, more than BEYOND levels away from the base.

    None for a picture of less than FEWEST pixels, of which the ends are a part by themselves.
    """
    restored, base = pictures.restored.ravel(), pictures.base.ravel()
    if restored.size < 3 * FEWEST:
        return None
    ends = {int(restored.min()), int(restored.max())}
    at_end = np.concatenate([np.flatnonzero(restored == end) for end in ends])  # few: the rest costs little
    off = at_end[np.abs(restored[at_end].astype(np.int16) - base[at_end]) > BEYOND]
    if not off.size:
        return Measured(0.0, pictures.whole)
    rows, columns = np.divmod(off // 3, pictures.width)
    top, left = int(rows.min()), int(columns.min())
    place = Place(top, left, int(rows.max()) - top + 1, int(columns.max()) - left + 1)
    return Measured(off.size / restored.size, place)


def banding(pictures: Pictures) -> Measured | None:
    """How many times denser the base's levels lie within their range than the picture's: 2 where every second is gone.

    None where the base has too few levels, or too few pixels for them.
    """
    restored, base = (np.reshape(image.histogram(), (3, 256)) for image in pictures.images)
    ratios = []
    for own, other in zip(restored, base, strict=True):
        before, after = _density(other), _density(own)
        if before is not None and after is not None:
            ratios.append(before / after)
    return Measured(max(ratios), pictures.whole) if ratios else None


def _density(histogram: np.ndarray[tuple[int], np.dtype[np.int_]]) -> float | None:
    """Share of levels that occur, from the first percentile to the last."""
    cumulative = np.cumsum(histogram)
    total = int(cumulative[-1])
    low, high = (int(np.searchsorted(cumulative, share * total)) for share in (0.01, 0.99))
    span = high - low + 1
    if span < SPAN or total < PER_LEVEL * span:
        return None
    return float(np.count_nonzero(histogram[low : high + 1]) / span)
