"""Detectors in a comparison: a warning everywhere, and in a gate a broken check, whatever the means say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unblur.cli.report_table import print_report
from unblur.compare.comparison import UNGUARDED, compare_engines
from unblur.compare.judge.budgets import Budget
from unblur.compare.load import load_report
from unblur.compare.measure.frames import find_frames
from unblur.compare.tell.write import write_report
from unblur.core.errors import BudgetError
from unblur.metrics.detectors.detect import DETECTORS


def _black_block(tensor):
    tensor[..., :16, :16] = -0.5
    return tensor


def test_a_finding_breaks_a_gate_that_every_mean_would_keep(
    checkpoint, pictures, settings, faulty, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = [faulty("twin", lambda t: t), faulty("lost", _black_block)]
    limits = replace(settings, protocol=None, detectors=True, budgets={"*": Budget(fidelity_db_min=1)})
    report = compare_engines(checkpoint, engines, find_frames(pictures[0]), limits)
    twin, lost = report.engines[1:]
    assert twin.findings == []
    assert [(check.budget, check.kept) for check in twin.checks] == [("fidelity_db_min", True)]
    assert [(check.budget, check.kept) for check in lost.checks] == [("fidelity_db_min", True), ("findings_max", False)]
    blocks = [(frame, found.top, found.left) for frame, found in lost.findings if found.detector == "constant block"]
    assert blocks == [("a.png", 0, 0), ("night/b.png", 0, 0)]
    with pytest.raises(BudgetError, match=r"lost: findings_max is 0, measured .*16x16 at row 0, column 0"):
        report.enforce()
    written = write_report(report, tmp_path / "report")
    print_report(report)
    told = [written.markdown.read_text(), written.junit.read_text(), written.html.read_text(), capsys.readouterr().out]
    assert all("16x16 at row 0, column 0" in text for text in told)
    assert f"{len(DETECTORS)} detectors of what means hide" in told[0]
    assert load_report(written.json).engines[2].findings == lost.findings


def test_without_a_budget_a_finding_warns_and_off_is_told(checkpoint, pictures, settings, faulty) -> None:
    frames, engines = find_frames(pictures[0]), [faulty("lost", _black_block)]
    free = replace(settings, protocol=None, detectors=True)
    report = compare_engines(checkpoint, engines, frames, free)
    assert any(
        line.startswith("lost makes pictures that are wrong beside the reference's: ") for line in report.warnings
    )
    report.enforce()
    off = compare_engines(checkpoint, engines, frames, replace(free, detectors=False))
    assert (off.detectors, off.warnings, off.notes) == ((), (), (UNGUARDED,))
    assert off.engines[1].findings == []
