"""The table of a comparison at the widths that people have; the committed report is a real one with long numbers."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from unblur.cli.report_table import print_report, report_lines
from unblur.compare.judge.budgets import Budget
from unblur.compare.judge.verdict import judge
from unblur.compare.report import Report
from unblur.compare.tell.table import rows_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report() -> Report:
    found = Report.model_validate_json((ROOT / "compare/baselines/comparison-banet-nano/report.json").read_text())
    return judge(found, {"*": Budget(fidelity_db_min=55, latency_ms_max=500)})


NEEDED = ("name", "verdict", "fidelity", "loss", "latency", "speedup")
"""What a reader of any width sees of every engine."""


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_no_number_is_cut(report: Report, width: int) -> None:
    lines = report_lines(report, width)
    text = "\n".join(lines)
    rows = [asdict(row) for row in rows_of(report)]
    whole = {cell for row in rows for cell in row.values()}
    for row in rows:
        assert {row[column] for column in NEEDED} - {"", "–"} <= set(re.split(r"\s{2,}|\n", text)), row["name"]
    table = lines[: next(k for k, line in enumerate(lines) if line.startswith("Fidelity after each step"))]
    cells = {cell for line in table for cell in re.split(r"\s{2,}", line.strip()) if re.match(r"[-+]?[\d.]+", cell)}
    assert len(cells) > 12
    assert cells - {"95% interval"} <= whole | {"95%"}, "every number is a whole cell"
    if width > 60:
        assert max(map(len, table)) <= width


def test_at_80_columns_it_is_a_table_and_at_60_it_is_cards(report: Report) -> None:
    assert report_lines(report, 80)[2].split() == ["engine", "verdict", "(dB)", "(dB)", "median", "(ms)", "speed-up"]
    cards = report_lines(report, 60)
    assert cards[:3] == [
        "(blurred input)",
        "  PSNR (dB)                   25.11",
        "  SSIM (MATLAB)               0.9114",
    ]
    assert not [line for line in cards if line.endswith("–")]


def test_ratios_of_a_noisy_run_are_withheld(report: Report) -> None:
    assert report.latency is not None
    told = "\n".join(report_lines(report, 120))
    assert re.search(r"\d×", told)
    # Of a system that does not count what waited for a core, which says more than the load does.
    loaded = report.latency.model_copy(update={"load_before": 99.0, "before": None})
    noisy = report.model_copy(update={"latency": loaded})
    told = "\n".join(report_lines(noisy, 120))
    assert not re.search(r"\d×", told)
    assert "This run was noisy (load 99.0 on" in told


def test_the_answer_stands_under_the_table(report: Report) -> None:
    assert report_lines(report, 80)[-1].startswith("openvino-bf16 may ship: the fastest of 5 engines")
    assert "may ship" not in report_lines(judge(report, {}), 80)[-1]


def test_no_colour_codes_anywhere(
    report: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as CI services set it
    print_report(report)
    printed = capsys.readouterr().out
    assert "openvino-int8" in printed
    assert "\x1b" not in printed
