"""Reports of one network from several machines, side by side: a CPU's engines and a GPU's in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unblur.compare.judge.noise import noise_of
from unblur.compare.parts import Part
from unblur.compare.report import EngineResult, Report
from unblur.compare.tell.sentences import when
from unblur.compare.tell.table import milliseconds
from unblur.core.artefacts import json_bytes, write_together
from unblur.core.errors import InputError
from unblur.core.markdown import escaped, table_row
from unblur.core.page import render
from unblur.metrics.decibels import EMPTY, Decibels, decibels_text

HEADINGS = {
    "engine": "engine",
    "machine": "machine",
    "median": "a frame (ms)",
    "p95": "p95 (ms)",
    "speedup": "as fast as its reference",
    "psnr": "PSNR (dB)",
    "loss": "PSNR lost (dB)",
    "fidelity": "fidelity, worst frame (dB)",
}
TEXT = ("engine", "machine")


class MergedRow(Part):
    """An engine on a machine; None for what was not measured there. `noisy`: its milliseconds are of a noisy run."""

    engine: str
    machine: str
    precision: str
    median_ms: float | None = None
    p95_ms: float | None = None
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    noisy: bool = False
    psnr_db: Decibels | None = None
    psnr_loss_db: Decibels | None = None
    fidelity_db: Decibels | None = None


class Merged(Part):
    """`machines`: label -> where, when and how its report was taken. `notes`: what a reader must know besides."""

    form: str = "unblur merged comparisons 1"
    network: str
    checkpoint_digest: str
    machines: dict[str, str]
    rows: tuple[MergedRow, ...]
    notes: tuple[str, ...] = ()


def merge(reports: Mapping[str, Report]) -> Merged:
    """The reports, by their files' names, in one table: fastest first, what was not timed last.

    Raises InputError for fewer than two, for other networks, checkpoints, references or channel orders, for pictures of
    one name with another content or size, and for latency of two sizes: such milliseconds may not stand in one column.
    Reports of other sets of pictures stand apart by their labels, and are said.
    """
    if len(reports) < 2:
        raise InputError("One report is a table already; name two or more.")
    first_name, first = next(iter(reports.items()))
    sizes: dict[str, str] = {}
    for name, report in reports.items():
        for what, key in (("network", "network"), ("checkpoint", "checkpoint_digest"), ("reference", "reference")):
            ours, its = getattr(first, key), getattr(report, key)
            if ours != its:
                raise InputError(f"{name} is of another {what} than {first_name}: {its}, not {ours}.")
        ours, its = (next((e.contract for e in one.engines if e.is_reference), None) for one in (first, report))
        if ours and its and ours.channel_order != its.channel_order:
            orders = f"{its.channel_order}, not {ours.channel_order}"
            raise InputError(f"{name} takes the checkpoint as of another channel order than {first_name}: {orders}.")
        _refuse_other_pictures(first_name, first, name, report)
        if report.latency:
            sizes[name] = f"{report.latency.height}x{report.latency.width}"
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InputError(f"Latency of several sizes does not go into one column: {told}.")
    labels = _labels(list(reports.values()))
    rows = [_row(engine, label, report) for label, report in labels.items() for engine in report.engines]
    machines = {label: _about(report) for label, report in labels.items()}
    return Merged(
        network=first.network,
        checkpoint_digest=first.checkpoint_digest,
        machines=machines,
        rows=tuple(sorted(rows, key=lambda row: (row.median_ms is None, row.median_ms or 0.0, row.engine))),
        notes=tuple(_notes(labels)),
    )


def _refuse_other_pictures(first_name: str, first: Report, name: str, report: Report) -> None:
    """What has one name in both must be one picture."""
    before, now = ({f.frame: f for e in one.engines if e.is_reference for f in e.frames} for one in (first, report))
    for frame in before.keys() & now.keys():
        ours, its = before[frame], now[frame]
        sizes = [f"{one.height}x{one.width}" for one in (its, ours)]
        if sizes[0] != sizes[1]:
            raise InputError(f"{frame} has another size in {name} than in {first_name}: {sizes[0]}, not {sizes[1]}.")
        if ours.pixels and its.pixels and ours.pixels != its.pixels:
            raise InputError(f"{frame} is another picture in {name} than in {first_name}, by its pixels.")


def _labels(reports: Sequence[Report]) -> dict[str, Report]:
    """A short name for each machine: its GPU if an engine ran on one, else its processor; with the number of pictures
    where these are others; numbered where two agree."""
    found: dict[str, Report] = {}
    sets = [frozenset(f.frame for e in report.engines for f in e.frames) for report in reports]
    for report in reports:
        devices = [e.latency.description["device"] for e in report.engines if e.latency]
        cpu = report.machine["cpu"]
        gpus = list(dict.fromkeys(device for device in devices if not device.startswith(("cpu", cpu))))
        names = {f.frame for e in report.engines for f in e.frames}
        apart = [f"{len(names)} pictures of its own"] if len(set(sets)) > 1 else []
        label = base = ", ".join([*gpus, cpu, *apart])
        number = 1
        while label in found:
            number += 1
            label = f"{base} ({number})"
        found[label] = report
    return found


def _about(report: Report) -> str:
    threads = sorted({e.description["threads"] for e in report.engines if e.description})
    noise = noise_of(report.latency, report.machine) if report.latency else ()
    noisy = f"; noisy: {', '.join(noise)}" if noise else ""
    cores = f"{report.machine['usable_cores']} core(s), {'/'.join(threads)} thread(s)"
    return f"{cores}, {report.machine['system']}, {when(report)}{noisy}"


def _notes(labels: Mapping[str, Report]) -> list[str]:
    notes = []
    frames = {label: {f.frame for e in report.engines for f in e.frames} for label, report in labels.items()}
    if len({frozenset(names) for names in frames.values()}) > 1:
        counts = ", ".join(f"{label}: {len(names)}" for label, names in frames.items())
        notes.append(f"The reports are of other pictures ({counts}), so decibels of two machines are not comparable.")
    for label, report in labels.items():
        notes += [f"{label}: {e.name}: not measured: {e.not_measured}" for e in report.engines if e.not_measured]
    return notes


def _row(engine: EngineResult, machine: str, report: Report) -> MergedRow:
    values: dict[str, Any] = {"engine": engine.name, "machine": machine, "psnr_loss_db": engine.psnr_loss_db}
    values["precision"] = engine.description.get("precision", EMPTY)
    if engine.latency and report.latency:
        ratio, tail = engine.latency.speedup, engine.latency.quantiles
        values |= {"median_ms": engine.latency.summary.median_ms, "p95_ms": tail.p95.value if tail else None}
        values |= {"speedup": ratio.value, "speedup_low": ratio.low, "speedup_high": ratio.high}
        values["noisy"] = bool(noise_of(report.latency, report.machine))
    if engine.mean_quality:
        values["psnr_db"] = engine.mean_quality.psnr_db
    if not engine.is_reference:
        values["fidelity_db"] = engine.worst_fidelity_db
    return MergedRow(**values)


def cells_of(merged: Merged) -> list[dict[str, str]]:
    """Cells under HEADINGS, a row each; "noisy" in the place of a ratio that nobody shall believe."""

    def ratio(row: MergedRow) -> str:
        if row.speedup is None or row.speedup_low is None or row.speedup_high is None:
            return EMPTY
        return "noisy" if row.noisy else f"{row.speedup:.2f}× ({row.speedup_low:.2f}–{row.speedup_high:.2f})"

    return [
        {
            "engine": row.engine,
            "machine": row.machine,
            "median": EMPTY if row.median_ms is None else milliseconds(row.median_ms),
            "p95": EMPTY if row.p95_ms is None else milliseconds(row.p95_ms),
            "speedup": ratio(row),
            "psnr": decibels_text(row.psnr_db),
            "loss": decibels_text(row.psnr_loss_db, 3, signed=True),
            "fidelity": decibels_text(row.fidelity_db, 1),
        }
        for row in merged.rows
    ]


def write_merged(merged: Merged, folder: Path) -> Path:
    """Write merged.json, .md and .html into `folder`, all or none; returns the page. Raises as `write_together`."""
    cells = cells_of(merged)
    title = f"machines side by side: {merged.network}"
    lines = [f"# {escaped(title)}", "", table_row(HEADINGS.values())]
    lines.append(table_row("---" if column in TEXT else "---:" for column in HEADINGS))
    lines += [table_row(row[column] for column in HEADINGS) for row in cells]
    about = [*(f"{label}: {text}" for label, text in merged.machines.items()), *merged.notes]
    lines += ["", *(f"- {escaped(line)}" for line in about)]
    page = render(
        "compare/tell/merged.html.jinja",
        title,
        {"checkpoint": merged.checkpoint_digest, **merged.machines},
        headings=list(HEADINGS.values()),
        numbers=[text for column, text in HEADINGS.items() if column not in TEXT],
        rows=[[row[column] for column in HEADINGS] for row in cells],
        about=about,
    )
    path = folder / "merged.html"
    write_together(
        {
            path: page.encode(),
            folder / "merged.md": ("\n".join(lines) + "\n").encode(),
            folder / "merged.json": json_bytes(merged.model_dump(mode="json")),
        }
    )
    return path
