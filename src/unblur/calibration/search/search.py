"""The precision search: which groups of convolutions can be narrow within a budget of decibels, and pay for it.

1. Sensitivity: each group alone in 8 bits, scored on held-out frames. Squared errors of groups add up nearly (they
   are small and independent), so a group's own is what it brings to any assignment.
2. Order groups by squared error per multiply-accumulate and narrow as long a prefix of that order as the budget
   allows, by bisection; then each later group that still fits. Every step is scored, none is predicted.
3. Cost is measured, not predicted: along the order, and with each role (the same layer of all blocks) made wide
   again, since 8-bit islands in wide surroundings can cost more than they save. What is cheaper stays.
4. Where costs are noisy, the cheapest of many is partly the luckiest: those that came close are measured again, all
   together, and these costs decide.

The idea of ranking by isolated sensitivity: Wu et al., "Integer quantization for deep learning inference", 2020,
section 6.1; the additive model: Zhou et al., "Adaptive quantization for deep neural network", AAAI 2018.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from unblur.calibration.search.groups import Group
from unblur.calibration.search.ledger import Ledger
from unblur.core.console import SILENT, Progress
from unblur.core.errors import BudgetError, InputError
from unblur.metrics.decibels import check_limit, decibels_from_json, decibels_to_json

NOISE = 0.15
"""Allowed points whose cost is within this of the cheapest are measured again."""

FINALISTS = 6
"""At most so many."""

Assignment = Mapping[str, int]
"""Group -> bits: 8, 16 or 32."""


@dataclass(frozen=True)
class Outcome:
    """What an assignment keeps: mean fidelity in dB, the PSNR it loses against truth in dB
    (`unblur.metrics.decibels.Loss`; None: no truth), and the fidelity of the worst frame (None: not measured)."""

    fidelity_db: float
    psnr_loss_db: float | None
    worst_db: float | None = None

    def to_json(self) -> dict[str, float | str | None]:
        """Strict JSON: a loss may be infinite."""
        return _in_json(self) | {"worst_db": decibels_to_json(self.worst_db)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Outcome:
        """What `to_json` gave. Raises KeyError and ValueError for anything else."""
        loss, worst = (
            None if values[key] is None else decibels_from_json(values[key]) for key in ("psnr_loss_db", "worst_db")
        )
        return cls(decibels_from_json(values["fidelity_db"]), loss, worst)


@dataclass(frozen=True)
class Budget:
    """Most PSNR against truth that may be lost (`unblur.metrics.decibels.Loss`: a gain is no loss), and least fidelity,
    which limits a change in either direction, on the mean and on the worst frame; in dB, None leaves one open."""

    psnr_loss_db: float | None = 0.02
    fidelity_db: float | None = None
    worst_db: float | None = None

    def __post_init__(self) -> None:
        if self.psnr_loss_db is None and self.fidelity_db is None and self.worst_db is None:
            raise InputError("A search needs a budget: dB of PSNR to lose, or dB of fidelity to keep.")
        check_limit("The budget of PSNR", self.psnr_loss_db)
        check_limit("The budget of fidelity", self.fidelity_db)
        check_limit("The budget of the worst frame's fidelity", self.worst_db)

    def allows(self, outcome: Outcome) -> bool:
        """Whether an outcome keeps within it. Raises InputError where it limits what was not measured."""
        if self.psnr_loss_db is not None:
            if outcome.psnr_loss_db is None:
                raise InputError("The budget is a loss of PSNR, but the frames have no truth; give one of fidelity.")
            if not outcome.psnr_loss_db <= self.psnr_loss_db:
                return False
        if self.worst_db is not None:
            if outcome.worst_db is None:
                raise InputError("The budget is of the worst frame, which was not measured; give one of the mean.")
            if not outcome.worst_db >= self.worst_db:
                return False
        return self.fidelity_db is None or outcome.fidelity_db >= self.fidelity_db


@dataclass(frozen=True)
class Sensitivity:
    """A group alone in 8 bits, the rest as wide as the search starts."""

    group: str
    macs: int
    fidelity_db: float
    psnr_loss_db: float | None


@dataclass(frozen=True)
class Point:
    """An assignment with its outcome and cost; `share` of the network's multiply-accumulates is in 8 bits.

    `number` is its place by rising cost, from 1: what a person asks for it by.
    """

    number: int
    assignment: dict[str, int]
    fidelity_db: float
    psnr_loss_db: float | None
    cost: float
    share: float
    allowed: bool


@dataclass(frozen=True)
class SearchResult:
    """All points that were measured by rising cost, the cheapest allowed one, the one without any narrow group, and
    the Pareto front of fidelity against cost."""

    sensitivities: tuple[Sensitivity, ...]
    points: tuple[Point, ...]
    chosen: Point
    widest: Point
    front: tuple[Point, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "front", pareto_front(self.points))

    def to_json(self) -> dict[str, Any]:
        """Everything, for a report; of the points that are named besides only the number."""
        return {
            "sensitivities": [_in_json(sensitivity) for sensitivity in self.sensitivities],
            "points": [_in_json(point) for point in self.points],
            "chosen": self.chosen.number,
            "widest": self.widest.number,
            "front": [point.number for point in self.front],
        }


def _in_json(measured: Outcome | Sensitivity | Point) -> dict[str, Any]:
    decibels = {name: decibels_to_json(getattr(measured, name)) for name in ("fidelity_db", "psnr_loss_db")}
    return asdict(measured) | decibels


def pareto_front(points: Sequence[Point]) -> tuple[Point, ...]:
    """Points that no other beats in both cost and fidelity, by rising cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.fidelity_db)):
        if not front or point.fidelity_db > front[-1].fidelity_db:
            front.append(point)
    return tuple(front)


def search(
    groups: Sequence[Group],
    levels: Sequence[int],
    score: Callable[[Assignment], Outcome],
    price: Callable[[Assignment], float],
    budget: Budget,
    ledger: Ledger | None = None,
    progress: Progress = SILENT,
    macs: int | None = None,
    price_together: Callable[[Sequence[Assignment]], Sequence[float]] | None = None,
) -> SearchResult:
    """Find the cheapest assignment within the budget among those the search visits.

    `levels`: bits a group may have, such as (8, 32) on a CPU; the widest is where it starts. `score` and `price` are
    asked once for each assignment; with a `ledger` in a file, once for ever. `macs`: multiply-accumulates of the whole
    network (None: of the groups). `price_together` measures the costs of finalists again, None where `price` has no
    noise.

    Raises InputError for no group, fewer than two levels or none of 8 bits; BudgetError when even the widest
    assignment breaks the budget (with what it reaches).
    """
    levels = sorted(set(levels), reverse=True)
    if not groups:
        raise InputError("There is no convolution to decide on: the form leaves all of them out.")
    if len(levels) < 2 or levels[-1] != 8 or not set(levels) <= {8, 16, 32}:
        raise InputError(f"The levels of a search are two or three of 8, 16, 32 and include 8; got {levels}.")
    run = _Search(groups, score, price, budget, ledger or Ledger(None))
    base: dict[str, int] = dict.fromkeys((group.name for group in groups), levels[0])
    if not budget.allows(run.score(base)):
        reached = run.score(base)
        loss = "" if reached.psnr_loss_db is None else f" and loses {reached.psnr_loss_db:.4g} dB of PSNR"
        raise BudgetError(
            f"Without any group in 8 bits the graph keeps {reached.fidelity_db:.1f} dB{loss}: the budget cannot be "
            "met. Allow that much, or start from a wider precision."
        )
    run.price(base)
    for level in levels[1:-1]:
        base = run.narrow(base, level, run.order(base, level, progress)[0], progress)
    order, sensitivities = run.order(base, 8, progress)
    for part in (0.25, 0.5, 0.75, 1.0):  # the shape of the front, beyond the budget too
        run.price(_with(base, order[: math.ceil(len(order) * part)], 8))
    chosen = run.narrow(base, 8, order, progress)
    run.widen_what_does_not_pay(base, chosen, progress)
    if price_together:
        progress.note("measuring the cheapest again, together")
        run.decide(price_together)
    points = run.points(macs or sum(group.macs for group in groups))
    best = next(point for point in points if point.allowed)
    widest = next(point for point in points if set(point.assignment.values()) == {levels[0]})
    return SearchResult(tuple(sensitivities), points, best, widest)


class _Search:
    def __init__(
        self,
        groups: Sequence[Group],
        score: Callable[[Assignment], Outcome],
        price: Callable[[Assignment], float],
        budget: Budget,
        ledger: Ledger,
    ) -> None:
        self.groups, self.budget, self.ledger = groups, budget, ledger
        self._score, self._price = score, price
        self._priced: dict[str, dict[str, int]] = {}
        self._together: dict[str, float] = {}

    def score(self, assignment: Assignment) -> Outcome:
        values = self.ledger.get(f"score {_key(assignment)}", lambda: self._score(assignment).to_json())
        return Outcome.from_json(values)

    def price(self, assignment: Assignment) -> float:
        self._priced[_key(assignment)] = dict(assignment)
        return float(self.ledger.get(f"price {_key(assignment)}", lambda: self._price(assignment)))

    def order(self, base: Assignment, level: int, progress: Progress) -> tuple[list[str], list[Sensitivity]]:
        """Groups by squared error per multiply-accumulate when each alone goes to `level`, and what was seen."""
        alone = []
        for group in progress.track(self.groups, f"sensitivity at {level} bits", len(self.groups)):
            outcome = self.score(_with(base, [group.name], level))
            alone.append(Sensitivity(group.name, group.macs, outcome.fidelity_db, outcome.psnr_loss_db))
        ranked = sorted(alone, key=lambda s: 10 ** (-s.fidelity_db / 10) / s.macs)
        return [s.group for s in ranked], alone

    def narrow(self, base: Assignment, level: int, order: Sequence[str], progress: Progress) -> dict[str, int]:
        """The longest allowed prefix of `order` at `level`, by bisection; then each later group that still fits."""
        progress.note(f"looking for the groups that keep the budget at {level} bits")
        low, high = 0, len(order)  # a prefix of `low` is allowed
        while low < high:
            middle = (low + high + 1) // 2
            if self.budget.allows(self.score(_with(base, order[:middle], level))):
                low = middle
            else:
                high = middle - 1
        taken = list(order[:low])
        for name in order[low + 1 :]:
            if self.budget.allows(self.score(_with(base, [*taken, name], level))):
                taken.append(name)
        found = _with(base, taken, level)
        self.price(found)
        return found

    def widen_what_does_not_pay(self, base: Assignment, found: dict[str, int], progress: Progress) -> None:
        """Give each role its wider precision back where that is cheaper and allowed."""
        roles: dict[str, list[str]] = {}
        for group in self.groups:
            if found[group.name] == 8:
                roles.setdefault(group.role, []).append(group.name)
        for role in progress.track(roles, "what does not pay", len(roles)):
            wider = {**found, **{name: base[name] for name in roles[role]}}
            if self.price(wider) < self.price(found) and self.budget.allows(self.score(wider)):
                found = wider

    def decide(self, price_together: Callable[[Sequence[Assignment]], Sequence[float]]) -> None:
        """Give the cheapest allowed points costs that were measured together, and under the same conditions."""
        allowed = [one for one in self._priced.values() if self.budget.allows(self.score(one))]
        allowed.sort(key=self.price)
        finalists = [one for one in allowed if self.price(one) <= (1 + NOISE) * self.price(allowed[0])][:FINALISTS]
        if len(finalists) > 1:
            key = json.dumps(["together", *map(_key, finalists)])
            costs = self.ledger.get(key, lambda: list(price_together(finalists)))
            self._together = {_key(one): float(cost) for one, cost in zip(finalists, costs, strict=True)}

    def points(self, macs: int) -> tuple[Point, ...]:
        priced = [(self._together.get(key, self.price(one)), self.score(one), one) for key, one in self._priced.items()]
        priced.sort(key=lambda one: (one[0], -one[1].fidelity_db))
        points = []
        for number, (cost, outcome, assignment) in enumerate(priced, start=1):
            eight = sum(group.macs for group in self.groups if assignment[group.name] == 8)
            allowed = self.budget.allows(outcome)
            points.append(
                Point(number, assignment, outcome.fidelity_db, outcome.psnr_loss_db, cost, eight / macs, allowed)
            )
        return tuple(points)


def _with(base: Assignment, names: Sequence[str], bits: int) -> dict[str, int]:
    return {**base, **dict.fromkeys(names, bits)}


def _key(assignment: Assignment) -> str:
    return json.dumps(sorted(assignment.items()))
