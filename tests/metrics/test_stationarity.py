"""Whether samples are of one steady machine: alarms are rare on steady ones, and certain on what machines really do."""

import numpy as np
import pytest

from unblur.metrics.stationarity import PERMUTATIONS, stationarity

RNG = np.random.default_rng(7)
STEADY = [100 + RNG.gamma(2.0, 1.0, 20) for _ in range(200)]


def test_steady_samples_are_called_unsteady_as_rarely_as_is_said() -> None:
    found = [stationarity(samples).p for samples in STEADY]
    # Observed 7 of 200 below 0.05 in this draw: 10 are expected, 20 is three standard deviations above.
    assert sum(p is not None and p < 0.05 for p in found) <= 20


@pytest.mark.parametrize(
    "change",
    [
        lambda k: 1 + 0.01 * k,  # a clock that throttles
        lambda k: np.where(k < 11, 1.0, 1.15),  # a program that begins
        lambda k: np.where((k > 5) & (k < 13), 1.15, 1.0),  # one that comes and goes
    ],
    ids=["drift", "step", "burst"],
)
def test_what_machines_do_is_found(change) -> None:
    for samples in STEADY[:20]:
        found = stationarity(samples * change(np.arange(20)))
        assert found.p is not None
        assert found.p < 0.01
        assert found.drift > 0.03


def test_outliers_and_turns_are_no_drift() -> None:
    spiked = STEADY[0].copy()
    spiked[[3, 9, 16]] *= 5
    for samples in (spiked, STEADY[0] * np.where(np.arange(20) % 2, 1.2, 1.0)):
        found = stationarity(samples)
        assert found.p is not None
        assert found.p > 0.05


def test_few_samples_say_nothing_and_the_smallest_chance_is_one_order_in_all() -> None:
    assert stationarity([1.0] * 7).p is None
    assert stationarity([5.0] * 20).p == 1.0
    assert stationarity(list(range(1, 31))).p == 1 / (PERMUTATIONS + 1)
