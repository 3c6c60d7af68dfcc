"""results.csv: one row for each engine and frame, for spreadsheets and scripts; and its reader.

Strict: UTF-8, one header, commas, line feeds, numbers with a point and all their digits, infinite decibels as
report.json has them, an empty cell for what was not measured. A name that a spreadsheet would take for a formula gets
"./" before it, which names the same file.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from unblur.compare.report import FrameResult, Quality, Report
from unblur.core.console import printable
from unblur.core.errors import InputError
from unblur.metrics.decibels import INFINITE, decibels_from_json, decibels_to_json, gain_decibels

INPUT = "(blurred input)"
"""Engine of the rows of what went in."""

FORMULA = ("=", "+", "-", "@")
SAFE = "./"


@dataclass(frozen=True)
class ResultRow:
    """One engine on one frame; the names of the fields are the header.

    `fidelity_db`, `largest_error`: against the reference, of float tensors where the engine gives them; `frame_db`: of
    8-bit frames. `psnr_db`, `ssim_matlab`, `ssim_per_channel`: against the truth; `gain_db` is over the blurred input,
    `psnr_loss_db` what the reference has more; 0 where both are the truth to the last byte.
    """

    engine: str
    frame: str
    height: int
    width: int
    fidelity_db: float | None
    frame_db: float | None
    largest_error: float | None
    psnr_db: float | None
    ssim_matlab: float | None
    ssim_per_channel: float | None
    gain_db: float | None
    psnr_loss_db: float | None


HEADER = tuple(field.name for field in fields(ResultRow))
WORDS, SIZES = ("engine", "frame"), ("height", "width")


def result_rows(report: Report) -> list[ResultRow]:
    """The blurred inputs first where there is truth, then the engines in the report's order."""
    base = next(engine for engine in report.engines if engine.is_reference)
    before = dict(zip((frame.frame for frame in base.frames), report.blurred, strict=False))
    had = {frame.frame: frame.quality for frame in base.frames}
    rows = [
        ResultRow(INPUT, printable(frame.frame), frame.height, frame.width, None, None, None, *_quality(one), 0.0, None)
        for frame, one in zip(base.frames, report.blurred, strict=False)
    ]
    for engine in report.engines:
        name = printable(engine.name)
        rows += [_row(name, frame, before.get(frame.frame), had.get(frame.frame)) for frame in engine.frames]
    return rows


def render_results(report: Report) -> str:
    """The file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for row in result_rows(report):
        writer.writerow(_cells(row))
    return text.getvalue()


def load_results(path: Path | str) -> list[ResultRow]:
    """The rows of a results.csv, or of the folder that holds one. Raises InputError for anything else."""
    file = Path(path)
    file = file / "results.csv" if file.is_dir() else file
    try:
        lines = list(csv.reader(io.StringIO(file.read_bytes().decode(), newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} cannot be read as a table of results ({error}); compare again.") from error
    if not lines or tuple(lines[0]) != HEADER:
        raise InputError(f"{file} is no table of results: its header is not {','.join(HEADER)}; compare again.")
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        try:
            rows.append(_parsed(cells))
        except ValueError as error:
            raise InputError(f"{file} is no whole table of results: row {number}: {error}; compare again.") from error
    return rows


def _row(engine: str, frame: FrameResult, before: Quality | None, had: Quality | None) -> ResultRow:
    near, good = frame.fidelity, frame.quality
    error = near.frame_max_error if near.tensor_max_error is None else near.tensor_max_error
    return ResultRow(
        engine, printable(frame.frame), frame.height, frame.width, near.strictest_db, near.frame_db, error,
        *_quality(good),
        gain_decibels(before.psnr_db, good.psnr_db) if before and good else None,
        gain_decibels(good.psnr_db, had.psnr_db) if had and good else None,
    )  # fmt: skip


def _quality(quality: Quality | None) -> tuple[float | None, float | None, float | None]:
    return (quality.psnr_db, quality.ssim_matlab, quality.ssim_per_channel) if quality else (None, None, None)


def _cells(row: ResultRow) -> list[str]:
    values = {name: getattr(row, name) for name in HEADER}
    words = {name: SAFE + values[name] if values[name].startswith(FORMULA) else values[name] for name in WORDS}
    sizes = {name: str(values[name]) for name in SIZES}
    return [{**words, **sizes}[name] if name in (*WORDS, *SIZES) else _cell(values[name]) for name in HEADER]


def _cell(value: float | None) -> str:
    return "" if value is None else str(decibels_to_json(float(value)))


def _parsed(cells: list[str]) -> ResultRow:
    """Raises ValueError for cells that `_cells` does not write."""
    if len(cells) != len(HEADER):
        raise ValueError(f"{len(cells)} cells, not {len(HEADER)}")
    named = dict(zip(HEADER, cells, strict=True))
    words = {name: named[name].removeprefix(SAFE) if named[name][len(SAFE) :].startswith(FORMULA) else named[name]
             for name in WORDS}  # fmt: skip
    sizes = {name: int(named[name]) for name in SIZES}
    numbers = {name: _number(text) for name, text in named.items() if name not in (*WORDS, *SIZES)}
    values: dict[str, Any] = {**words, **sizes, **numbers}
    row = ResultRow(**values)
    if other := [f"{cell!r} is written {own!r}" for cell, own in zip(cells, _cells(row), strict=True) if cell != own]:
        raise ValueError(", ".join(other))
    return row


def _number(text: str) -> float | None:
    if not text:
        return None
    return decibels_from_json(text if text.endswith(INFINITE) else float(text))
