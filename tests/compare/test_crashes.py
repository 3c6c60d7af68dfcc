"""Engines that crash or hang in the middle: the others finish, the row says why, and the next run goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from crashing import open_crashing
from small_frames import QUICK

from unblur.compare.candidates import Candidate
from unblur.compare.comparison import compare_engines
from unblur.compare.judge.budgets import Budget
from unblur.compare.measure.frames import find_frames
from unblur.compare.measure.scores import Kept
from unblur.compare.report import Report
from unblur.compare.tell.junit import render_junit
from unblur.compare.tell.sentences import missing_lines, verdict_sentence
from unblur.compare.tell.table import rows_of
from unblur.core.errors import BudgetError, CrashError


@pytest.fixture
def crashing(checkpoint):
    def make(name: str, how: str, good: int, hang_s: float = 60.0) -> Candidate:
        return Candidate(name, lambda _: open_crashing(checkpoint.contract, how, good, hang_s))

    return make


def test_the_others_finish_and_each_row_says_why(checkpoint, pictures, settings, crashing, faulty) -> None:
    engines = [
        crashing("first", "abort", -1),
        crashing("second", "segfault", 1),
        crashing("stuck", "hang", 0, 1.0),
        faulty("fine", lambda tensor: tensor),
        crashing("timed", "kill", 3),
    ]
    budgets = {"fine": Budget(fidelity_db_min=60)}
    report = compare_engines(checkpoint, engines, find_frames(*pictures), replace(settings, budgets=budgets))
    torch, first, second, stuck, fine, timed = report.engines
    assert torch.crashed is fine.crashed is None
    assert "SIGABRT" in first.crashed
    assert second.crashed.startswith("night/b.png: its process was ended by SIGSEGV")
    assert "did not end within 1 s" in stuck.crashed
    assert "SIGKILL" in timed.crashed
    assert "into a timed frame" in timed.crashed
    assert [len(engine.frames) for engine in report.engines] == [2, 0, 1, 0, 2, 2]
    assert second.worst_fidelity_db is None  # a mean of other frames
    assert timed.worst_fidelity_db is not None
    assert [engine.latency is None for engine in report.engines] == [False, True, True, True, False, True]
    assert fine.latency.summary.count == QUICK.rounds
    assert {sample.name for sample in report.latency.samples} == {"torch", "fine"}
    assert [row.verdict for row in rows_of(report)[1:]] == ["reference", *["crashed"] * 3, "kept", "crashed"]
    assert len(missing_lines(report)) == 4
    assert verdict_sentence(report).endswith("Crashed: first, second, stuck, timed.")
    assert [case.get("name") for case in ElementTree.fromstring(render_junit(report)).iter("testcase")].count(
        "crash"
    ) == 4
    assert Report.model_validate(json.loads(json.dumps(report.to_json()))).engines == report.engines
    with pytest.raises(CrashError, match=r"(?s)4 engine\(s\) crashed.*second: night/b\.png: its process") as caught:
        report.enforce()
    assert caught.value.exit_code == 4


def test_a_budget_of_all_reaches_an_engine_that_crashed(checkpoint, pictures, settings, crashing) -> None:
    """Unlike one that this machine cannot run: what crashes may not ship."""
    limits = replace(settings, protocol=None, budgets={"*": Budget(fidelity_db_min=1)})
    report = compare_engines(checkpoint, [crashing("x", "exit", 1)], find_frames(*pictures), limits)
    with pytest.raises(BudgetError, match=r"x: fidelity_db_min is 1, measured nothing \(night/b\.png: its process"):
        report.enforce()


def test_the_next_run_goes_on_where_it_crashed(checkpoint, pictures, settings, crashing, tmp_path) -> None:
    frames = [frame.pinned() for frame in find_frames(*pictures)]
    kept = replace(settings, protocol=None, kept=Kept(tmp_path / "scores", {"torch": "1", "x": "2"}))
    report = compare_engines(checkpoint, [crashing("x", "exit", 1)], frames, kept)
    assert len(report.engines[1].frames) == 1
    again = compare_engines(checkpoint, [crashing("x", "exit", 1)], frames, replace(kept, pictures=0))
    assert again.engines[1].crashed is None  # one frame was left, and it bears one
    assert again.engines[1].frames[0] == report.engines[1].frames[0]
    again.enforce()


def test_without_the_reference_there_is_nothing_to_go_on_with(checkpoint, pictures, settings, crashing) -> None:
    from unblur.compare.candidates import torch_reference

    reference = replace(torch_reference(checkpoint, 1), engine=crashing("torch", "exit", 0))
    with pytest.raises(CrashError, match=r"The reference torch on a\.png: its process ended by itself"):
        compare_engines(reference, [], find_frames(*pictures), settings)
