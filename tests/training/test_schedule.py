"""End points of the cosine, the warm-up, and where a resumed run takes up its stages."""

from __future__ import annotations

import itertools
import math

import pytest

from unblur.training.config import Stage
from unblur.training.schedule import learning_rate, stretches


def test_the_paper_s_cosine_starts_on_1e_4_and_ends_on_1e_7() -> None:
    stage = Stage(iterations=1001)
    assert learning_rate(stage, 0) == 1e-4
    assert learning_rate(stage, 1000) == 1e-7
    assert learning_rate(stage, 500) == pytest.approx((1e-4 + 1e-7) / 2)
    assert learning_rate(stage, 250) == pytest.approx(1e-7 + (1e-4 - 1e-7) * (1 + math.cos(math.pi / 4)) / 2)


def test_the_rate_rises_linearly_while_it_warms_up_and_falls_ever_after() -> None:
    stage = Stage(iterations=50, first_lr=1e-3, last_lr=1e-5, warmup=9)
    rates = [learning_rate(stage, k) for k in range(50)]
    assert rates[:3] == pytest.approx([1e-4, 2e-4, 3e-4])
    assert rates[9] == 1e-3
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] == 1e-5


def test_the_rate_may_be_held_and_then_fall_on_a_line() -> None:
    """As GANs after pix2pix do: a stage of one rate, and one that falls to it linearly."""
    held = Stage(iterations=50, first_lr=1e-4, last_lr=1e-4, decay="linear")
    assert {learning_rate(held, k) for k in range(50)} == {1e-4}
    falling = Stage(iterations=101, first_lr=1e-4, last_lr=1e-6, decay="linear")
    assert [learning_rate(falling, k) for k in (0, 25, 50, 100)] == pytest.approx([1e-4, 7.525e-5, 5.05e-5, 1e-6])


def test_one_iteration_and_a_warm_up_as_long_as_the_stage_are_defined() -> None:
    assert learning_rate(Stage(iterations=1), 0) == 1e-7
    assert [learning_rate(Stage(iterations=3, warmup=2), k) for k in range(3)][-1] == 1e-7


def test_a_resumed_run_counts_iterations_and_samples_as_if_it_had_not_stopped() -> None:
    stages = [Stage(iterations=10, batch=8), Stage(iterations=5, batch=2)]
    whole = stretches(stages, 0)
    assert [(s.begin, s.start, s.stop, s.first_sample) for s in whole] == [(0, 0, 10, 0), (10, 10, 15, 80)]
    later = stretches(stages, 4)
    assert [(s.begin, s.start, s.stop, s.first_sample) for s in later] == [(0, 4, 10, 32), (10, 10, 15, 80)]
    last = stretches(stages, 12)
    assert [(s.begin, s.start, s.stop, s.first_sample) for s in last] == [(10, 12, 15, 84)]
    assert stretches(stages, 15) == []
