"""Decibels with infinities among them: what is averaged, what is counted, and what JSON holds."""

import json
import math

import pytest
from pydantic import BaseModel, ValidationError

from unblur.core.errors import InputError
from unblur.metrics.decibels import (
    Decibels,
    Loss,
    best_first,
    check_limit,
    decibels_from_json,
    decibels_text,
    decibels_to_json,
    gain_decibels,
    gain_over_input,
    loss_decibels,
    mean_decibels,
)

INF = math.inf


def test_a_gain_over_the_input_counts_neither_sharp_inputs_nor_perfect_results() -> None:
    assert gain_over_input([20.0, 30.0], [21.0, 28.0]) == pytest.approx(-0.5)
    assert gain_over_input([20.0, INF, 25.0, INF], [22.0, 9.0, INF, INF]) == pytest.approx(2.0)
    assert gain_over_input([20.0, INF], [INF, 9.0]) == INF
    assert gain_over_input([INF, INF], [9.0, INF]) is None


def test_a_mean_is_of_the_finite_ones_and_counts_the_others() -> None:
    mean = mean_decibels([INF, 20.0, 30.0])
    assert (mean.db, mean.finite, mean.infinite) == (25.0, 2, 1)
    assert mean_decibels([INF, INF]).db == INF
    with pytest.raises(InputError, match="no frame"):
        mean_decibels([])


@pytest.mark.parametrize(
    ("reference", "candidate", "loss"),
    [
        ([30.0, 40.0], [29.0, 40.5], Loss(0.25, 2)),
        # A black pair beside a real one: it hides nothing, and does not halve the loss either.
        ([INF, 30.0], [INF, 21.0], Loss(9.0, 1, untouched=1)),
        ([INF, 30.0], [48.0, 30.0], Loss(INF, 1, spoilt=1)),
        ([30.0, 30.0], [INF, 29.0], Loss(1.0, 1, perfected=1)),
        ([INF], [INF], Loss(0.0, 0, untouched=1)),
        ([30.0], [INF], Loss(0.0, 0, perfected=1)),
        ([INF, 30.0], [48.0, INF], Loss(INF, 0, spoilt=1, perfected=1)),
    ],
)
def test_losses_are_by_frame(reference: list[float], candidate: list[float], loss: Loss) -> None:
    assert loss_decibels(reference, candidate) == loss
    assert bool(loss.remark) == (loss.compared < len(reference))


def test_a_loss_of_nothing_and_of_unequal_lengths() -> None:
    with pytest.raises(InputError, match="no frame"):
        loss_decibels([], [])
    with pytest.raises(ValueError, match="shorter"):
        loss_decibels([1.0, 2.0], [1.0])


def test_the_remark_tells_every_kind() -> None:
    remark = Loss(INF, 3, untouched=1, spoilt=2, perfected=4).remark
    assert remark.startswith("mean over 3 of 10 frames; 1 identical to the truth in both, 2 ")
    assert "unbounded loss" in remark
    assert remark.endswith("4 identical to it in the candidate only")


def test_ranking_with_frames_that_somebody_keeps_exactly() -> None:
    assert best_first([[INF, 40.0], [INF, 50.0], [INF, 45.0]]) == [1, 2, 0]
    # 40 and exact against 60 and 39.9: infinity counts as 60 there, so the first is better, by 0.05 dB.
    assert best_first([[60.0, 39.9], [INF, 40.0]]) == [1, 0]
    assert best_first([[INF, 30.0], [60.0, 40.0]]) == [1, 0]
    assert best_first([[60.0, 40.0], [INF, 40.0], [60.0, 40.0]]) == [1, 0, 2]
    assert best_first([[INF], [INF]]) == [0, 1]


def test_json_is_strict_both_ways() -> None:
    for value in (INF, -INF, 12.5, 0.0):
        text = json.dumps(decibels_to_json(value), allow_nan=False)
        assert decibels_from_json(json.loads(text)) == value
    assert decibels_to_json(None) is None
    with pytest.raises(ValueError, match="NaN"):
        decibels_to_json(math.nan)
    for wrong in ("inf", "NaN", math.nan, None, True, [1.0]):
        with pytest.raises(ValueError, match="no number of decibels"):
            decibels_from_json(wrong)


def test_a_field_of_decibels_is_never_nan() -> None:
    class Row(BaseModel):
        db: Decibels
        loss: Loss | None = None

    row = Row(db=INF, loss=Loss(INF, 1, spoilt=1))
    assert Row.model_validate(json.loads(row.model_dump_json())) == row
    assert Row.model_validate(row.model_dump(mode="json")) == row
    assert json.dumps(row.model_dump(mode="json"), allow_nan=False) == json.dumps(json.loads(row.model_dump_json()))
    with pytest.raises(ValidationError, match="no number of decibels"):
        Row(db=math.nan)


def test_a_gain_between_infinities_is_a_number() -> None:
    assert gain_decibels(-INF, -INF) == gain_decibels(INF, INF) == 0.0
    assert gain_decibels(-INF, 3.0) == INF
    assert gain_decibels(30.0, 31.5) == 1.5


def test_text() -> None:
    assert [decibels_text(v) for v in (None, INF, -INF, 1.239)] == ["–", "∞", "-∞", "1.24"]
    assert [decibels_text(v, 1, signed=True) for v in (INF, 0.26, -0.26)] == ["+∞", "+0.3", "-0.3"]


def test_a_budget_is_a_finite_number() -> None:
    check_limit("x", None)
    check_limit("x", -3.0)
    for wrong in (math.nan, INF):
        with pytest.raises(InputError, match=r"x is .*finite number"):
            check_limit("x", wrong)
