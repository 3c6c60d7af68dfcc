"""A report on disk: report.json (everything), report.md (the table), report.html (the page, one file)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from unblur.compare.page import render_page
from unblur.compare.report import Report
from unblur.compare.sentences import broken_lines, failure_lines, how_measured, missing_lines, verdict_sentence
from unblur.compare.table import HEADINGS, columns_of, rows_of
from unblur.core.artefacts import json_bytes, write_together


@dataclass(frozen=True)
class WrittenReport:
    """The three files."""

    json: Path
    markdown: Path
    html: Path


def write_report(report: Report, folder: Path) -> WrittenReport:
    """Write the three files into `folder`, all or none; report.json last. Raises InputError as `atomic_paths`."""
    written = WrittenReport(folder / "report.json", folder / "report.md", folder / "report.html")
    write_together(
        {
            written.html: render_page(report).encode(),
            written.markdown: render_markdown(report).encode(),
            written.json: json_bytes(report.to_json()),
        }
    )
    return written


def render_markdown(report: Report) -> str:
    """The table, the verdict and how it was measured, as GitHub shows it."""
    columns = columns_of(report)
    lines = [f"# Engines of {report.network}", "", verdict_sentence(report), ""]
    lines.append(_line([HEADINGS[column] for column in columns]))
    lines.append(_line(["---" if column in ("name", "verdict", "precision") else "---:" for column in columns]))
    lines += [_line([asdict(row)[column] for column in columns]) for row in rows_of(report)]
    lines += ["", *(f"- {line}" for line in how_measured(report))]
    lists = {
        "Broken budgets": broken_lines(report),
        "Failed": failure_lines(report),
        "Not measured": missing_lines(report),
    }
    for title, items in lists.items():
        if items:
            lines += ["", f"## {title}", "", *(f"- {item}" for item in items)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
