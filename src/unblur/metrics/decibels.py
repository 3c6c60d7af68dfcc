"""Decibels that may be infinite: the one place that averages, subtracts, ranks, writes and reads them.

Identical pictures have a PSNR of +infinity, and plain arithmetic with it opens gates: infinity minus infinity is no
number, a finite value minus infinity keeps any budget, and one identical pair makes a mean infinite that hides all
others. Here differences are taken frame by frame, means are of finite values, and what is infinite is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any

from pydantic import AllowInfNan, BeforeValidator, PlainSerializer

from unblur.core.errors import InputError

INFINITE = "Infinity"
"""How JSON, which has no infinity, holds one: as this word, or as the word with a minus."""

EMPTY = "–"


def decibels_to_json(value: float | None) -> float | str | None:
    """A value as strict JSON holds it. Raises ValueError for NaN, which is no number of decibels."""
    if value is None or math.isfinite(value):
        return value
    if math.isnan(value):
        raise ValueError("NaN is no number of decibels")
    return INFINITE if value > 0 else f"-{INFINITE}"


def decibels_from_json(value: Any) -> float:
    """What `decibels_to_json` wrote. Raises ValueError for NaN and for anything else."""
    words = {INFINITE: math.inf, f"-{INFINITE}": -math.inf}
    if isinstance(value, str):
        if value not in words:
            raise ValueError(f"{value!r} is no number of decibels")
        return words[value]
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"{value!r} is no number of decibels")
    return float(value)


Decibels = Annotated[
    float,
    AllowInfNan(),
    BeforeValidator(decibels_from_json),
    PlainSerializer(decibels_to_json, float | str, when_used="json"),
]
"""A field of a pydantic model that is finite or infinite, never NaN, and strict JSON when written."""


def decibels_text(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """For people: "∞" for identical pictures, "–" for None; `signed` puts a plus before gains and losses."""
    if value is None:
        return EMPTY
    if math.isinf(value):
        return ("+∞" if signed else "∞") if value > 0 else "-∞"
    return f"{value:{'+' if signed else ''}.{digits}f}"


def check_limit(name: str, value: float | None) -> None:
    """Raise InputError for a budget that is NaN, which nothing could break or keep, or infinite."""
    if value is not None and not math.isfinite(value):
        raise InputError(f"{name} is {value}: a budget in dB is a finite number, or left out.")


def gain_decibels(before: float, after: float) -> float:
    """after - before, where two infinite values of one sign differ by nothing."""
    return 0.0 if before == after else after - before


@dataclass(frozen=True)
class Mean:
    """The mean of the `finite` values in dB, infinite where there are none; `infinite` values are not in it."""

    db: float
    finite: int
    infinite: int


def mean_decibels(values: Iterable[float]) -> Mean:
    """The mean over frames, as the papers take it, with identical ones apart. Raises InputError for no value."""
    everything = list(values)
    finite = [value for value in everything if math.isfinite(value)]
    if not everything:
        raise InputError("There is no frame to take a mean of.")
    return Mean(fmean(finite) if finite else math.inf, len(finite), len(everything) - len(finite))


@dataclass(frozen=True)
class Loss:
    """The PSNR against truth that a reference has and a candidate has not, in dB, over frames.

    This is what `psnr_loss_db` means everywhere: in reports, scores, searches, budgets and manifests. It has a sign.
    Positive is lost, negative is gained, so no budget of what may be lost is broken by a gain.

    db: the mean over the `compared` frames, those where both are finite; 0 where there is none of them. It is infinite
    where a frame is `spoilt` (the reference is the truth to the last byte, the candidate is not): no finite gain
    elsewhere makes that good, so it breaks every budget. Frames that are the truth in both (`untouched`) lose nothing
    and do not thin out the mean; nor does one that only the candidate has exactly (`perfected`) pay for the others.
    """

    db: Decibels
    compared: int
    untouched: int = 0
    spoilt: int = 0
    perfected: int = 0

    @property
    def remark(self) -> str:
        """Which frames are not in the mean, in words; "" where all are."""
        counts = {
            "identical to the truth in both": self.untouched,
            "identical to it in the reference only, an unbounded loss": self.spoilt,
            "identical to it in the candidate only": self.perfected,
        }
        parts = [f"{count} {what}" for what, count in counts.items() if count]
        frames = self.compared + self.untouched + self.spoilt + self.perfected
        return f"mean over {self.compared} of {frames} frames; {', '.join(parts)}" if parts else ""


def loss_decibels(reference: Sequence[float], candidate: Sequence[float]) -> Loss:
    """The loss of a candidate; both hold one PSNR against truth for each frame, in one order.

    Raises InputError for no frame, ValueError for two lengths.
    """
    if not reference:
        raise InputError("There is no frame to take a loss of.")
    finite, untouched, spoilt, perfected = [], 0, 0, 0
    for had, has in zip(reference, candidate, strict=True):
        match math.isinf(had), math.isinf(has):
            case False, False:
                finite.append(had - has)
            case True, True:
                untouched += 1
            case True, False:
                spoilt += 1
            case _:
                perfected += 1
    db = math.inf if spoilt else fmean(finite) if finite else 0.0
    return Loss(db, len(finite), untouched, spoilt, perfected)


def gain_over_input(blurred: Sequence[float], restored: Sequence[float]) -> float | None:
    """Mean PSNR against truth that restoring brought, in dB: negative is worse than the blurred input.

    Both hold one PSNR for each frame, in one order. Over the frames whose two are finite: an input that is the truth
    to the last byte leaves nothing to gain, and is not in the mean. Infinite where no such frame is left and one was
    restored to the last byte; None where all inputs were the truth. Raises as `loss_decibels`.
    """
    loss = loss_decibels(blurred, restored)
    if loss.compared:
        return -fmean(had - has for had, has in zip(blurred, restored, strict=True) if math.isfinite(had + has))
    return math.inf if loss.perfected else None


def best_first(candidates: Sequence[Sequence[float]]) -> list[int]:
    """Places of the candidates from the best to the worst, by their decibels on the same frames.

    By the mean, where an infinite value counts as the best finite one that any candidate has on that frame: a frame
    that all keep exactly decides nothing, and one frame cannot outweigh all others. Equal means are decided by the
    number of infinite values, then by place.
    """
    ceilings = [max((v for v in frame if math.isfinite(v)), default=0.0) for frame in zip(*candidates, strict=True)]

    def order(place: int) -> tuple[float, int, int]:
        values = candidates[place]
        mean = fmean(min(value, ceiling) for value, ceiling in zip(values, ceilings, strict=True))
        return -mean, -sum(math.isinf(value) for value in values), place

    return sorted(range(len(candidates)), key=order)
