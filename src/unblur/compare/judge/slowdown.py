"""Whether an engine has become slower since its baseline: milliseconds of two days, held against each other.

Clocks wander: on a virtual machine by a fifth within minutes, all engines alike, and each process of one engine has a
pace of its own, by where its memory lies. So what is held is the engine in units of the reference that was timed beside
it, and what two sessions of nothing changed differ by is measured: in short sessions (`Report.repeats`) whose engines,
the reference too, were opened anew. Their ratios have Student's interval. Reports without enough of them have the
rounds of one session alone; then the engine must also be slower by itself, by more than the rounds explain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Literal, NamedTuple

from unblur.compare.judge.noise import disturbance_of, noise_of, waited_share
from unblur.compare.parts import Change
from unblur.compare.report import EngineResult, Report
from unblur.compare.timing import LatencyResult, LatencySession
from unblur.metrics.quantiles import Ratio, slowdown, slowdown_of_sessions
from unblur.metrics.stationarity import FEWEST

MARGIN_ROUNDS = 1.03
"""A slowdown that is none by the rounds of one session: what two quiet ones of one engine differ by."""

MARGIN_REPEATS = 1.02
"""And by repeats: how far two comparisons of one machine are apart beyond what the repeats of each tell, as a standard
deviation that was measured."""

FEWEST_REPEATS = 4
"""Quiet ones of a side: with fewer, what sessions differ by is a guess."""


class _Found(NamedTuple):
    """How much slower, by more than what, whether that is a loss, and how that was found or why it cannot be."""

    ratio: Ratio
    margin: float
    state: Literal["kept", "lost", "cannot tell"]
    why: str = ""


def latency_changes(old: Report, report: Report, names: Sequence[str]) -> tuple[list[Change], list[str]]:
    """Of the engines timed in both, the reference left out: it is the yardstick. And why others are not held."""
    if not old.latency or not report.latency:
        side = "the baseline" if not old.latency else "this comparison"
        return [], [f"Latency is not held against the baseline: {side} has none."]
    changes: list[Change] = []
    notes: list[str] = []
    results = [{engine.name: engine for engine in one.engines} for one in (old, report)]
    for name in names:
        then, now = (one[name].latency for one in results)
        if then is None or now is None or name == report.reference:
            continue
        classes = machine_class(old, then), machine_class(report, now)
        if classes[0] != classes[1]:
            notes.append(f"{name}: latency is not held, on another class of machine: {classes[0]}, now {classes[1]}.")
            continue
        found = _by_repeats(old, report, name) or _by_rounds(old, report, name)
        about = {"before": then.summary.median_ms, "now": now.summary.median_ms, "lost": found.ratio.value}
        about |= {"low": found.ratio.low, "high": found.ratio.high, "margin": found.margin}
        changes.append(Change(engine=name, measure="latency_ms", state=found.state, why=found.why, **about))
    return changes, notes


def machine_class(report: Report, latency: LatencyResult) -> str:
    """What milliseconds of one engine may be held against each other on: processor, device and threads."""
    about = latency.description
    parts = [report.machine["cpu"], f"{about['threads']} thread(s)"]
    return ", ".join([*parts, *([] if about["device"].startswith("cpu") else [about["device"]])])


def repeats_left(sessions: Sequence[LatencySession], machine: dict[str, str]) -> list[LatencySession]:
    """Those that nothing disturbed."""
    return [one for one in sessions if not _disturbed(one, machine)]


def _disturbed(session: LatencySession, machine: dict[str, str]) -> tuple[str, ...]:
    return noise_of(session, machine) if waited_share(session) is None else disturbance_of(session, machine)


def _by_repeats(old: Report, report: Report, name: str) -> _Found | None:
    """By the quiet repeats; None where a side has too few of any kind, or another version of the yardstick."""
    sides = [[one for one in side.repeats if one.latencies_ms(name)] for side in (old, report)]
    if min(map(len, sides)) < FEWEST_REPEATS or _yardstick(old) != _yardstick(report):
        return None
    quiet = [repeats_left(side, of.machine) for side, of in zip(sides, (old, report), strict=True)]
    enough = min(map(len, quiet)) >= FEWEST_REPEATS
    before, now = ([_in_units(one, name, report.reference) for one in side] for side in (quiet if enough else sides))
    ratio = slowdown_of_sessions(before, now)
    how = f"in units of {report.reference}, {len(before)} and {len(now)} repeats"
    if ratio.low <= MARGIN_REPEATS:
        return _Found(ratio, MARGIN_REPEATS, "kept", how)
    if not enough:
        reasons = [reason for side, of in zip(sides, (old, report), strict=True)
                   for one in side for reason in _disturbed(one, of.machine)]  # fmt: skip
        return _Found(ratio, MARGIN_REPEATS, "cannot tell", f"{how}; noisy ({reasons[0]}, and {len(reasons) - 1} more)")
    return _Found(ratio, MARGIN_REPEATS, "lost", how)


def _in_units(session: LatencySession, name: str, reference: str) -> float:
    return median(session.latencies_ms(name)) / median(session.latencies_ms(reference))


def _yardstick(report: Report) -> dict[str, str]:
    """What the reference says of itself: another version of its package is another yardstick."""
    found: EngineResult = next(engine for engine in report.engines if engine.is_reference)
    return {key: found.description.get(key, "") for key in ("backend", "version", "device", "threads")}


def _by_rounds(old: Report, report: Report, name: str) -> _Found:
    """By the rounds of one session each, both by itself and beside the reference."""
    assert old.latency
    assert report.latency
    noisy = list(_noises(old, report))
    pair = old.latency.latencies_ms(name), report.latency.latencies_ms(name)
    yardstick = old.latency.latencies_ms(report.reference), report.latency.latencies_ms(report.reference)
    alone, beside = slowdown(*pair), slowdown(*pair, yardstick)
    if alone.low <= MARGIN_ROUNDS:
        return _Found(alone, MARGIN_ROUNDS, "kept")
    if min(map(len, pair)) < FEWEST:
        return _Found(alone, MARGIN_ROUNDS, "cannot tell", f"fewer than {FEWEST} rounds")
    if noisy:
        return _Found(alone, MARGIN_ROUNDS, "cannot tell", f"noisy ({'; '.join(noisy)})")
    if beside.low <= MARGIN_ROUNDS:
        return _Found(alone, MARGIN_ROUNDS, "cannot tell", f"{report.reference} is slower beside it: the machine")
    return _Found(alone, MARGIN_ROUNDS, "lost")


def _noises(old: Report, report: Report) -> Iterator[str]:
    for which, one in (("now", report), ("then", old)):
        if one.latency and (found := noise_of(one.latency, one.machine)):
            yield f"{which}: {', '.join(found)}"
