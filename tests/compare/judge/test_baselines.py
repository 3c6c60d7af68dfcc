"""A loss since the baseline is found, nothing else is; what is not comparable is refused or told."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unblur.compare.comparison import compare_engines
from unblur.compare.judge.baselines import accept, hold_against, is_baseline, load_baseline
from unblur.compare.judge.budgets import Budget
from unblur.compare.judge.verdict import judge
from unblur.compare.measure.frames import find_frames
from unblur.compare.report import EngineResult, Report
from unblur.compare.tell.junit import render_junit
from unblur.compare.tell.write import render_markdown, render_page
from unblur.compare.timing import LatencyResult, LatencySession
from unblur.core.errors import BudgetError, InputError
from unblur.metrics.quantiles import quantiles, speedup, summarise
from unblur.metrics.stopwatch import Protocol, Sample

Make = Callable[..., Report]


@pytest.fixture
def report(checkpoint, pictures, settings, faulty) -> Report:
    """Of the reference and of an engine that is near it, with truth, without latency."""
    engine = faulty("near", lambda tensor: tensor + 0.01)
    return compare_engines(checkpoint, [engine], find_frames(*pictures), replace(settings, protocol=None))


def shifted(report: Report, loss_db: dict[str, float] | float, measure: str = "psnr", name: str = "near") -> Report:
    """The report with the engine this much worse, on all frames or on those that are named."""

    def engine(one: EngineResult) -> EngineResult:
        if one.name != name:
            return one
        frames = []
        for frame in one.frames:
            lost = loss_db if isinstance(loss_db, float) else loss_db.get(frame.frame, 0.0)
            if measure == "psnr":
                assert frame.quality is not None
                change: dict[str, Any] = {
                    "quality": frame.quality.model_copy(update={"psnr_db": frame.quality.psnr_db - lost})
                }
            else:
                assert frame.fidelity.tensor_db is not None
                change = {"fidelity": frame.fidelity.model_copy(update={"tensor_db": frame.fidelity.tensor_db - lost})}
            frames.append(frame.model_copy(update=change))
        return one.model_copy(update={"frames": tuple(frames)})

    return report.model_copy(update={"engines": tuple(engine(one) for one in report.engines)})


def timed(report: Report, factors: dict[str, float], *, load: float = 0.5, seed: int = 0, **about: str) -> Report:
    """The report with 20 rounds of latency, drawn from a seed: 100 ms and this many times as much, ±1 %."""
    rng = np.random.default_rng(seed)
    rounds = {name: 100 * factor * (1 + 0.01 * rng.standard_normal(20)) for name, factor in factors.items()}
    samples = tuple(
        Sample(name, k, 0.0, float(value), False) for name, values in rounds.items() for k, value in enumerate(values)
    )
    session = LatencySession(
        height=20, width=24, frames=("a.png",), protocol=Protocol(rounds=20), load_before=load, warmup_rounds=0,
        samples=samples,
    )  # fmt: skip
    description = {"device": "cpu", "threads": "1", **about}
    results = {
        name: LatencyResult(
            description=description, summary=summarise(values), speedup=speedup(rounds["torch"], values),
            warmed_up=True, quantiles=quantiles(values),
        )
        for name, values in rounds.items()
    }  # fmt: skip
    engines = tuple(one.model_copy(update={"latency": results.get(one.name)}) for one in report.engines)
    machine = report.machine | {"usable_cores": "2", "cpu": "A processor"}
    return report.model_copy(update={"engines": engines, "latency": session, "machine": machine})


@pytest.fixture
def held(tmp_path: Path) -> Callable[[Report, Report], Report]:
    """Accept the first, hold the second against it."""

    def hold(then: Report, now: Report) -> Report:
        path = tmp_path / "baseline.json"
        accept(then, path, "it is right")
        return hold_against(now, load_baseline(path), path)

    return hold


def broken(report: Report) -> list[tuple[str, str]]:
    return [(engine.name, check.budget) for engine, check in report.checks if not check.kept]


def test_the_same_report_has_lost_nothing_and_says_so(report: Report, held) -> None:
    now = held(report, report)
    now.enforce()
    assert [(e.name, c.budget) for e, c in now.checks] == [
        ("near", "baseline_fidelity_loss_db"), ("near", "baseline_psnr_loss_db"),
    ]  # fmt: skip
    assert now.since is not None
    assert {(change.lost, change.state) for change in now.since.changes} == {(0.0, "kept")}
    assert Report.model_validate(now.to_json()) == now.model_copy(update={"strips": (), "attention": ()})
    assert "nothing lost in 3 comparison(s)" in render_markdown(now)


@pytest.mark.parametrize("measure", ["psnr", "fidelity"])
def test_a_tenth_of_a_decibel_is_caught_and_a_gain_is_not(report: Report, held, measure: str) -> None:
    now = held(report, shifted(report, 0.1, measure))
    assert broken(now) == [("near", f"baseline_{measure}_loss_db")]
    with pytest.raises(BudgetError, match=rf"near: baseline_{measure}_loss_db is 0\.0\d+, measured 0\.1"):
        now.enforce()
    assert broken(held(report, shifted(report, -0.1, measure))) == []
    for text in (render_markdown(now), render_page(now)):
        assert "0.100 dB a picture (0.100 to 0.100)" in text
    assert b'failures="1"' in render_junit(now)


def test_a_mean_whose_interval_reaches_down_to_nothing_is_kept_but_one_spoilt_picture_is_not(
    report: Report, held
) -> None:
    assert broken(held(report, shifted(report, {"a.png": 0.4}))) == []  # the other lost nothing: chance?
    now = held(report, shifted(report, {"a.png": 1.5, "night/b.png": -1.5}))
    assert broken(now) == [("near", "baseline_psnr_loss_db")]
    assert now.since is not None
    assert "1.50 dB on a.png" in {change.why for change in now.since.changes}
    with pytest.raises(BudgetError, match=r"baseline_psnr_loss_db is 0\.005, measured 1\.5"):
        now.enforce()


def test_a_picture_that_was_the_truth_and_is_it_no_more_is_lost(report: Report, held) -> None:
    exact = shifted(report, {"a.png": -math.inf})
    assert broken(held(exact, exact)) == []
    assert broken(held(exact, report)) == [("near", "baseline_psnr_loss_db")]
    assert broken(held(report, exact)) == []


def test_fidelity_of_float32_rounding_is_nothing_to_lose(report: Report, held) -> None:
    assert broken(held(shifted(report, -130.0, "fidelity"), shifted(report, -100.0, "fidelity"))) == []


def test_a_frame_that_fails_now_is_a_loss(report: Report, held) -> None:
    engines = tuple(
        one.model_copy(update={"frames": one.frames[:1]}) if one.name == "near" else one for one in report.engines
    )
    now = held(report, report.model_copy(update={"engines": engines}))
    assert [name for name, _ in broken(now)] == ["near", "near"]
    with pytest.raises(BudgetError, match="measured nothing"):
        now.enforce()


def test_the_reference_is_no_row_of_checks_unless_it_lost(report: Report, held) -> None:
    assert broken(held(report, shifted(report, 0.1, name="torch"))) == [("torch", "baseline_psnr_loss_db")]


def test_engines_of_one_side_are_named(report: Report, held) -> None:
    near = next(e for e in report.engines if e.name == "near")

    def beside(name: str) -> Report:
        return report.model_copy(update={"engines": (*report.engines, near.model_copy(update={"name": name}))})

    now = held(beside("old"), beside("new"))
    assert now.since is not None
    assert "new is new: the baseline has no such engine." in now.since.notes
    assert "old is in the baseline and was not compared now." in now.since.notes
    assert broken(now) == []
    alone = report.model_copy(update={"engines": tuple(e for e in report.engines if e.name != "near")})
    with pytest.raises(InputError, match="none of these was compared now"):
        held(report, alone)


def test_an_engine_that_cannot_be_measured_any_more_has_lost(report: Report, held) -> None:
    gone = {"not_measured": "no such processor", "frames": ()}
    engines = tuple(e.model_copy(update=gone) if e.name == "near" else e for e in report.engines)
    now = held(report, report.model_copy(update={"engines": engines}))
    assert {name for name, *_ in broken(now)} == {"near"}


@pytest.mark.parametrize("left", ["nothing", "the reference alone", "no reference", "a name twice", "no frames"])
def test_a_report_of_nothing_is_no_baseline(report: Report, held, left: str) -> None:
    reference, *others = sorted(report.engines, key=lambda e: not e.is_reference)
    engines = {
        "nothing": (),
        "the reference alone": (reference,),
        "no reference": tuple(others),
        "a name twice": (reference, others[0], others[0]),
        "no frames": (reference, others[0].model_copy(update={"frames": ()})),
    }[left]
    with pytest.raises(InputError, match="no whole report"):
        held(report.model_copy(update={"engines": engines}), report)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": "other"}, "of another network"),
        ({"checkpoint_digest": "0" * 64}, "of another checkpoint: 000000000000"),
        ({"reference": "onnxruntime"}, "of another reference"),
        ({"blurred_quality": None}, "differ in whether they have the sharp pictures"),
    ],
)
def test_a_baseline_of_something_else_is_refused(report: Report, held, change: dict[str, Any], words: str) -> None:
    if "reference" in change:
        engines = tuple(e.model_copy(update={"name": "onnxruntime"}) if e.is_reference else e for e in report.engines)
        change = change | {"engines": engines}
    with pytest.raises(InputError, match=words):
        held(report.model_copy(update=change), report)


def test_other_pictures_and_other_sizes_are_refused(report: Report, held) -> None:
    def frames(**update: Any) -> Report:
        engines = tuple(
            e.model_copy(update={"frames": (e.frames[0].model_copy(update=update), *e.frames[1:])})
            for e in report.engines
        )
        return report.model_copy(update={"engines": engines})

    with pytest.raises(InputError, match=r"of other pictures: a\.png, c\.png on one side only"):
        held(frames(frame="c.png"), report)
    with pytest.raises(InputError, match=r"another size of a\.png: 99x24, and this comparison is of 20x24"):
        held(frames(height=99), report)
    with pytest.raises(InputError, match=r"another content of a\.png \(SHA-256 of its pixels\): 0000, and"):
        held(frames(pixels="0000"), report)
    held(frames(pixels=None), report)  # a baseline of old does not tell
    assert report.blurred_quality is not None
    blurred = report.blurred_quality.model_copy(update={"psnr_db": report.blurred_quality.psnr_db + 0.1})
    with pytest.raises(InputError, match="another content of pictures of these names"):
        held(report.model_copy(update={"blurred_quality": blurred}), report)


def test_another_channel_order_is_refused(report: Report, held) -> None:
    """Without truth nothing else would tell: fidelity is against the network fed as wrongly."""
    bare = report.model_copy(update={"blurred_quality": None})
    reference, *others = bare.engines
    turned = reference.model_copy(update={"contract": replace(reference.contract, channel_order="rgb")})
    with pytest.raises(InputError, match="of another channel order: bgr, and this comparison is of rgb"):
        held(bare, bare.model_copy(update={"engines": (turned, *others)}))


def test_what_broke_its_own_budgets_is_accepted_by_name_alone(report: Report, held, tmp_path: Path) -> None:
    over = judge(report, {"*": Budget(fidelity_db_min=99)})
    with pytest.raises(InputError, match=r"broke 1 of its own budgets, such as near: fidelity_db_min.*--broken"):
        accept(over, tmp_path / "b.json", "x")
    assert not (tmp_path / "b.json").exists()
    accept(over, tmp_path / "b.json", "x", broken=True)
    accept(held(report, shifted(report, 1.0)), tmp_path / "b.json", "a loss since the last one is what it is for")
    crashed = report.engines[1].model_copy(update={"crashed": "its process was ended by SIGSEGV"})
    with pytest.raises(InputError, match="near crashed in this report"):
        accept(report.model_copy(update={"engines": (report.engines[0], crashed)}), tmp_path / "b.json", "x")


def test_latency_is_lost_where_the_engine_is_slower_and_not_the_machine(report: Report, held) -> None:
    then = timed(report, {"torch": 2.0, "near": 1.0})
    for factor, state in ((1.0, "kept"), (0.8, "kept"), (1.1, "lost")):
        now = held(then, timed(report, {"torch": 2.0, "near": factor}, seed=1))
        assert now.since is not None
        (change,) = [one for one in now.since.changes if one.measure == "latency_ms"]
        assert change.state == state
        assert (("near", "baseline_slowdown") in broken(now)) == (state == "lost")
    slower = held(then, timed(report, {"torch": 2.4, "near": 1.2}, seed=1))
    assert broken(slower) == []
    assert "near: latency cannot be told: 99.98 ms, now 120.1 ms" in render_markdown(slower)
    assert "torch is slower beside it: the machine" in render_markdown(slower)


def test_noisy_sessions_tell_nothing_and_break_nothing(report: Report, held) -> None:
    then = timed(report, {"torch": 2.0, "near": 1.0})
    now = held(then, timed(report, {"torch": 2.0, "near": 3.0}, seed=1, load=9.0))
    assert broken(now) == []
    assert "noisy (now: load 9.0 on 2 core(s))" in render_markdown(now)


def test_latency_of_another_machine_size_or_of_none_is_not_held(report: Report, held) -> None:
    then = timed(report, {"torch": 2.0, "near": 1.0})
    now = held(then, timed(report, {"torch": 2.0, "near": 3.0}, threads="8"))
    assert broken(now) == []
    assert "another class of machine: A processor, 1 thread(s), now A processor, 8 thread(s)" in render_markdown(now)
    now = held(then, report)
    assert "this comparison has none" in render_markdown(now)
    assert then.latency is not None
    wider = then.model_copy(update={"latency": then.latency.model_copy(update={"width": 99})})
    with pytest.raises(InputError, match="size of the latency: 20x24, and this comparison is of 20x99"):
        held(then, wider)


def test_a_baseline_says_why_when_and_what_it_replaces(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    first = accept(report, path, " first ")
    assert (first.reason, first.replaces) == ("first", None)
    assert load_baseline(path).report == report.model_copy(update={"strips": (), "attention": ()})
    assert is_baseline(path)
    second = accept(hold_against(report, first, path), path, "second \udcff")
    assert second.reason == "second \\udcff"  # bytes of a shell that are no UTF-8
    assert second.replaces is not None
    assert second.report.since is None
    with pytest.raises(InputError, match="needs a reason"):
        accept(report, path, " ")


def test_what_is_no_baseline_is_refused(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    with pytest.raises(InputError, match="does not exist; write it: unblur accept"):
        load_baseline(path)
    path.write_text(json.dumps(report.to_json()))
    assert not is_baseline(path)
    with pytest.raises(InputError, match=r"its form is 'unblur comparison 1', not 'unblur baseline 1'"):
        load_baseline(path)
    accept(report, path, "x")
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"form": "unblur baseline 0"}))
    with pytest.raises(InputError, match="its form is 'unblur baseline 0'"):
        load_baseline(path)
    path.write_text(json.dumps(values | {"report": {}}))
    with pytest.raises(InputError, match="no whole baseline: report"):
        load_baseline(path)
