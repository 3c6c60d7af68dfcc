"""The precision search against models whose best answer is known, and its ledger against a crash."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from unblur.calibration.search.groups import Group
from unblur.calibration.search.ledger import Ledger
from unblur.calibration.search.search import Assignment, Budget, Outcome, Point, pareto_front, search
from unblur.core.errors import BudgetError, InputError

GROUPS = tuple(
    Group(f"BAM_{k // 3 + 1}.{'abc'[k % 3]}", (f"n{k}/Conv",), 100 + 10 * k, f"BAM_{k // 3 + 1}") for k in range(9)
)
NOISE = dict(zip((g.name for g in GROUPS), 1e-6 * np.array([1, 9, 2, 8, 3, 7, 4, 6, 500.0]), strict=True))


class Model:
    """Squared errors add; a group at 16 bits makes a thousandth of its noise. A MAC costs what its bits are."""

    def __init__(self, penalty: float = 0.0) -> None:
        self.scores: list[str] = []
        self.penalty = penalty  # for role b in 8 bits

    def score(self, assignment: Assignment) -> Outcome:
        self.scores.append(str(sorted(assignment.items())))
        factor = {8: 1.0, 16: 1e-3, 32: 0.0}
        error = 1e-9 + sum(NOISE[name] * factor[bits] for name, bits in assignment.items())
        return Outcome(float(-10 * np.log10(error)), error * 1000)

    def price(self, assignment: Assignment) -> float:
        cost = sum(group.macs * assignment[group.name] for group in GROUPS)
        return cost + self.penalty * sum(assignment[g.name] == 8 and g.role == "BAM.b" for g in GROUPS)


@pytest.mark.parametrize("levels", [(8, 32), (8, 16, 32)])
@pytest.mark.parametrize("loss_db", [0.005, 0.01, 0.02, 0.041, 1.0])
def test_it_comes_close_to_the_best_of_all_assignments(levels: tuple[int, ...], loss_db: float) -> None:
    model, budget = Model(), Budget(loss_db)
    result = search(GROUPS, levels, model.score, model.price, budget)
    assert result.chosen.allowed
    assert result.chosen.psnr_loss_db is not None
    assert result.chosen.psnr_loss_db <= loss_db
    names = [group.name for group in GROUPS]
    all_of_them = (dict(zip(names, bits, strict=True)) for bits in itertools.product((levels[0], levels[-1]), repeat=9))
    best = min(model.price(a) for a in all_of_them if budget.allows(model.score(a)))
    assert result.chosen.cost <= 1.1 * best  # a greedy order; observed 1.0 to 1.05


def test_the_noisiest_group_stays_wide_and_the_report_says_which_it_is() -> None:
    model = Model()
    result = search(GROUPS, (8, 32), model.score, model.price, Budget(0.05))
    assert result.chosen.assignment["BAM_3.c"] == 32
    assert sum(bits == 8 for bits in result.chosen.assignment.values()) == 8
    assert min(result.sensitivities, key=lambda s: s.fidelity_db).group == "BAM_3.c"
    assert result.chosen.share == pytest.approx(sum(g.macs for g in GROUPS[:8]) / sum(g.macs for g in GROUPS))


def test_a_role_that_costs_more_in_8_bits_is_made_wide_again() -> None:
    model = Model(penalty=1e5)
    chosen = search(GROUPS, (8, 32), model.score, model.price, Budget(0.05)).chosen.assignment
    assert {chosen[g.name] for g in GROUPS if g.role == "BAM.b"} == {32}
    assert chosen["BAM_1.a"] == 8


def test_the_front_has_no_point_that_another_beats() -> None:
    model = Model()
    result = search(GROUPS, (8, 32), model.score, model.price, Budget(0.02))
    assert len(result.front) >= 3
    for point in result.front:
        assert not any(p.cost <= point.cost and p.fidelity_db > point.fidelity_db for p in result.points), point
    costs = [point.cost for point in result.front]
    assert costs == sorted(costs)


def test_ties_in_cost_leave_the_better_point_on_the_front() -> None:
    points = [
        Point(1, {}, db, None, cost, 0.0, True) for db, cost in ((50.0, 1.0), (60.0, 1.0), (55.0, 2.0), (70.0, 3.0))
    ]
    assert [(p.fidelity_db, p.cost) for p in pareto_front(points)] == [(60.0, 1.0), (70.0, 3.0)]


def test_a_budget_that_cannot_be_met_says_what_can() -> None:
    model = Model()
    with pytest.raises(BudgetError, match=r"keeps 90\.0 dB and loses 1e-06 dB"):
        search(GROUPS, (8, 32), model.score, model.price, Budget(1e-9))


def test_a_killed_search_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    whole = Model()
    expected = search(GROUPS, (8, 32), whole.score, whole.price, Budget(0.02))
    path = tmp_path / "ledger.jsonl"
    for limit in (3, 7, 100):
        model = Model()

        def dying(assignment: Assignment, model: Model = model, limit: int = limit) -> Outcome:
            if len(model.scores) == limit:
                raise KeyboardInterrupt
            return model.score(assignment)

        try:
            found = search(GROUPS, (8, 32), dying, model.price, Budget(0.02), Ledger(path))
        except KeyboardInterrupt:
            with path.open("a") as file:
                file.write('{"key": "score [[\\"BAM_1.a\\", 8')  # the line that the crash cut off
    assert found == expected
    assert len(model.scores) == len(set(whole.scores)) - 10  # none of the first ten was computed again


def test_a_damaged_line_of_the_ledger_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    values = {"first": 1.25, "second": [1, 2], "third": {"db": 60.5}}
    for key, value in values.items():
        ledger.get(key, lambda value=value: value)  # type: ignore[misc]
    lines = path.read_bytes().splitlines(keepends=True)
    for harm in (b"1.26", b'"1.25"', b"", b"\xff", b"[" * 100_000):
        path.write_bytes(lines[0].replace(b"1.25", harm) + b"".join(lines[1:]))
        ledger, computed = Ledger(path), [1.25]
        assert {key: ledger.get(key, computed.pop) for key in reversed(values)} == values
        assert not computed
        assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted(lines)


def test_of_noisy_costs_those_that_came_close_are_measured_again_together() -> None:
    model, asked = Model(), []
    lucky: list[Assignment] = []

    def noisy(assignment: Assignment) -> float:
        """The true cost, but for one lucky measurement of an assignment with the first group wide."""
        if not lucky and assignment["BAM_1.a"] == 32 and assignment["BAM_1.c"] == 8:
            lucky.append(dict(assignment))
            return 0.9 * cheapest
        return model.price(assignment)

    def together(assignments: Sequence[Assignment]) -> list[float]:
        asked.append([dict(assignment) for assignment in assignments])
        return [model.price(assignment) for assignment in assignments]

    cheapest = search(GROUPS, (8, 32), model.score, model.price, Budget(0.05)).chosen.cost
    fooled = search(GROUPS, (8, 32), model.score, noisy, Budget(0.05)).chosen
    assert fooled.assignment in lucky
    lucky.clear()
    chosen = search(GROUPS, (8, 32), model.score, noisy, Budget(0.05), price_together=together).chosen
    assert lucky[0] in asked[0]
    assert 2 <= len(asked[0]) <= 6
    assert chosen.cost == cheapest


@pytest.mark.parametrize("levels", [(8,), (16, 32), (4, 8), ()])
def test_levels_are_checked(levels: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="two or three of 8, 16, 32"):
        search(GROUPS, levels, Model().score, Model().price, Budget())


def test_a_budget_limits_something_that_was_measured() -> None:
    with pytest.raises(InputError, match="needs a budget"):
        Budget(None, None)
    with pytest.raises(InputError, match="no truth"):
        Budget(0.02).allows(Outcome(60.0, None))
    assert not Budget(0.02).allows(Outcome(90.0, float("nan")))
    spoilt = Outcome.from_json(json.loads(json.dumps(Outcome(90.0, math.inf).to_json(), allow_nan=False)))
    assert spoilt == Outcome(90.0, math.inf)
    assert not Budget(1e9).allows(spoilt)
    with pytest.raises(InputError, match="finite number"):
        Budget(float("nan"))
    assert Budget(0.02).allows(Outcome(90.0, -0.03))  # a gain is no loss, as in scores and verdicts
    assert not Budget(0.02, 95.0).allows(Outcome(90.0, -0.03))  # fidelity limits change in either direction
    assert Budget(None, 50.0).allows(Outcome(50.0, None))
    for worst_db, allowed in ((50.0, True), (49.9, False)):
        assert Budget(None, None, 50.0).allows(Outcome(90.0, None, worst_db)) is allowed
    with pytest.raises(InputError, match="worst frame, which was not measured"):
        Budget(None, None, 50.0).allows(Outcome(90.0, None))
    assert Outcome.from_json(Outcome(50.0, None, 45.0).to_json()) == Outcome(50.0, None, 45.0)


@pytest.mark.parametrize(
    ("block", "group", "role"),
    [
        ("BAM_1", "BAM_1.content_conv_2", "BAM.content_conv_2"),
        ("body.12", "body.12.conv1", "body.conv1"),
        ("encoder", "en_layer1.0", "en_layer1.0"),
        ("conv1", "conv1", "conv1"),
        ("", "conv1", "conv1"),
    ],
)
def test_blocks_share_a_role(block: str, group: str, role: str) -> None:
    assert Group(group, ("any/Conv",), 1, block).role == role
