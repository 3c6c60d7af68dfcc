"""The repairs by name, in the order in which they are applied, and those that a form has if nobody says otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from unblur.core.errors import InputError, nearest
from unblur.graphs.rewrites.forms import Form

EQUALISATION, ROUNDING, BIAS_CORRECTION = "equalisation", "adaptive-rounding", "bias-correction"
REPAIRS = (EQUALISATION, ROUNDING, BIAS_CORRECTION)
"""In the order in which they are applied: the first before quantisation, the others after it."""

DEFAULT = "default"
"""The word for those of `repairs_by_default`."""


def check_repairs(words: Sequence[str]) -> tuple[str, ...]:
    """Each once, DEFAULT first and the others in the order they are applied. Raises InputError naming the nearest."""
    known = (DEFAULT, *REPAIRS)
    for word in words:
        if word not in known:
            raise InputError(f"Unknown repair {word!r}{nearest(word, known)}; known: {', '.join(known)}.")
    return tuple(word for word in known if word in words)


def repairs_for(form: Form, words: Sequence[str]) -> tuple[str, ...]:
    """The repairs that the words mean in a form. Raises InputError as `check_repairs`."""
    words = check_repairs(words)
    meant = {*words, *(repairs_by_default(form) if DEFAULT in words else ())}
    return tuple(name for name in REPAIRS if name in meant)


def repairs_by_default(form: Form) -> tuple[str, ...]:
    """What pays on the trained networks that it was tried on (docs/numerics.md, section 5): the second everywhere, the
    first where residuals are 8 bits too."""
    return (EQUALISATION, ROUNDING) if form.residual else (ROUNDING,)
