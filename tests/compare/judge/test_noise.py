"""A noisy session is called noisy, with the reason; a quiet one is not."""

import numpy as np
import pytest

from unblur.compare.judge.noise import noise_of
from unblur.compare.timing import LatencySession
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


def test_a_drift_that_decides_nothing_is_none() -> None:
    assert noise_of(session(lambda k: 1 + 0.001 * k), MACHINE) == ()
