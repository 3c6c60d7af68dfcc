"""What sessions differ by is told from an engine that has become slower; others at work are no reason to call it so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from unblur.compare.judge.slowdown import latency_changes, repeats_left
from unblur.compare.parts import Change
from unblur.compare.report import EngineResult, Report
from unblur.compare.timing import LatencyResult, LatencySession
from unblur.core.provenance import Conditions
from unblur.metrics.quantiles import speedup, summarise
from unblur.metrics.stopwatch import Protocol, Sample

MACHINE = {"cpu": "A processor", "usable_cores": "2"}
Make = Callable[..., Report]


def session(rng: np.random.Generator, slower: float, waited: float = 0.0) -> LatencySession:
    """A short one: a clock of its own (±10 %), a pace of each process (±2 %), rounds (±1 %)."""
    clock = 1 + 0.1 * rng.standard_normal()
    paces = {name: clock * (1 + 0.02 * rng.standard_normal()) for name in ("torch", "near")}
    ms = {"torch": 200 * paces["torch"], "near": 100 * paces["near"] * slower}
    samples = tuple(
        Sample(name, k, 300.0 * k, ms[name] * (1 + 0.01 * rng.standard_normal()), False)
        for k in range(8)
        for name in ms
    )
    return LatencySession(
        height=20, width=24, frames=("a.png",), protocol=Protocol(rounds=8), load_before=0.5, warmup_rounds=4,
        samples=samples, before=Conditions(waited_s=1.0), after=Conditions(waited_s=1.0 + waited * 2.2),
    )  # fmt: skip


def engine(name: str, one: LatencySession, version: str) -> EngineResult:
    base, ms = one.latencies_ms("torch"), one.latencies_ms(name)
    about = {"device": "cpu", "threads": "1", "backend": name, "version": version}
    latency = LatencyResult(description=about, summary=summarise(ms), speedup=speedup(base, ms), warmed_up=True)
    return EngineResult(
        name=name, is_reference=name == "torch", frames=(), latency=latency, description=about | {"precision": "f32"}
    )


def report(
    seed: int, slower: float = 1.0, *, waited: float = 0.0, repeats: int = 8, disturbed: int | None = None,
    version: str = "2",
) -> Report:  # fmt: skip
    """`waited`: of the time of the `disturbed` first repeats (all, if left out) something waited for a core."""
    rng = np.random.default_rng(seed)
    first = session(rng, slower, waited)
    busy = repeats if disturbed is None else disturbed
    return Report(
        created_utc="2026-11-27T00:00:00+00:00", network="n", checkpoint="c", checkpoint_digest="0", reference="torch",
        machine=MACHINE, versions={}, engines=tuple(engine(name, first, version) for name in ("torch", "near")),
        blurred_quality=None, latency=first, failures=(),
        repeats=tuple(session(rng, slower, waited if k < busy else 0.0) for k in range(repeats)),
    )  # fmt: skip


def change(then: Report, now: Report) -> Change:
    (found,), notes = latency_changes(then, now, ["near"])
    assert notes == []
    return found


def test_a_tenth_more_is_caught_and_nothing_changed_is_not() -> None:
    """Though the clock of a session is off by a tenth, and the pace of a process by a fifth of that, as measured."""
    seeds = range(0, 100, 2)
    assert {change(report(seed), report(seed + 1)).state for seed in seeds} == {"kept"}
    found = [change(report(seed), report(seed + 1, 1.1)) for seed in seeds]
    assert sum(one.state == "lost" for one in found) >= 48  # by the formula 99 % of 50
    assert np.mean([one.lost for one in found]) == pytest.approx(1.1, abs=0.01)
    inside = sum(one.low <= 1.1 <= one.high for one in found if one.low and one.high)
    assert inside >= 44  # 95 % of 50 are 47


def test_others_at_work_are_told_and_break_nothing() -> None:
    found = change(report(0), report(1, 1.5, waited=0.6))
    assert found.state == "cannot tell"
    assert "in units of torch, 8 and 8 repeats; noisy (something waited for a core in 5" in found.why
    assert "and 7 more" in found.why


def test_a_few_disturbed_repeats_are_left_out() -> None:
    now = report(1, 1.2, waited=0.6, disturbed=3)
    assert len(repeats_left(now.repeats, MACHINE)) == 5
    found = change(report(0), now)
    assert (found.state, found.why) == ("lost", "in units of torch, 8 and 5 repeats")
    assert change(report(0), report(1, 1.2, waited=0.6, disturbed=5)).state == "cannot tell"


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (report(0, repeats=3), report(1, 1.3)),
        (report(0), report(1, 1.3, repeats=0)),
        (report(0), report(1, 1.3, version="3")),
    ],
    ids=["few then", "none now", "another yardstick"],
)
def test_without_repeats_of_one_yardstick_the_rounds_of_one_session_are_held(then: Report, now: Report) -> None:
    assert "repeats" not in change(then, now).why
