"""What numbers are taken for meant: beyond these a request is a slip of the hand, or wants to do harm."""

from __future__ import annotations

Size = tuple[int, int]
"""(height, width) of a frame, in pixels."""

SIDE_MAX = 16384
"""Height and width of a frame, in pixels, up to which numbers are taken for meant: twice those of an 8K frame."""

PIXELS_MAX = 89_478_485
"""Pixels of a frame: as many as Pillow reads of a picture."""

SEED_MAX = 2**63 - 1
COUNT_MAX = 1_000_000
THREADS_MAX = 1024


def check_pixels(height: int, width: int) -> None:
    """Raise ValueError for a frame that nobody means."""
    if max(height, width) > SIDE_MAX:
        raise ValueError(f"{height}x{width} is no size of a frame; its sides are at most {SIDE_MAX}")
    if height * width > PIXELS_MAX:
        raise ValueError(f"{height}x{width} are {height * width} pixels; a frame has at most {PIXELS_MAX}")
