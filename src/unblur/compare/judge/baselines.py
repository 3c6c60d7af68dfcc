"""A report held against the one that was accepted before it: what has been lost since, beyond what chance explains.

Decibels are paired by picture: the mean of the pictures' losses has a bootstrap interval over pictures, and is a loss
where even its low end is more than the margin. Milliseconds: `judge.slowdown`. They are held only on one class of
machine, in quiet sessions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from unblur.compare.judge.slowdown import latency_changes
from unblur.compare.parts import Change, Part, Since
from unblur.compare.report import Check, EngineResult, Report
from unblur.core.artefacts import file_digest, write_json
from unblur.core.errors import InputError
from unblur.core.markdown import encodable
from unblur.core.reading import read_json
from unblur.metrics.decibels import decibels_text, mean_decibels
from unblur.metrics.quantiles import mean_interval

MARGIN_DB = {"psnr_db": 0.005, "fidelity_db": 0.02}
"""A loss that is no loss: sums in another order, and roundings of 8 bits that fall the other way, are below it."""

CEILING_DB = 100.0
"""Fidelity above this is float32 rounding: nobody loses anything there."""

ONE_PICTURE_DB = 1.0
"""A loss on one picture that breaks the gate, however many others hide it in the mean."""

HELD = "baseline_"
"""How checks against a baseline are called."""


class Baseline(Part):
    """A report that was accepted. `replaces`: SHA-256 of the baseline that stood there before, None for the first."""

    form: Literal["unblur baseline 1"] = "unblur baseline 1"
    accepted_utc: str
    reason: str = Field(min_length=1)
    replaces: str | None
    report: Report


def is_baseline(path: Path) -> bool:
    """Whether a file is a baseline, of whichever version."""
    try:
        values = read_json(path)
    except InputError:
        return False
    return isinstance(values, dict) and str(values.get("form", "")).startswith("unblur baseline")


def load_baseline(path: Path) -> Baseline:
    """Raises InputError for a file that is missing, no JSON, no baseline, or one of another version of unblur."""
    if not path.is_file():
        raise InputError(f"The baseline {path} does not exist; write it: unblur accept REPORT --reason TEXT.")
    values: Any = read_json(path)
    form = Baseline.model_fields["form"].default
    if not isinstance(values, dict) or values.get("form") != form:
        found = values.get("form") if isinstance(values, dict) else None
        raise InputError(f"{path} is no baseline: its form is {found!r}, not {form!r}; write one with unblur accept.")
    try:
        baseline = Baseline.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path} is no whole baseline: {place}: {first['msg']}; accept a report anew.") from error
    demand_whole(baseline.report, str(path))
    return baseline


def demand_whole(report: Report, what: str) -> None:
    """Raise InputError, naming `what`, for a report that says nothing of its reference, or of no engine beside it."""
    references = [engine for engine in report.engines if engine.is_reference]
    measured = [engine for engine in report.engines if not engine.not_measured]
    if (
        len(references) != 1
        or len(measured) < 2
        or len({engine.name for engine in report.engines}) < len(report.engines)
    ):
        raise InputError(
            f"{what} is no whole report: it takes one reference, an engine beside it that was measured, and each name "
            f"once, and has {len(references)} and {len(measured) - len(references)}; compare again."
        )
    bare = [engine.name for engine in measured if not engine.frames]
    if bare:
        raise InputError(f"{what} is no whole report: {bare[0]} has no frames; compare again.")


def accept(report: Report, path: Path, reason: str, *, broken: bool = False) -> Baseline:
    """Write the report as the baseline at `path`; its own comparison with the one before is left out.

    Raises InputError for no reason, for a comparison of which something failed (a baseline must be whole), and for one
    that broke its own budgets, unless `broken`. Losses against the baseline before it are what a new one is for.
    """
    if not reason.strip():
        raise InputError("A baseline needs a reason: --reason TEXT, such as what is slower now and why that is right.")
    if crashed := [engine.name for engine in report.engines if engine.crashed]:
        raise InputError(f"{', '.join(crashed)} crashed in this report; a baseline is of a whole one.")
    if report.failures:
        raise InputError(f"{len(report.failures)} comparison(s) of this report failed; a baseline is of a whole one.")
    demand_whole(report, "This")
    over = [f"{e.name}: {c.budget}" for e, c in report.checks if not c.kept and not c.budget.startswith(HELD)]
    if over and not broken:
        raise InputError(
            f"This report broke {len(over)} of its own budgets, such as {over[0]}, and a baseline is what later ones "
            "may not be worse than; say --broken if that is meant."
        )
    baseline = Baseline(
        accepted_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=encodable(reason.strip()),
        replaces=file_digest(path) if path.exists() else None,
        report=report.model_copy(update={"since": None}),
    )
    write_json(path, baseline.model_dump(mode="json"))
    return baseline


def hold_against(report: Report, baseline: Baseline, path: Path) -> Report:
    """The report with what has changed since the baseline at `path`, each loss a broken check beside its budgets.

    Raises InputError for a baseline of another network, checkpoint, size or of other pictures.
    """
    old = baseline.report
    refuse_another_network(baseline, report.network, report.checkpoint_digest, path)
    _refuse_another(report, old, path.name)
    then = {engine.name: engine for engine in old.engines}
    now = {engine.name: engine for engine in report.engines}
    both = [name for name in now if name in then]
    notes = [f"{name} is new: the baseline has no such engine." for name in now if name not in then]
    notes += [f"{name} is in the baseline and was not compared now." for name in then if name not in now]
    others = [name for name in then if not then[name].is_reference]
    if not set(others) & set(now):
        raise InputError(
            f"The baseline {path.name} is of {', '.join(others)}, and none of these was compared now: nothing would be "
            "held. Name one with --engines, or another baseline."
        )
    for name in both:
        for which, engine in (("now", now[name]), ("when the baseline was taken", then[name])):
            if engine.not_measured:
                notes.append(f"{name} was not measured {which}: {engine.not_measured}")
    held = [n for n in both if not now[n].not_measured and not then[n].not_measured]
    # One that was measured then and cannot be now has lost everything.
    known = [name for name in both if not then[name].not_measured]
    changes = [change for name in known for change in _decibels(then[name], now[name])]
    latency, why_not = latency_changes(old, report, held)
    since = Since(
        file=path.name,
        digest=file_digest(path),
        accepted_utc=baseline.accepted_utc,
        reason=baseline.reason,
        changes=(*changes, *latency),
        notes=(*notes, *why_not),
    )
    engines = tuple(
        engine.model_copy(update={"checks": (*engine.checks, *_checks(engine, since))}) for engine in report.engines
    )
    return report.model_copy(update={"engines": engines, "since": since})


def refuse_another_network(baseline: Baseline, network: str, checkpoint_digest: str, path: Path) -> None:
    """Raise InputError where the baseline at `path` is of another network, or of other weights: before any work."""
    old = baseline.report
    _refuse("network", old.network, network, path.name)
    _refuse("checkpoint", old.checkpoint_digest[:12], checkpoint_digest[:12], path.name)


def _refuse(what: str, before: object, now: object, name: str) -> None:
    if before != now:
        raise InputError(
            f"The baseline {name} is of another {what}: {before}, and this comparison is of {now}. Name the right "
            "one, or accept this report under a name of its own."
        )


def _refuse_another(report: Report, old: Report, name: str) -> None:
    """Raise InputError where the two are not of the same thing."""
    refuse = partial(_refuse, name=name)
    refuse("reference", old.reference, report.reference)
    sizes = [{f.frame: (f.height, f.width) for f in _reference(one).frames} for one in (old, report)]
    refuse("channel order", *(one.contract and one.contract.channel_order for one in map(_reference, (old, report))))
    different = sorted(set(sizes[0]) ^ set(sizes[1]))
    if different:
        shown = f"{', '.join(different[:3])}{' and more' if len(different) > 3 else ''}"
        raise InputError(f"The baseline {name} is of other pictures: {shown} on one side only. Compare the same ones.")
    for frame, size in sizes[0].items():
        refuse(f"size of {frame}", "{}x{}".format(*size), "{}x{}".format(*sizes[1][frame]))
    pixels = [{f.frame: f.pixels for f in _reference(one).frames} for one in (old, report)]
    for frame, before in pixels[0].items():
        if None not in (before, pixels[1][frame]):  # baselines of old do not tell
            refuse(f"content of {frame} (SHA-256 of its pixels)", before, pixels[1][frame])
    if old.latency and report.latency:
        before, now = (f"{one.latency.height}x{one.latency.width}" for one in (old, report) if one.latency)
        refuse("size of the latency", before, now)
    blurred = [None if one.blurred_quality is None else one.blurred_quality.psnr_db for one in (old, report)]
    if (blurred[0] is None) != (blurred[1] is None):
        raise InputError(f"The baseline {name} and this comparison differ in whether they have the sharp pictures.")
    if blurred[0] is not None and not math.isclose(blurred[0], blurred[1] or 0.0, abs_tol=1e-6):
        refuse("content of pictures of these names (blurred input, dB)", blurred[0], blurred[1])


def _reference(report: Report) -> EngineResult:
    return next(engine for engine in report.engines if engine.is_reference)


def _decibels(then: EngineResult, now: EngineResult) -> Iterator[Change]:
    """Of fidelity, but for the reference, and of PSNR where there is truth."""
    if not now.is_reference:
        levels = [{f.frame: min(f.fidelity.strictest_db, CEILING_DB) for f in one.frames} for one in (then, now)]
        yield _paired(now.name, "fidelity_db", levels, min, MARGIN_DB["fidelity_db"])
    psnr = [{f.frame: f.quality.psnr_db for f in one.frames if f.quality} for one in (then, now)]
    if psnr[0]:
        yield _paired(now.name, "psnr_db", psnr, lambda all_: mean_decibels(all_).db, MARGIN_DB["psnr_db"])


def _paired(
    engine: str, measure: Literal["fidelity_db", "psnr_db"], levels: list[dict[str, float]], summary: Any, margin: float
) -> Change:
    then, now = levels
    about: dict[str, Any] = {"engine": engine, "measure": measure, "before": summary(then.values())}
    about["now"] = summary(now.values()) if now else None
    gone = [frame for frame in then if frame not in now]
    if gone:
        why = f"nothing to hold against it on {gone[0]}"
        return Change(**about, lost=None, low=None, high=None, state="lost", why=why)
    spoilt = [frame for frame, db in then.items() if math.isinf(db) and math.isfinite(now[frame])]
    if spoilt:
        worst = dict.fromkeys(("lost", "low", "high", "worst"), math.inf)
        return Change(**about, **worst, state="lost", why=f"{spoilt[0]} was the truth to the last byte")
    losses = {frame: db - now[frame] for frame, db in then.items() if math.isfinite(db) and math.isfinite(now[frame])}
    if not losses:
        return Change(**about, lost=0.0, low=0.0, high=0.0, state="kept")
    found = mean_interval(list(losses.values()))
    frame = max(losses, key=lambda one: losses[one])
    about |= {"lost": found.value, "low": found.low, "high": found.high, "worst": losses[frame]}
    if found.low > margin:
        return Change(**about, state="lost")
    if losses[frame] > ONE_PICTURE_DB:
        return Change(**about, state="lost", why=f"{decibels_text(losses[frame])} dB on {frame}")
    return Change(**about, state="kept")


def _checks(engine: EngineResult, since: Since) -> Iterator[Check]:
    """Of the reference only what it lost: it is a row that is not judged."""
    limits = {
        "fidelity_db": (f"{HELD}fidelity_loss_db", MARGIN_DB["fidelity_db"]),
        "psnr_db": (f"{HELD}psnr_loss_db", MARGIN_DB["psnr_db"]),
        "latency_ms": (f"{HELD}slowdown", 1.0),
    }
    for change in since.changes:
        told = change.state != "cannot tell" and (change.state == "lost" or not engine.is_reference)
        if change.engine == engine.name and told:
            budget, limit = limits[change.measure]
            limit = change.margin or limit
            below = change.low is not None and change.low <= limit  # then one picture alone may have broken it
            measured = change.worst if below and change.state == "lost" else change.low
            yield Check(budget=budget, limit=limit, measured=measured, kept=change.state == "kept")
