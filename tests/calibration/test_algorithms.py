"""The five algorithms on the histogram, against slow ones that are written from the definitions and see the values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unblur.calibration.algorithms import ALGORITHMS, CANDIDATES, Algorithm, Grid, divergence, quantised
from unblur.calibration.histogram import BINS, HALF_BINS, add_counts, centres, folded
from unblur.calibration.statistics import TensorStatistics
from unblur.core.errors import InputError
from unblur.graphs.rewrites.ranges import Range

Values = NDArray[np.float32]
GRIDS: tuple[Grid, ...] = ("s8", "u8")
CLIPPING = ("percentile", "entropy", "mse")


def statistics(values: Values) -> TensorStatistics:
    low, high = float(values.min()), float(values.max())
    counts = np.zeros(BINS, np.int64)
    add_counts(counts, values, max(abs(low), abs(high)))
    return TensorStatistics(low, high, low, high, counts)


def chosen(name: str, grid: Grid, values: Values) -> Range:
    return Algorithm(name, grid).ranges({"x": statistics(values)}).of("x")


def samples(seed: int, kind: str) -> Values:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(20_000).astype(np.float32)
    match kind:
        case "relu":
            return np.maximum(x, 0)
        case "leaky":
            return np.where(x < 0, x * np.float32(0.2), x).astype(np.float32)
        case "laplace":
            return rng.laplace(size=20_000).astype(np.float32)
        case "sigmoid":
            return (1 / (1 + np.exp(-x))).astype(np.float32)
        case "spikes":
            x[:3] = (40, -35, 37)
            return x
        case _:
            return x


KINDS = ("normal", "relu", "leaky", "laplace", "sigmoid", "spikes")


def error_of(values: Values, given: Range, grid: Grid) -> float:
    return float(np.mean(np.square(values - quantised(values.astype(np.float64), given, grid))))


@given(
    st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=300),
    st.integers(1, 5),
)
def test_counts_are_those_of_rounding_each_value(values: list[float], parts: int) -> None:
    x = np.array(values, np.float32)
    peak = float(np.abs(x).max())
    counts = np.zeros(BINS, np.int64)
    for part in np.array_split(x, parts):
        add_counts(counts, part, peak)
    assert counts.sum() == x.size
    if peak < 2.0**-100:
        assert counts[HALF_BINS] == x.size
        return
    # Where a value lies midway between two centres, float32 may round to either.
    position = np.repeat(centres(peak), counts)
    assert np.abs(np.sort(position) - np.sort(x)).max() <= peak / HALF_BINS * 0.501
    assert folded(counts).sum() == x.size


def test_many_chunks_count_the_same() -> None:
    x = np.random.default_rng(0).standard_normal((3, 241, 317)).astype(np.float32)
    peak = float(np.abs(x).max())
    counts = np.zeros(BINS, np.int64)
    add_counts(counts, x, peak)
    expected = np.bincount(np.rint(x.ravel().astype(np.float64) * HALF_BINS / peak).astype(int) + HALF_BINS, None, BINS)
    assert np.abs(np.cumsum(counts - expected)).max() <= 3, "float32 rounds a few midway values the other way"


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_minmax_and_moving_average_are_the_extremes(kind: str, grid: Grid) -> None:
    x = samples(1, kind)
    for name in ("minmax", "moving-average"):
        assert chosen(name, grid, x) == Range(float(x.min()), float(x.max()))


@pytest.mark.parametrize("kind", KINDS)
def test_percentile_leaves_one_in_ten_thousand_outside(kind: str) -> None:
    x = samples(2, kind)
    got = chosen("percentile", "s8", x)
    sorted_magnitudes = np.sort(np.abs(x))
    naive = float(sorted_magnitudes[int(np.ceil(0.9999 * x.size)) - 1])
    assert max(-got.low, got.high) == pytest.approx(naive, abs=float(np.abs(x).max()) / HALF_BINS)
    assert np.mean((x < got.low - 1e-6) | (x > got.high + 1e-6)) <= 1.05e-4 + 1 / x.size


@pytest.mark.parametrize("outside", [0.0, 1e-3, 0.02])
@pytest.mark.parametrize("kind", KINDS)
def test_percentile_cuts_each_end_of_a_grid_with_a_zero_point_by_itself(kind: str, outside: float) -> None:
    x = samples(2, kind)
    got = Algorithm("percentile", "u8", outside).ranges({"x": statistics(x)}).of("x")
    bin_width = float(np.abs(x).max()) / HALF_BINS
    left_out = int(outside * x.size)
    low, high = np.sort(x)[[left_out, x.size - 1 - left_out]]
    assert got.low == pytest.approx(low, abs=1.01 * bin_width)
    assert got.high == pytest.approx(high, abs=1.01 * bin_width)


def test_short_negative_tail_is_cut_where_one_threshold_leaves_it() -> None:
    x = samples(2, "leaky")
    x[:3] = -3.4  # LeakyReLU makes none so low: three outliers, fewer than 0.1 %
    alone = Algorithm("percentile", "s8", 1e-3).ranges({"x": statistics(x)}).of("x")
    both = Algorithm("percentile", "u8", 1e-3).ranges({"x": statistics(x)}).of("x")
    assert alone.low < -3
    assert -1 < both.low < -0.5
    assert both.affine()[0] < 0.75 * alone.affine()[0]


@pytest.mark.parametrize("kind", KINDS)
def test_mse_with_both_ends_free_is_near_the_best_of_all_pairs(kind: str) -> None:
    x = samples(3, kind)
    low, high = float(x.min()), float(x.max())
    steps = np.linspace(0, 1, 33)
    naive = min(error_of(x, Range(low * a, high * b), "u8") for a in steps for b in steps[1:])
    assert error_of(x, chosen("mse", "u8", x), "u8") <= naive * 1.02


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_mse_is_within_a_hair_of_the_best_threshold_on_the_values_themselves(kind: str, grid: Grid) -> None:
    x = samples(3, kind)
    peak = float(np.abs(x).max())
    low, high = float(x.min()), float(x.max())
    naive = min(
        error_of(x, Range(max(low, -t), min(high, t)), grid)
        for t in np.arange(1, CANDIDATES + 1) * peak / CANDIDATES
        if t > low
    )
    got = chosen("mse", grid, x)
    assert error_of(x, got, grid) <= naive * 1.02
    assert error_of(x, got, grid) <= error_of(x, Range(low, high), grid) * 1.001


def naive_divergence(hist: NDArray[np.float64], start: int, end: int, levels: int) -> float:
    """Slides 38 to 40 of the talk, bin by bin."""
    reference = list(hist[start:end])
    reference[0] += sum(hist[:start])
    reference[-1] += sum(hist[end:])
    size = end - start
    groups: dict[int, list[int]] = {}
    for k in range(size):
        level = max(g for g in range(levels) if g * size // levels <= k)
        groups.setdefault(level, []).append(k)
    candidate = [0.0] * size
    for members in groups.values():
        total = sum(hist[start + k] for k in members)
        used = [k for k in members if hist[start + k] > 0]
        for k in used:
            candidate[k] = total / len(used)

    def smooth(values: list[float]) -> list[float]:
        whole = sum(values)
        filled = [v / whole if v else 1e-4 / size for v in values]
        return [v / sum(filled) for v in filled]

    return float(sum(p * np.log(p / q) for p, q in zip(smooth(reference), smooth(candidate), strict=True)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 9), st.integers(12, 40))
def test_divergence_is_that_of_the_talk(seed: int, levels: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    hist = rng.poisson(rng.exponential(3, size)).astype(np.float64)
    start, end = sorted(rng.choice(size + 1, 2, replace=False))
    hist[start] += 1
    assert divergence(hist, start, end, levels) == pytest.approx(naive_divergence(hist, start, end, levels), abs=1e-9)


@pytest.mark.parametrize("grid", GRIDS)
def test_entropy_clips_spikes_and_keeps_the_body(grid: Grid) -> None:
    x = samples(4, "spikes")
    tensor = statistics(x)
    got = chosen("entropy", grid, x)
    t = max(-got.low, got.high)
    assert t < 0.5 * tensor.peak, "spikes are clipped"
    assert t > 2.0, "and the body of the distribution is not"


@pytest.mark.parametrize("grid", GRIDS)
def test_a_spike_sets_the_scale_of_minmax_but_not_of_percentile_and_entropy(grid: Grid) -> None:
    x = samples(5, "normal")
    x[0] = 40  # 1 of 20000 is less than 0.01 %
    assert chosen("minmax", grid, x).high == 40
    assert chosen("percentile", grid, x).high < 6
    assert chosen("entropy", grid, x).high < 6


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ALGORITHMS)
@settings(max_examples=6, deadline=None)
@given(power=st.integers(-20, 20), seed=st.integers(0, 1000), kind=st.sampled_from(KINDS))
def test_a_tensor_in_another_unit_has_the_same_range_in_that_unit(
    name: str, grid: Grid, power: int, seed: int, kind: str
) -> None:
    x, factor = samples(seed, kind), 2.0**power
    one, other = chosen(name, grid, x), chosen(name, grid, x * np.float32(factor))
    assert (other.low, other.high) == (one.low * factor, one.high * factor)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("c", [0.0, 1.5, -3.25, 1e-30])
def test_a_constant_tensor_keeps_its_one_value(name: str, grid: Grid, c: float) -> None:
    x = np.full(500, c, np.float32)
    got = chosen(name, grid, x)
    assert (got.low, got.high) == (float(x[0]), float(x[0]))
    assert quantised(x[:1].astype(np.float64), got, grid)[0] == pytest.approx(float(x[0]), rel=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ALGORITHMS)
@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50))
def test_a_range_lies_within_what_was_seen(name: str, grid: Grid, values: list[float]) -> None:
    x = np.array(values, np.float32)
    got = chosen(name, grid, x)
    assert float(x.min()) <= got.low <= got.high <= float(x.max())


@pytest.mark.parametrize("grid", GRIDS)
def test_a_map_of_hardly_anything_but_zeros_keeps_what_it_has(grid: Grid) -> None:
    """As a gate that opens in a few pixels: fewer than percentile may leave outside."""
    values = np.zeros(400_000, np.float32)
    values[:20] = np.linspace(0.1, 0.4, 20)
    assert error_of(values, chosen("percentile", grid, values), grid) < 1e-4 * float(np.square(values).mean())


@pytest.mark.parametrize("name", CLIPPING)
def test_a_tensor_far_from_zero_is_not_cut_to_nothing(name: str) -> None:
    x = np.random.default_rng(0).uniform(7.5, 8, 5000).astype(np.float32)
    got = chosen(name, "u8", x)
    assert got.low >= 7.5
    assert got.high >= 7.9


def test_what_cannot_be_chosen_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'entropy'"):
        Algorithm("entropi")
    with pytest.raises(InputError, match="grid"):
        Algorithm("mse", "s4")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"0\.5 of all values outside"):
        Algorithm("percentile", "u8", 0.5)
    with pytest.raises(InputError, match="needs a histogram"):
        Algorithm("mse").ranges({"x": TensorStatistics(0, 1, 0, 1)})
    with pytest.raises(InputError, match=r"'x'.*not finite"):
        Algorithm("minmax").ranges({"x": TensorStatistics(float("nan"), 1, 0, 1)})
