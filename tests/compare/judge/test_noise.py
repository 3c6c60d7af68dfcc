"""A noisy session is called noisy, with the reason; a quiet one is not."""

from dataclasses import replace

import numpy as np
import pytest

from unblur.compare.judge.noise import noise_of
from unblur.compare.timing import LatencySession
from unblur.core.provenance import Conditions
from unblur.metrics.stopwatch import Protocol, Sample

MACHINE = {"usable_cores": "2"}


def session(change=lambda k: 1.0, load: float | None = 0.5, only: str = "", seed: int = 0) -> LatencySession:
    """20 rounds of three engines, ±2 %; `change` is of the round, of all engines or of `only` one."""
    rng = np.random.default_rng(seed)
    samples = tuple(
        Sample(name, k, 0.0, 50.0 * (1 + 0.02 * rng.standard_normal()) * (change(k) if only in name else 1.0), False)
        for k in range(20)
        for name in ("torch", "a", "b")
    )
    return LatencySession(
        height=8, width=8, frames=("x",), protocol=Protocol(), load_before=load, warmup_rounds=0, samples=samples
    )


def test_quiet_sessions_are_quiet() -> None:
    noisy = [noise_of(session(seed=seed), MACHINE) for seed in range(50)]
    assert sum(map(bool, noisy)) <= 3  # 2 % of 50 are one; observed none
    assert noise_of(session(load=None), MACHINE) == ()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (session(load=15.0), "load 15.0 on 2 core(s)"),
        (session(lambda k: 1.2 if k > 11 else 1.0), "every engine drifts by "),
        (session(lambda k: 1 + 0.02 * k, only="torch"), "torch drifts by "),
    ],
    ids=["load", "step", "one engine"],
)
def test_a_noisy_session_says_why(found: LatencySession, words: str) -> None:
    assert words in "; ".join(noise_of(found, MACHINE))


def counted(before: Conditions, after: Conditions, load: float = 0.5) -> LatencySession:
    """Of 60 samples, the last of which ends 10 s after the first began."""
    found = session(load=load)
    last = replace(found.samples[-1], started_ms=10_000.0 - found.samples[-1].elapsed_ms)
    return found.model_copy(update={"samples": (*found.samples[:-1], last), "before": before, "after": after})


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (Conditions(waited_s=50.0), Conditions(waited_s=53.0), "waited for a core in 30% of the time"),
        (Conditions(waited_s=50.0), Conditions(waited_s=51.0), ""),
        (Conditions(throttled=7), Conditions(throttled=9), "slowed down for heat 2 time(s)"),
        (Conditions(throttled=7), Conditions(throttled=7), ""),
        (Conditions(stolen_s=1.0), Conditions(stolen_s=3.0), "took 10% of its cores' time away"),
        (Conditions(stolen_s=1.0), Conditions(stolen_s=1.1), ""),
        (Conditions(), Conditions(throttled=9, stolen_s=9.0, waited_s=9.0), ""),
    ],
)
def test_what_the_system_counted_meanwhile(before: Conditions, after: Conditions, words: str) -> None:
    told = "; ".join(noise_of(counted(before, after), MACHINE))
    assert words in told
    assert bool(told) == bool(words)


def test_a_load_of_before_is_no_noise_where_waiting_is_counted() -> None:
    """The load average lags by a minute: after a compilation it is high on a machine that is idle again."""
    assert noise_of(counted(Conditions(waited_s=5.0), Conditions(waited_s=5.1), load=15.0), MACHINE) == ()
    assert noise_of(counted(Conditions(), Conditions(), load=15.0), MACHINE) != ()


def test_a_drift_that_decides_nothing_is_none() -> None:
    assert noise_of(session(lambda k: 1 + 0.001 * k), MACHINE) == ()
