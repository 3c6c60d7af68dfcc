"""Statistics against hand-computed numbers, and the interval against the truth it should cover."""

import numpy as np
import pytest

from unblur.core.errors import InputError
from unblur.metrics.quantiles import Interval, mean_interval, speedup, summarise


def test_summary_of_eleven_samples() -> None:
    s = summarise([11, 1, 10, 2, 9, 3, 8, 4, 7, 5, 6])
    assert (s.count, s.minimum_ms, s.p10_ms, s.median_ms, s.p90_ms) == (11, 1.0, 2.0, 6.0, 10.0)
    assert s.p99_ms == pytest.approx(10.9)
    assert s.mad_ms == 3.0  # |x - 6| sorted: 0 1 1 2 2 3 3 4 4 5 5


def test_speedup_of_twice_as_fast() -> None:
    ratio = speedup([10.0, 10.0, 10.0], [5.0, 5.0, 5.0])
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


def test_what_disturbs_a_whole_round_leaves_the_ratio_alone() -> None:
    slow_down = np.random.default_rng(3).uniform(1, 3, 40)
    paired = speedup(list(12 * slow_down), list(8 * slow_down))
    assert paired.value == pytest.approx(1.5)
    assert paired.high - paired.low < 1e-9


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(200):
        reference, candidate = 30 + rng.gamma(2, 2, 25), 20 + rng.gamma(2, 2, 25)
        ratio = speedup(list(reference), list(candidate), resamples=400)
        true = (30 + 2 * 1.6783) / (20 + 2 * 1.6783)  # the median of a gamma variable of shape 2 is 1.6783 scales
        covered += ratio.low <= true <= ratio.high
    assert 176 <= covered <= 200  # observed 196 of 200 at a level of 95%; 176 is four binomial deviations under 190


@pytest.mark.parametrize("samples", [[], [0.0, 1.0], [float("nan")]])
def test_samples_that_are_no_latencies_are_refused(samples: list[float]) -> None:
    with pytest.raises(InputError, match="above 0 ms"):
        summarise(samples)


def test_unpaired_samples_are_refused() -> None:
    with pytest.raises(InputError, match="2 and 1"):
        speedup([1.0, 2.0], [1.0])


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [mean_interval(rng.normal(30, 2, 40), resamples=500, seed=k) for k in range(200)]
    assert 180 <= sum(one.low <= 30 <= one.high for one in found) <= 198  # 95% of 200 are 190; observed 188
    assert mean_interval([1.0, 2.0, 6.0]).value == 3.0
    assert mean_interval([4.0]) == Interval(4.0, 4.0, 4.0)
    with pytest.raises(InputError, match="no picture"):
        mean_interval([])
