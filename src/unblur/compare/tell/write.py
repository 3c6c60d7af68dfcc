"""A report on disk: report.json (everything), .md (a summary for CI), .xml (JUnit), .html (the page, one file), and
results.csv (a row for each engine and frame)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from unblur.compare.load import checked
from unblur.compare.report import Report
from unblur.compare.tell.answer import answer
from unblur.compare.tell.junit import render_junit
from unblur.compare.tell.page import render_page
from unblur.compare.tell.pictures import difference_lines, worst_lines
from unblur.compare.tell.rates import HEADINGS as RATE_HEADINGS
from unblur.compare.tell.rates import TITLE as RATES
from unblur.compare.tell.rates import ceiling_lines, rate_rows
from unblur.compare.tell.results import render_results
from unblur.compare.tell.sentences import (
    broken_lines,
    failure_lines,
    how_measured,
    missing_lines,
    since_lines,
    verdict_sentence,
)
from unblur.compare.tell.table import HEADINGS, columns_of, rows_of
from unblur.compare.tell.waterfall import how_far, waterfall_lines
from unblur.core.artefacts import json_bytes, write_together
from unblur.core.markdown import escaped, table_row

LISTED = 50
"""So many broken budgets or failed frames are listed; a data set has thousands, and a summary holds 1 MiB."""


@dataclass(frozen=True)
class WrittenReport:
    """The five files."""

    json: Path
    markdown: Path
    junit: Path
    html: Path
    results: Path


def write_report(report: Report, folder: Path) -> WrittenReport:
    """Write the five files into `folder`, all or none; report.json last. Raises InputError as `atomic_paths`.

    What is written is first read back: a report that `load_report` would refuse is never left behind.
    """
    values = report.to_json()
    checked(values, "This report")
    names = ("report.json", "report.md", "report.xml", "report.html", "results.csv")
    written = WrittenReport(*(folder / name for name in names))
    write_together(
        {
            written.html: render_page(report).encode(),
            written.markdown: render_markdown(report).encode(),
            written.junit: render_junit(report),
            written.results: render_results(report).encode(),
            written.json: json_bytes(values),
        }
    )
    return written


def render_markdown(report: Report) -> str:
    """The answer, the table and how it was measured, as GitHub shows it, also as the summary of a CI step (1 MiB)."""
    columns = columns_of(report)
    told = answer(report)
    lines = [f"# Engines of {escaped(report.network)}", ""]
    if report.checks:
        lines += [f"**{escaped(told.sentence)}**", ""]
    lines += [escaped(verdict_sentence(report)), ""]
    if told.best:
        lines += [f"{escaped(told.best)}: {escaped(told.cost)}", ""]
    lines += [line for warning in report.warnings for line in (f"**Warning: {escaped(warning)}**", "")]
    lines.append(table_row(HEADINGS[column] for column in columns))
    lines.append(table_row("---" if column in ("name", "verdict", "precision") else "---:" for column in columns))
    lines += [table_row(asdict(row)[column] for column in columns) for row in rows_of(report)]
    falls = waterfall_lines(report)
    if falls:
        lines += ["", "## Where decibels are lost", "", escaped(how_far(report)), ""]
        lines += [f"- {escaped(line)}" for line in falls]
    if rated := rate_rows({engine.name: engine.rates for engine in report.engines}):
        lines += ["", f"## {RATES}", "", table_row(RATE_HEADINGS.values())]
        lines.append(table_row("---" if column in ("name", "precision") else "---:" for column in RATE_HEADINGS))
        lines += [table_row(row[column] for column in RATE_HEADINGS) for row in rated]
        told_of = ceiling_lines(report.ceilings, int(report.machine["usable_cores"]))
        lines += ["", *(f"- {escaped(line)}" for line in told_of)]
    lines += ["", *(f"- {escaped(line)}" for line in how_measured(report))]
    lists = {
        "Since the baseline": since_lines(report),
        "Worst pictures": worst_lines(report),
        "PSNR of every two engines, paired by picture": difference_lines(report),
        "Broken budgets": broken_lines(report),
        "Failed": failure_lines(report),
        "Not measured": missing_lines(report),
    }
    for title, items in lists.items():
        if items:
            lines += ["", f"## {title}", "", *(f"- {escaped(item)}" for item in items[:LISTED])]
            lines += [f"- and {len(items) - LISTED} more, see report.json"] if len(items) > LISTED else []
    return "\n".join(lines) + "\n"
