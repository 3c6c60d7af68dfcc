"""The report of a speed benchmark: tables for a console and for Markdown, and report.json."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unblur.compare.speed import SpeedReport, SpeedResult
from unblur.compare.tell import rates
from unblur.compare.tell.sentences import noise_sentences
from unblur.compare.tell.table import milliseconds
from unblur.compare.tell.timing import frame_lines, paper_lines
from unblur.core.artefacts import json_bytes, write_together
from unblur.core.markdown import escaped, table_row
from unblur.core.text_table import fitted
from unblur.engines.catalogue import REFERENCE
from unblur.metrics.decibels import EMPTY, decibels_text

HEADINGS = {
    "name": "engine",
    "precision": "precision",
    "median": "median (ms)",
    "spread": "p10–p90 (ms)",
    "best": "best (ms)",
    "device": "on the GPU (ms)",
    "whole": "frame to frame (ms)",
    "paper": "papers' loop (ms)",
    "speedup": "against torch",
    "interval": "95% interval",
    "agrees": "agrees",
}
RATIOS = ("speedup", "interval")
"""Columns that a noisy run is not good for."""

TEXT = ("name", "precision")
DISPENSABLE = ("spread", "best", "interval", "precision")
"""Columns that a narrow terminal goes without, the first first."""

THROUGHPUT = {
    "name": "engine",
    "alone": "run alone",
    "one": "one by one",
    "overlapped": "overlapped",
    "gain": "overlapped over one by one",
    "streams": "streams",
}


@dataclass(frozen=True)
class Table:
    """`headings`: column -> heading, the first column being the engine's name; `rows` under them."""

    title: str
    headings: Mapping[str, str]
    rows: Sequence[Mapping[str, str]]
    notes: Sequence[str]

    def lines(self, width: int) -> list[str]:
        """For a console of so many characters."""
        columns = [column for column in DISPENSABLE if column in self.headings]
        return fitted(self.headings, self.rows, width, left=TEXT, dispensable=columns, empty=("", EMPTY))

    def markdown(self) -> list[str]:
        columns = list(self.headings)
        head = [table_row(self.headings.values()), table_row("---" if c in TEXT else "---:" for c in columns)]
        return head + [table_row(row[column] for column in columns) for row in self.rows]


def tables_of(report: SpeedReport) -> list[Table]:
    """Latency, then throughput and rates where they were measured."""
    found = [_latency(report)]
    if any(engine.throughput for engine in report.engines):
        found.append(_throughput(report))
    if any(engine.rates for engine in report.engines):
        notes = rates.ceiling_lines(report.ceilings, int(report.machine["usable_cores"]))
        rows = rates.rate_rows({engine.name: engine.rates for engine in report.engines})
        found.append(Table(rates.TITLE, rates.HEADINGS, rows, notes))
    return found


def _latency(report: SpeedReport) -> Table:
    timed = [engine.latency for engine in report.engines if engine.latency]
    gone: tuple[str, ...] = () if any(one.end_to_end for one in timed) else ("whole",)
    gone += () if any(one.paper for one in timed) else ("paper",)
    gone += () if any(one.device_ms for one in timed) else ("device",)
    headings = {column: heading for column, heading in HEADINGS.items() if column not in gone}
    return Table("", headings, [_row(engine) for engine in report.engines], _notes(report))


def _row(engine: SpeedResult) -> dict[str, str]:
    cells = dict.fromkeys(HEADINGS, EMPTY) | {"name": engine.name}
    latency = engine.latency
    if latency is None:
        return cells | {"precision": "not measured"}
    summary, ratio = latency.summary, latency.speedup
    cells |= {
        "precision": latency.description["precision"],
        "median": milliseconds(summary.median_ms),
        "spread": f"{milliseconds(summary.p10_ms)}–{milliseconds(summary.p90_ms)}",
        "best": milliseconds(summary.minimum_ms),
        "speedup": f"{ratio.value:.2f}×",
    }
    if alone := latency.device_ms:
        cells["device"] = milliseconds(alone)
    if latency.end_to_end:
        cells["whole"] = milliseconds(latency.end_to_end.summary.median_ms)
    if latency.paper:
        cells["paper"] = milliseconds(latency.paper.median_ms)
    if engine.name != REFERENCE:
        cells["interval"] = f"{ratio.low:.2f}–{ratio.high:.2f}"
        cells["agrees"] = f"{decibels_text(engine.agreement_db, 0)} dB"
    return cells


def _notes(report: SpeedReport) -> list[str]:
    """What the numbers mean, and the engines that are not among them."""
    session = report.latency
    latencies = {engine.name: engine.latency for engine in report.engines if engine.latency}
    described = [latency.description for latency in latencies.values()]
    cpu = report.machine["cpu"]  # which OpenVINO calls by its name
    gpus = [about for about in described if not about["device"].startswith(("cpu", cpu))]
    threads = {about["threads"] for about in described if about not in gpus}
    has = report.machine.get("instructions")  # older reports do not tell
    devices = ", ".join([f"{cpu} ({has})" if has else cpu, *sorted({about["device"] for about in gpus})])
    where = f"{session.height}x{session.width}, {'/'.join(sorted(threads))} thread(s), {devices}"
    lines = [
        f"{report.network} ({report.weights}), {where}; {session.protocol.rounds} interleaved rounds after "
        f"{session.warmup_rounds} warm-up rounds. Against torch: median of eager float32 PyTorch over median of the "
        "engine, bootstrapped 95% interval. Agrees: PSNR of the 8-bit result to PyTorch's."
    ]
    lines += paper_lines(latencies) + frame_lines(session, latencies)
    lines += noise_sentences(session, report.machine)
    cold = [name for name, latency in latencies.items() if not latency.warmed_up]
    if cold:
        lines.append(f"No steady state before the measurement: {', '.join(cold)}.")
    return lines + [f"{e.name}: not measured: {e.not_measured}" for e in report.engines if e.not_measured]


def _throughput(report: SpeedReport) -> Table:
    flows = {engine.name: engine.throughput for engine in report.engines if engine.throughput}
    counts = {flow.stream_count for flow in flows.values() if flow.streams}
    rows = [
        {
            "name": name,
            "alone": f"{flow.run_alone:.3g}",
            "one": f"{flow.one_by_one:.3g}",
            "overlapped": f"{flow.overlapped:.3g}",
            "gain": f"{flow.overlapped / flow.one_by_one:.2f}×",
            "streams": EMPTY if flow.streams is None else f"{flow.streams:.3g}",
        }
        for name, flow in flows.items()
    ]
    notes = [
        "Frames a second. Run alone: tensors in and out. One by one: a PNG decoded, restored and encoded, then the "
        "next; overlapped: the next decoded and the last encoded meanwhile, as `unblur deblur` does."
    ]
    if counts:
        notes.append(
            f"Streams: {'/'.join(map(str, sorted(counts)))} engines of one thread each at once, tensors in and out."
        )
    notes.append("No engine takes a batch: graphs and engines here are of one frame.")
    headings = {column: text for column, text in THROUGHPUT.items() if counts or column != "streams"}
    return Table("Throughput", headings, rows, notes)


def console_lines(report: SpeedReport, width: int) -> list[str]:
    """Every table within `width` characters, or cards, and what stands under it."""
    lines = []
    for table in tables_of(report):
        lines += ["", table.title] if table.title else []
        lines += [*table.lines(width), *(part for note in table.notes for part in textwrap.wrap(note, width))]
    return lines


def write_speed(report: SpeedReport, folder: Path) -> Path:
    """Write report.json and report.md into `folder`; returns the latter. Raises InputError as `atomic_paths`."""
    lines = [f"# Speed of {escaped(report.network)}"]
    for table in tables_of(report):
        lines += ["", *([f"## {table.title}", ""] if table.title else []), *table.markdown()]
        lines += ["", *(f"- {escaped(note)}" for note in table.notes)]
    path = folder / "report.md"
    write_together({path: ("\n".join(lines) + "\n").encode(), folder / "report.json": json_bytes(report.to_json())})
    return path
