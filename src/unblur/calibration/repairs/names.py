"""The repairs by name, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Sequence

from unblur.core.errors import InputError, nearest

EQUALISATION, ROUNDING, BIAS_CORRECTION = "equalisation", "adaptive-rounding", "bias-correction"
REPAIRS = (EQUALISATION, ROUNDING, BIAS_CORRECTION)
"""In the order in which they are applied: the first before quantisation, the others after it."""


def check_repairs(repairs: Sequence[str]) -> tuple[str, ...]:
    """Each once and in the order they are applied. Raises InputError naming the nearest known repair."""
    for name in repairs:
        if name not in REPAIRS:
            raise InputError(f"Unknown repair {name!r}{nearest(name, REPAIRS)}; known: {', '.join(REPAIRS)}.")
    return tuple(name for name in REPAIRS if name in repairs)
