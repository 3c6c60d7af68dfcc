"""The table of a comparison on the console."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TextIO

from rich.console import Console

from unblur.compare.judge.noise import noise_of
from unblur.compare.report import Report
from unblur.compare.tell.answer import answer
from unblur.compare.tell.pictures import worst_lines
from unblur.compare.tell.sentences import verdict_sentence
from unblur.compare.tell.table import HEADINGS, INTERVAL_COLUMNS, columns_of, rows_of
from unblur.compare.tell.waterfall import waterfall_lines
from unblur.core.console import printable
from unblur.core.text_table import fitted, text_width
from unblur.metrics.decibels import EMPTY

LEFT_OUT = ("spread", "precision", *INTERVAL_COLUMNS)
"""Columns that only the files show, and one of the two of SSIM."""

RATIOS = ("speedup", "interval")

DISPENSABLE = ("whole", "device", "error", "ssim", "ssim_channel", "interval", "psnr")
"""Columns that a narrow terminal goes without, the first first."""


def print_report(report: Report, file: TextIO | None = None) -> None:
    """Print the table to `file` (stdout), then the verdict, the answer and warnings, in red: no number cut at any
    width."""
    file = file or sys.stdout
    for line in report_lines(report, text_width(file)):
        print(line, file=file)
    alarm = Console(file=file, highlight=False, markup=False)
    for warning in report.warnings:
        alarm.print(f"WARNING: {printable(warning)}", style="bold red", soft_wrap=True)


def report_lines(report: Report, width: int) -> list[str]:
    """The table within `width` characters, or a card for each engine, and the sentences under it."""
    volume = report.blurred_quality is not None and report.blurred_quality.ssim_matlab is not None
    noise = noise_of(report.latency, report.machine) if report.latency else ()
    left_out = {*LEFT_OUT, "ssim_channel" if volume else "ssim"}
    headings = {column: HEADINGS[column] for column in columns_of(report) if column not in left_out}
    rows = [{column: printable(cell) for column, cell in asdict(row).items()} for row in rows_of(report)]
    if noise:  # milliseconds were what they were, but nobody shall read a ratio off them
        rows = [row | {column: "noisy" for column in RATIOS if row[column] != EMPTY} for row in rows]
    lines = fitted(headings, rows, width, left=("name", "verdict"), dispensable=DISPENSABLE, empty=("", EMPTY))
    falls = waterfall_lines(report)
    if falls:
        lines += ["Fidelity after each step, in dB [of the step alone]:", *(printable(f"  {line}") for line in falls)]
    told = answer(report)
    if noise:
        lines.append(
            printable(f"This run was noisy ({'; '.join(noise)}): ratios are withheld; repeat it on an idle machine.")
        )
    lines.append(printable(verdict_sentence(report)))
    lines += [printable(f"Worst picture: {worst}") for worst in worst_lines(report)[:1]]
    if report.checks:
        lines.append(printable(told.sentence))
    return lines
