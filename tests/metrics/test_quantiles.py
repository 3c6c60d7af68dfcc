"""Statistics against hand-computed numbers, and the interval against the truth it should cover."""

import math

import numpy as np
import pytest

from unblur.core.errors import InputError
from unblur.metrics.quantiles import (
    Interval,
    Ratio,
    mean_interval,
    quantiles,
    slowdown,
    slowdown_of_sessions,
    speedup,
    summarise,
)


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


def test_quantiles_have_intervals_that_hold_them_and_narrow_with_samples() -> None:
    rng = np.random.default_rng(3)
    samples = 100 + rng.gamma(2.0, 5.0, 400)
    few, many = quantiles(samples[:20]), quantiles(samples)
    for name in ("p50", "p95", "p99"):
        small, big = getattr(few, name), getattr(many, name)
        assert small.low <= small.value <= small.high
        assert big.high - big.low < small.high - small.low or name == "p99"
    assert many.p50.value < many.p95.value < many.p99.value <= samples.max()
    assert many.p50.value == pytest.approx(np.median(samples))
    assert many.p99.high <= samples.max()


def test_the_interval_of_a_median_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(200):
        found = quantiles(10 + rng.exponential(1.0, 40), resamples=400).p50
        inside += found.low <= 10 + math.log(2) <= found.high
    assert inside >= 180  # 190 of 200 are meant; observed 192


def test_the_interval_of_a_mean_is_over_pictures() -> None:
    found = mean_interval([0.1] * 9)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    wide = mean_interval([0.0, 0.4])
    assert (wide.value, wide.low, wide.high) == (0.2, 0.0, 0.4)
    with pytest.raises(InputError, match="no picture"):
        mean_interval([])


def test_a_slowdown_is_of_the_engine_or_of_the_machine() -> None:
    rng = np.random.default_rng(1)
    base, other = (100 * (1 + 0.01 * rng.standard_normal(20)) for _ in range(2))
    assert slowdown(base, 1.2 * base).low > 1.15
    assert not slowdown(base, other).low > 1.03
    both = slowdown(base, 1.2 * base, (other, 1.2 * other))
    assert both.low < 1 < both.high
    with pytest.raises(InputError, match="one sample of each"):
        slowdown(base, base, (other, other[:5]))


def test_a_ratio_differs_where_its_interval_leaves_out_one() -> None:
    assert not Ratio(1.02, 0.99, 1.05, 0.95).differs
    assert Ratio(1.02, 1.01, 1.05, 0.95).differs
    assert Ratio(0.9, 0.8, 0.95, 0.95).differs


def test_what_sessions_differ_by_is_in_the_interval() -> None:
    """By hand: logarithms ±ln 1.1 on both sides, pooled variance 4/3 of that squared, t of 6 degrees 2.447."""
    before = [100 / 1.1, 100 * 1.1] * 2
    found = slowdown_of_sessions(before, [1.2 * value for value in before])
    half = math.exp(2.446912 * math.log(1.1) * math.sqrt(4 / 3 / 2))
    assert (found.value, found.low, found.high) == pytest.approx((1.2, 1.2 / half, 1.2 * half), rel=1e-5)
    with pytest.raises(InputError, match="two of a side, got 4 and 1"):
        slowdown_of_sessions(before, [1.0])
