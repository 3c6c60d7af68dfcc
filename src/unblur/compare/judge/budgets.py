"""What an engine may cost at most: stated before the measurement, checked after the report is written."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field

from unblur.core.config import Section
from unblur.core.errors import InputError, nearest
from unblur.engines.catalogue import CATALOGUE

EVERY_CANDIDATE = "*"
"""Key of the budget of all candidates; the reference keeps only a budget under its own name."""

TRUTH_BUDGETS = ("psnr_loss_db_max", "psnr_db_min", "gain_db_min")


class Budget(Section):
    """Limits of one engine; None is no limit.

    fidelity_db_min: PSNR of the worst frame against the reference, in dB: of the float tensors, or of 8-bit frames
    where the engine takes bytes. psnr_loss_db_max: mean PSNR against truth that the reference has and the engine has
    not, in dB (8-bit RGB), broken by a frame that only the reference has to the last byte (`Loss`). psnr_db_min: mean
    PSNR against truth in dB, of the frames that are not the truth to the last byte. gain_db_min: mean PSNR gained over
    the blurred input, in dB (`gain_over_input`). latency_ms_max: median. speedup_min: median of the reference over
    median of the engine.
    """

    fidelity_db_min: float | None = None
    psnr_loss_db_max: float | None = None
    psnr_db_min: float | None = None
    gain_db_min: float | None = None
    latency_ms_max: Annotated[float, Field(gt=0)] | None = None
    speedup_min: Annotated[float, Field(gt=0)] | None = None


Budgets = Mapping[str, Budget]
"""Engine name, or EVERY_CANDIDATE, to budget."""


def budget_of(name: str, budgets: Budgets, *, alone: bool) -> Budget:
    """The limits that hold for an engine: its own and, unless `alone`, what "*" says about the rest.

    The reference stands alone, and so does an engine that could not be measured.
    """
    own = budgets.get(name, Budget())
    if alone:
        return own
    shared = budgets.get(EVERY_CANDIDATE, Budget())
    return Budget(**{**shared.model_dump(exclude_none=True), **own.model_dump(exclude_none=True)})


def check_budgets(budgets: Budgets, engines: Collection[str], *, truth: bool, latency: bool) -> None:
    """Raise InputError for a budget that nothing in this comparison can be held against."""
    for name, budget in budgets.items():
        if name != EVERY_CANDIDATE and name not in engines:
            raise InputError(
                f"A budget names the engine {name!r}{nearest(name, engines)}, which is not compared; "
                f"compared are {', '.join(engines)}."
            )
        of_truth = [key for key in TRUTH_BUDGETS if getattr(budget, key) is not None]
        if of_truth and not truth:
            raise InputError(
                f"The budget {of_truth[0]} of {name!r} needs the sharp pictures; give them with --truth, "
                "or take the budget out."
            )
        if (budget.latency_ms_max is not None or budget.speedup_min is not None) and not latency:
            raise InputError(f"The budget of {name!r} limits latency, but latency is not measured; measure it.")


def parse_budgets(texts: Iterable[str]) -> dict[str, Budget]:
    """ "KEY=VALUE" for every candidate or "ENGINE:KEY=VALUE" for one -> budgets. Raises InputError for another form,
    an unknown key (naming the nearest), a value that is no number, or a limit given twice.
    """
    values: dict[str, dict[str, float]] = {}
    for text in texts:
        left, equals, number = text.partition("=")
        engine, colon, key = left.rpartition(":")
        name = engine if colon else EVERY_CANDIDATE
        if not equals or not name:
            raise InputError(f"--budget {text}: write KEY=VALUE or ENGINE:KEY=VALUE, as latency_ms_max=250.")
        if key not in Budget.model_fields:
            known = list(Budget.model_fields)
            raise InputError(f"--budget {text}: unknown key {key!r}{nearest(key, known)}; known: {', '.join(known)}.")
        try:
            value = float(number)
        except ValueError as error:
            raise InputError(f"--budget {text}: {number!r} is no number.") from error
        if key in values.setdefault(name, {}):
            raise InputError(f"--budget {text}: {key} of {name!r} is given twice.")
        if not abs(value) < float("inf") or (key in ("latency_ms_max", "speedup_min") and value <= 0):
            raise InputError(f"--budget {text}: {key} must be a finite number{' above 0' if value <= 0 else ''}.")
        values[name][key] = value
    return {name: Budget(**limits) for name, limits in values.items()}


def spread_budgets(budgets: Mapping[str, Budget], engines: Sequence[str]) -> dict[str, Budget]:
    """Budgets of patterns such as "*-int8" as those of the engines that they match; what an engine's own says holds.

    As "*", a pattern does not reach an engine that was not measured. Raises InputError for one that no engine of the
    catalogue has the name for.
    """
    patterns = [name for name in budgets if name != EVERY_CANDIDATE and re.fullmatch(r"[\w.-]*\*[\w.*-]*", name)]
    spread = {name: budget for name, budget in budgets.items() if name not in patterns}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in (*CATALOGUE, *engines)):
            raise InputError(f"Budget {pattern!r} reaches no engine; known: {', '.join(CATALOGUE)}.")
        for name in engines:
            if fnmatchcase(name, pattern):
                own = spread.get(name, Budget()).model_dump(exclude_none=True)
                spread[name] = Budget(**{**budgets[pattern].model_dump(exclude_none=True), **own})
    return spread
