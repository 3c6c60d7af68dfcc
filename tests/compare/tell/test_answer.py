"""The first sentence of a report: may it ship, and which engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unblur.compare.comparison import compare_engines
from unblur.compare.judge.budgets import Budget, Budgets
from unblur.compare.judge.verdict import judge
from unblur.compare.measure.frames import find_frames
from unblur.compare.parts import Cost
from unblur.compare.report import Report
from unblur.compare.tell.answer import answer, columns_of, short_rows
from unblur.compare.tell.plots import HEIGHT, LEFT, WIDTH, paretos
from unblur.compare.tell.write import render_markdown, render_page
from unblur.metrics.quantiles import Ratio


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unblur.compare.tell.answer.noise_of", lambda session, machine: ())


@pytest.fixture
def timed(checkpoint, pictures, settings, faulty) -> Report:
    """`exact` takes 20 ms and `rough` 10 ms of the reference's 40; what was measured here is overwritten."""
    engines = [faulty("exact", lambda t: t), faulty("rough", lambda t: np.clip(t + 0.03, -0.5, 0.5))]
    report = compare_engines(checkpoint, engines, find_frames(*pictures), settings)
    taken = {report.reference: 40.0, "exact": 20.0, "rough": 10.0}
    results = []
    for engine in report.engines:
        assert engine.latency is not None
        ms = taken[engine.name]
        summary = replace(engine.latency.summary, median_ms=ms)
        speedup = Ratio(40.0 / ms, 39.0 / ms, 41.0 / ms, 0.95)
        latency = engine.latency.model_copy(update={"summary": summary, "speedup": speedup})
        results.append(engine.model_copy(update={"latency": latency, "gain_db": 1.5}))  # the weights are random
    return report.model_copy(update={"engines": tuple(results)})


@pytest.mark.parametrize(
    ("budgets", "state", "best", "words"),
    [
        ({}, "none", "rough", "No budget was stated, so nothing here is judged. The fastest engine is rough."),
        (
            {"*": Budget(latency_ms_max=30)}, "kept", "rough",
            "rough may ship: the fastest of 2 engines that keep their budgets.",
        ),
        ({"*": Budget(fidelity_db_min=60)}, "some", "exact", "exact may ship: it keeps its budgets. rough may not."),
        (
            {"*": Budget(fidelity_db_min=60, latency_ms_max=15)}, "broken", None,
            "Nothing may ship: no engine keeps its budgets.",
        ),
        ({"rough": Budget(latency_ms_max=1)}, "broken", None, "Nothing may ship: no engine keeps its budgets."),
    ],
)  # fmt: skip
def test_the_best_is_the_fastest_within_the_budgets(
    timed: Report, budgets: Budgets, state: str, best: str | None, words: str
) -> None:
    told = answer(judge(timed, budgets))
    assert (told.state, told.best, told.sentence) == (state, best, words)
    assert bool(told.cost) == (best is not None)


def test_the_fastest_of_a_noisy_run_is_called_that(timed: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unblur.compare.tell.answer.noise_of", lambda session, machine: ("load 9",))
    assert answer(judge(timed, {})).sentence.endswith("The fastest engine is rough, in a noisy run.")
    told = answer(judge(timed, {"*": Budget(latency_ms_max=30)}))
    assert told.sentence == "rough may ship: the fastest of 2 engines that keep their budgets, in a noisy run."


def test_the_fastest_is_so_of_those_that_were_timed(timed: Report) -> None:
    """A row that stands in for an engine elsewhere keeps budgets and has no milliseconds."""
    stand_in = timed.engines[-1].model_copy(update={"name": "graph", "latency": None})
    report = timed.model_copy(update={"engines": (*timed.engines, stand_in)})
    told = answer(judge(report, {"*": Budget(fidelity_db_min=1)}))
    assert told.sentence == "rough may ship: the fastest of 2 timed engines that keep their budgets."


def test_cost_and_gain_are_told(timed: Report) -> None:
    told = answer(judge(timed, {"*": Budget(fidelity_db_min=60)}))
    assert told.cost.startswith("20.0 ms a ")
    assert "2.00 times as fast as torch; " in told.cost
    assert "none lost; " in told.cost
    assert " dB on the blurred input; fidelity ∞ dB on the worst frame." in told.cost
    best = timed.model_copy(
        update={
            "engines": tuple(
                e.model_copy(update={"cost": Cost(load_s=1, first_frame_s=1, peak_mib=512, disk_mib=1)})
                for e in timed.engines
            )
        }
    )
    assert answer(best).cost.endswith("; 512 MiB of memory at most.")


def test_a_speed_up_whose_interval_holds_one_is_no_difference(timed: Report) -> None:
    engines = []
    for engine in timed.engines:
        assert engine.latency is not None
        even = engine.latency.model_copy(update={"speedup": Ratio(1.02, 0.98, 1.05, 0.95)})
        engines.append(engine.model_copy(update={"latency": even}))
    even = timed.model_copy(update={"engines": tuple(engines)})
    assert " frame, no difference to torch; " in answer(even).cost
    assert "No difference to torch in speed, as far as was measured: exact, rough." in render_markdown(even)
    assert "(0.98–1.05), no difference; p50 " in render_page(even)


def test_the_short_table_begins_with_the_fastest(timed: Report) -> None:
    rows = short_rows(judge(timed, {"*": Budget(fidelity_db_min=60)}))
    assert [(row["name"], row["ships"]) for row in rows] == [("rough", "no"), ("exact", "yes"), ("torch", "reference")]
    assert columns_of(timed) == ["ships", "latency", "speedup", "gain", "loss", "fidelity"]
    assert rows[0]["gain"] == "+1.50"
    bare = timed.model_copy(update={"latency": None, "blurred_quality": None})
    assert columns_of(bare) == ["ships", "fidelity"]


def test_what_is_worse_than_its_input_may_not_ship_by_keeping_a_budget_of_fidelity(timed: Report) -> None:
    worse = timed.model_copy(
        update={"engines": tuple(engine.model_copy(update={"gain_db": -0.2}) for engine in timed.engines)}
    )
    judged = judge(worse, {"*": Budget(latency_ms_max=15)})
    told = answer(judged)
    assert told.state == "none"
    assert told.sentence == "rough keeps its budgets, but its pictures are worse than its blurred input."
    assert [row["ships"] for row in short_rows(judged)] == ["worse than its input", "no", "reference"]
    assert len(judged.warnings) == 3


def test_without_latency_the_most_faithful_is_the_best(timed: Report) -> None:
    bare = timed.model_copy(
        update={"latency": None, "engines": tuple(e.model_copy(update={"latency": None}) for e in timed.engines)}
    )
    assert answer(judge(bare, {"*": Budget(fidelity_db_min=1)})).sentence == (
        "exact may ship: the most faithful of 2 engines that keep their budgets."
    )
    assert paretos(bare, "exact") == []


def test_the_front_joins_what_no_other_beats(timed: Report) -> None:
    judged = judge(timed, {"*": Budget(fidelity_db_min=60)})
    quality, fidelity = paretos(judged, "exact")
    assert [(mark.name, mark.kind) for mark in fidelity.marks] == [("exact", "best"), ("rough", "broken")]
    exact, rough = fidelity.marks
    assert rough.x < exact.x, "faster is further left"
    assert exact.y < rough.y, "more decibels are higher"
    assert fidelity.front == ((rough.x, rough.y), (exact.x, rough.y), (exact.x, exact.y))
    assert [name for name, _, _ in fidelity.limits] == ["fidelity_db_min"]
    assert rough.y > fidelity.limits[0][1] > exact.y, "the budget lies between what breaks it and what keeps it"
    assert [mark.kind for mark in quality.marks] == ["reference", "best", "broken"]
    assert quality.inputs is not None
    for one in (quality, fidelity):
        assert len(one.across) >= 3
        assert len(one.up) >= 2
        for mark in one.marks:
            assert LEFT <= mark.x <= WIDTH
            assert 0 <= mark.y <= HEIGHT


def test_labels_do_not_cover_each_other(timed: Report) -> None:
    """Six engines of one speed and one fidelity: the labels still have a place of their own."""
    one = timed.engines[1]
    many = [one.model_copy(update={"name": f"engine-number-{k}"}) for k in range(6)]
    (_, plot) = paretos(timed.model_copy(update={"engines": (timed.engines[0], *many)}), None)
    places = [(mark.label_x, mark.label_y) for mark in plot.marks]
    assert len(set(places)) == 6
    for k, (x, y) in enumerate(places):
        for a, b in places[:k]:
            assert abs(y - b) > 10 or abs(x - a) > 6 * len("engine-number-0")
