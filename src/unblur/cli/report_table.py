"""The table of a comparison on the console."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.table import Table

from unblur.compare.report import Report
from unblur.compare.tell.sentences import verdict_sentence
from unblur.compare.tell.table import HEADINGS, columns_of, rows_of
from unblur.core.console import PlainConsole, printable

LEFT_OUT = ("spread", "precision")
"""Columns that only the files show, and one of the two of SSIM: the rest fits 100 characters."""

WIDTH_IN_A_FILE = 140


def print_report(report: Report, file: TextIO | None = None) -> None:
    """Print the table to `file` (stdout), whole even where that is no terminal, and the verdict under it."""
    file = file or sys.stdout
    volume = report.blurred_quality is not None and report.blurred_quality.ssim_matlab is not None
    left_out = {*LEFT_OUT, "ssim_channel" if volume else "ssim"}
    columns = [column for column in columns_of(report) if column not in left_out]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        is_text = column in ("name", "verdict")
        table.add_column(HEADINGS[column], justify="left" if is_text else "right", no_wrap=is_text)
    for row in rows_of(report):
        table.add_row(*(printable(getattr(row, column)) for column in columns))
    width = None if file.isatty() else WIDTH_IN_A_FILE
    console = PlainConsole(file=file, highlight=False, markup=False, width=width)
    console.print(table)
    console.print(printable(verdict_sentence(report)))
