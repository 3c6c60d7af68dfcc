"""Budgets held against what was measured."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from statistics import fmean

from unblur.compare.judge.budgets import EVERY_CANDIDATE, Budget, Budgets, budget_of, spread_budgets
from unblur.compare.report import FINDINGS, Check, EngineResult, Report
from unblur.metrics.decibels import decibels_text

LATENCY_BUDGETS = frozenset({"latency_ms_max", "speedup_min"})


def judge(report: Report, budgets: Budgets) -> Report:
    """The report under these budgets.

    An engine that this machine cannot run breaks a budget of its own name; that of all candidates does not reach it,
    and the verdict says so. Where no candidate was measured at all it does: a gate that held nothing is not kept.
    """
    held = any(not engine.is_reference and engine.not_measured is None for engine in report.engines)
    engines = []
    for engine in report.engines:
        alone = engine.is_reference or (engine.not_measured is not None and held)
        checks = check(engine, budget_of(engine.name, budgets, alone=alone))
        if checks and engine.findings:  # in a gate, a picture gone wrong is as bad as a lost decibel
            checks += (Check(budget=FINDINGS, limit=0, measured=len(engine.findings), kept=False),)
        engines.append(engine.model_copy(update={"checks": checks}))
    stated = {name: budget.model_dump(exclude_none=True) for name, budget in budgets.items()}
    warned = warnings_of(report)
    return report.model_copy(update={"engines": tuple(engines), "budgets": stated, "warnings": warned})


def reach(report: Report, budgets: Budgets) -> tuple[Report, dict[str, Budget]]:
    """Budgets with their patterns spread over the report's engines, and the report with a note on what these passed
    over: as "*" in `judge`, engines that were not measured, unless none was. Raises InputError as `spread_budgets`.
    """
    names = [engine.name for engine in report.engines]
    missing = [engine.name for engine in report.engines if engine.not_measured]
    held = [name for name in names if name not in missing]
    if held == [report.reference]:
        return report, spread_budgets(budgets, names)
    patterns = [name for name in budgets if "*" in name and name != EVERY_CANDIDATE and name not in names]
    over = {pattern: [n for n in missing if fnmatchcase(n, pattern) and n not in budgets] for pattern in patterns}
    notes = [f"The budget of {p} was not held against {', '.join(of)}: not measured." for p, of in over.items() if of]
    return report.model_copy(update={"notes": (*report.notes, *notes)}), spread_budgets(budgets, held)


def warnings_of(report: Report) -> tuple[str, ...]:
    """A sentence for each engine whose pictures are further from the truth than its blurred input was, and one for each
    that detectors found something wrong with."""
    reference = next(engine for engine in report.engines if engine.is_reference)
    sentences = []
    for engine in report.engines:
        if engine.findings:
            held = "input" if engine.is_reference else "reference's"
            sentences.append(f"{engine.name} makes pictures that are wrong beside the {held}: {engine.findings_text}.")
        if not spoils(engine) or engine.mean_quality is None or report.blurred_quality is None:
            continue
        before, after, count = _pairs(report, engine)
        restored, blurred = decibels_text(after), decibels_text(before)
        of = f" on the {count} picture(s) that are not the truth to the last byte" if count < len(engine.frames) else ""
        cause = "wrong checkpoint, channel order?" if spoils(reference) else "a fault of the engine: see its fidelity"
        sentences.append(
            f"{engine.name} makes pictures worse than its blurred input: {restored} dB of PSNR, the input has "
            f"{blurred} dB{of} ({cause})."
        )
    return tuple(sentences)


def _pairs(report: Report, engine: EngineResult) -> tuple[float, float, int]:
    """Mean PSNR of the blurred input and of what the engine made of it, over the so many pictures that `gain_db` is of;
    reports of old have the two means alone."""
    after = [frame.quality.psnr_db for frame in engine.frames if frame.quality]
    before = [quality.psnr_db for quality in report.blurred]
    both = [pair for pair in zip(before, after, strict=False) if all(map(math.isfinite, pair))]
    if both and len(before) == len(after):
        return fmean(pair[0] for pair in both), fmean(pair[1] for pair in both), len(both)
    assert report.blurred_quality is not None
    assert engine.mean_quality is not None
    return report.blurred_quality.psnr_db, engine.mean_quality.psnr_db, len(engine.frames)


def spoils(engine: EngineResult) -> bool:
    """Whether an engine's pictures are worse than its blurred input."""
    return engine.gain_db is not None and engine.gain_db < 0


def check(engine: EngineResult, budget: Budget) -> tuple[Check, ...]:
    """One check per limit of the budget. A limit that nothing was measured for is broken, never passed over.

    Exception, visible as such in the report: an engine that was left out of the latency measurement on purpose has no
    check of latency.
    """
    latency = engine.latency
    measured: dict[str, float | None] = {
        "fidelity_db_min": engine.worst_fidelity_db,
        "psnr_loss_db_max": engine.psnr_loss_db,
        "psnr_db_min": engine.mean_quality.psnr_db if engine.mean_quality else None,
        "gain_db_min": engine.gain_db,
        "latency_ms_max": latency.summary.median_ms if latency else None,
        "speedup_min": latency.speedup.value if latency else None,
    }
    limits: dict[str, float] = budget.model_dump(exclude_none=True)
    return tuple(
        Check(budget=key, limit=limit, measured=measured[key], kept=_kept(key, limit, measured[key]))
        for key, limit in limits.items()
        if engine.timed or key not in LATENCY_BUDGETS
    )


def _kept(key: str, limit: float, value: float | None) -> bool:
    if value is None:
        return False
    return value >= limit if key.endswith("_min") else value <= limit
