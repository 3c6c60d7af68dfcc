"""A report on disk: report.json (everything), report.md (the table), report.html (the page, one file)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from unblur.compare.report import Report
from unblur.compare.tell.page import render_page
from unblur.compare.tell.sentences import broken_lines, failure_lines, how_measured, missing_lines, verdict_sentence
from unblur.compare.tell.table import HEADINGS, columns_of, rows_of
from unblur.core.artefacts import json_bytes, write_together
from unblur.core.markdown import escaped, table_row


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
    lines = [f"# Engines of {escaped(report.network)}", "", escaped(verdict_sentence(report)), ""]
    lines += [line for warning in report.warnings for line in (f"**Warning: {escaped(warning)}**", "")]
    lines.append(table_row(HEADINGS[column] for column in columns))
    lines.append(table_row("---" if column in ("name", "verdict", "precision") else "---:" for column in columns))
    lines += [table_row(asdict(row)[column] for column in columns) for row in rows_of(report)]
    lines += ["", *(f"- {escaped(line)}" for line in how_measured(report))]
    lists = {
        "Broken budgets": broken_lines(report),
        "Failed": failure_lines(report),
        "Not measured": missing_lines(report),
    }
    for title, items in lists.items():
        if items:
            lines += ["", f"## {title}", "", *(f"- {escaped(item)}" for item in items)]
    return "\n".join(lines) + "\n"
