"""Parts that are wrong: blocks, seams of tiles, borders."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unblur.metrics.detectors.pictures import Measured, Pictures, Place, root_mean_square

TILE = 16
"""Pixels a side of what may be a lost block."""

SMALLEST = 64
"""Sides below which nobody cuts a frame into tiles, and a border is most of it."""

PARTS = 16
"""A line is looked at in so many parts, and the middle one counts: an edge in the picture seldom is as long."""

NOISE = 0.25
"""Levels that are added where ratios are taken, so that a flat picture has none."""

REACH = 8
"""Pixels to both sides within which an edge of the blurred input makes a line no seam."""

BAND, NEXT = 8, 32
"""The outermost pixels at a border, and those up to which they are compared with what lies further in."""


def constant_block(pictures: Pictures) -> Measured | None:
    """How far the base is on average, in levels, from a block of TILE pixels where the picture has one colour alone.

    A block of NaN never comes so far: the pixel contract refuses it; where an engine gives bytes, it is a constant.
    """
    rows, columns = pictures.height // TILE, pictures.width // TILE
    if not rows or not columns:
        return None
    tiles, base = (_tiles(picture, rows, columns) for picture in (pictures.restored, pictures.base))
    first = tiles[:, 0, :, 0]
    maybe = np.ones((rows, columns), bool)
    for row, column in ((TILE - 1, TILE - 1), (TILE // 2, 3), (3, TILE // 2)):  # nearly all are done with here
        maybe &= (tiles[:, row, :, column] == first).all(-1)
    far = np.zeros((rows, columns))
    for row, column in np.argwhere(maybe):
        if (tiles[row, :, column] == first[row, column]).all():
            far[row, column] = np.abs(base[row, :, column].astype(np.int16) - first[row, column]).mean((0, 1)).max()
    worst = float(far.max())
    at = divmod(int(far.argmax()), columns)
    return Measured(worst, _around(far >= max(worst / 4, 1), *at))


def _tiles(picture: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    return picture[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE, 3)


def _around(lost: NDArray[np.bool_], row: int, column: int) -> Place:
    """The rectangle of lost tiles around one of them."""
    top, bottom, left, right = row, row + 1, column, column + 1
    while left > 0 and lost[row, left - 1]:
        left -= 1
    while right < lost.shape[1] and lost[row, right]:
        right += 1
    while top > 0 and lost[top - 1, left:right].all():
        top -= 1
    while bottom < lost.shape[0] and lost[bottom, left:right].all():
        bottom += 1
    return Place(top * TILE, left * TILE, (bottom - top) * TILE, (right - left) * TILE)


def seam(pictures: Pictures) -> Measured | None:
    """How many times larger than elsewhere the change jumps along one line through the frame.

    Per line and PARTS of it: the jump of the mean change, less the larger of those of the lines beside it (where an
    edge was sharpened, several jump) and of twice what the base itself rises or falls there the same way, as far as
    blur may have spread it. The middle part counts.
    """
    if min(pictures.height, pictures.width) < SMALLEST:
        return None
    change, base = pictures.change, pictures.green[1]
    ratio, at = _jump(change, base)
    other, row = _jump(change.T, base.T)
    if ratio >= other:
        return Measured(ratio, Place(0, at, pictures.height, 1))
    return Measured(other, Place(row, 0, 1, pictures.width))


def _jump(change: NDArray[np.int16], base: NDArray[np.int16]) -> tuple[float, int]:
    """The largest ratio among vertical lines, and the column that it is left of."""
    length = change.shape[0] // PARTS
    starts = np.arange(0, length * PARTS, length)
    changed, lies = (
        np.add.reduceat(picture[: length * PARTS], starts, 0, np.int32) / np.float32(length)
        for picture in (change, base)
    )
    steps = np.diff(changed)
    jumps, count = np.abs(steps), steps.shape[1]
    across = np.zeros_like(steps)
    inside = slice(REACH - 1, count - REACH + 1)
    across[:, inside] = lies[:, 2 * REACH - 1 :] - lies[:, : 1 - 2 * REACH]
    beside = np.where(steps * across > 0, 2 * np.abs(across), 0)
    near = np.pad(jumps, ((0, 0), (2, 2)))
    for start in (0, 1, 3, 4):
        beside = np.maximum(beside, near[:, start : start + count])
    lines = np.zeros(count)
    lines[inside] = np.median(np.maximum(jumps - beside, 0)[:, inside], 0)
    typical = float(np.median(np.median(jumps, 0)))
    at = int(lines.argmax())
    return float(lines[at]) / (typical + NOISE), at + 1


def border_ringing(pictures: Pictures) -> Measured | None:
    """How many times more the change bends, line by line inwards, in the BAND pixels at a border than further in, the
    base's edges considered: ringing swings within few pixels, what deblurring changes does not.
    """
    if min(pictures.height, pictures.width) < SMALLEST:
        return None
    height, width = pictures.height, pictures.width
    change, base = pictures.change, pictures.green[1]
    sides = [
        Measured(_border(change, base), Place(0, 0, BAND, width)),
        Measured(_border(change[::-1], base[::-1]), Place(height - BAND, 0, BAND, width)),
        Measured(_border(change.T, base.T), Place(0, 0, height, BAND)),
        Measured(_border(change.T[::-1], base.T[::-1]), Place(0, width - BAND, height, BAND)),
    ]
    return max(sides, key=lambda side: side.value)


def _border(change: NDArray[np.int16], base: NDArray[np.int16]) -> float:
    """Of the upper border."""
    outer, inner = (root_mean_square(np.diff(change[part], 2, axis=0)) for part in (slice(BAND), slice(BAND, NEXT)))
    edges = [root_mean_square(np.diff(base[part], axis=1)) for part in (slice(BAND), slice(BAND, NEXT))]
    return outer / (inner * max(1.0, (edges[0] + 1) / (edges[1] + 1)) + 2 * NOISE)
