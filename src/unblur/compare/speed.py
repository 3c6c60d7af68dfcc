"""The speed benchmark: engines of one network at one size against eager PyTorch, without pictures or budgets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unblur.compare.candidates import Candidate
from unblur.compare.measure.latency import measure_latency
from unblur.compare.parts import Part
from unblur.compare.report import LatencyResult, LatencySession
from unblur.compare.tell.sentences import noise_sentences
from unblur.compare.tell.table import milliseconds
from unblur.core.artefacts import json_bytes, write_together
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError, MissingRuntimeError
from unblur.core.markdown import escaped, table_row
from unblur.core.provenance import machine, package_versions
from unblur.engines.catalogue import REFERENCE, open_engine
from unblur.engines.runner import Runner, restore_frame
from unblur.images.contract import Frame
from unblur.metrics.decibels import EMPTY, Decibels, decibels_text
from unblur.metrics.quality import psnr_db
from unblur.metrics.stopwatch import Protocol
from unblur.networks.checkpoints import Checkpoint

FRAMES = 2
HEADINGS = (
    "engine",
    "precision",
    "median (ms)",
    "p10–p90 (ms)",
    "best (ms)",
    "against torch",
    "95% interval",
    "agrees",
)


class SpeedResult(Part):
    """One engine. `agreement_db`: PSNR of its first 8-bit frame to the reference's (peak 255), lest a wrong engine be
    praised for its speed. `not_measured`: the reason, if this machine cannot run it.
    """

    name: str
    not_measured: str | None = None
    agreement_db: Decibels | None = None
    latency: LatencyResult | None = None


class SpeedReport(Part):
    """A benchmark. `weights` says where they come from: random ones are as fast as trained ones."""

    form: Literal["unblur speed 1"] = "unblur speed 1"
    created_utc: str
    network: str
    weights: str
    checkpoint_digest: str
    machine: dict[str, str]
    versions: dict[str, str]
    engines: tuple[SpeedResult, ...]
    latency: LatencySession

    def to_json(self) -> dict[str, Any]:
        """Strict JSON values; infinite decibels are words."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return values


def measure_speed(
    checkpoint: Checkpoint,
    engines: Sequence[Candidate],
    size: Size,
    weights: str,
    *,
    threads: int | None = None,
    protocol: Protocol | None = None,
    progress: Progress = SILENT,
) -> SpeedReport:
    """Latency of the engines and of eager float32 PyTorch in one interleaved session at (height, width).

    An engine that this machine cannot run is listed with the reason. Raises InputError for an engine given twice;
    other errors of the engines go through.
    """
    candidates = [engine for engine in engines if engine.name != REFERENCE]
    names = [REFERENCE, *(engine.name for engine in candidates)]
    if len(set(names)) != len(names):
        raise InputError(f"Every engine is measured once, got {', '.join(names)}.")
    rng = np.random.default_rng(0)
    frames = {f"noise {k}": rng.integers(0, 256, (*size, 3), dtype=np.uint8) for k in range(FRAMES)}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        runners: dict[str, Runner] = {REFERENCE: stack.enter_context(open_engine(REFERENCE, checkpoint, None, threads))}
        for engine in candidates:
            progress.note(f"opening {engine.name}")
            try:
                runners[engine.name] = stack.enter_context(engine.open(checkpoint.contract.padded_size(*size)))
            except MissingRuntimeError as error:
                missing[engine.name] = str(error).removeprefix(f"{engine.name}: ")
        agreement = _agreement(runners, next(iter(frames.values())), progress)
        session, latencies = measure_latency(runners, REFERENCE, frames, protocol or Protocol(), progress)
    return SpeedReport(
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        network=checkpoint.name,
        weights=weights,
        checkpoint_digest=checkpoint.digest,
        machine=machine(),
        versions=dict(package_versions()),
        engines=tuple(
            SpeedResult(
                name=name,
                not_measured=missing.get(name),
                agreement_db=agreement.get(name),
                latency=latencies.get(name),
            )
            for name in names
        ),
        latency=session,
    )


def _agreement(runners: dict[str, Runner], frame: Frame, progress: Progress) -> dict[str, float]:
    """dB of each restored frame against the reference's. The first run also compiles, for those that do."""
    restored = {}
    for name, runner in progress.track(runners.items(), "first run", len(runners)):
        restored[name] = restore_frame(runner, frame)
    return {name: psnr_db(picture, restored[REFERENCE], peak=255) for name, picture in restored.items()}


def rows_of(report: SpeedReport) -> list[tuple[str, ...]]:
    """Cells under HEADINGS, one row per engine."""
    rows = []
    for engine in report.engines:
        latency = engine.latency
        if latency is None:
            rows.append((engine.name, "not measured", *[EMPTY] * 6))
            continue
        summary, ratio = latency.summary, latency.speedup
        reference = engine.name == REFERENCE
        rows.append(
            (
                engine.name,
                latency.description["precision"],
                milliseconds(summary.median_ms),
                f"{milliseconds(summary.p10_ms)}–{milliseconds(summary.p90_ms)}",
                milliseconds(summary.minimum_ms),
                f"{ratio.value:.2f}×",
                EMPTY if reference else f"{ratio.low:.2f}–{ratio.high:.2f}",
                EMPTY if reference else f"{decibels_text(engine.agreement_db, 0)} dB",
            )
        )
    return rows


def notes_of(report: SpeedReport) -> list[str]:
    """What the numbers mean, and the engines that are not among them."""
    session = report.latency
    described = [engine.latency.description for engine in report.engines if engine.latency]
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
    lines += noise_sentences(session, report.machine)
    cold = [e.name for e in report.engines if e.latency and not e.latency.warmed_up]
    if cold:
        lines.append(f"No steady state before the measurement: {', '.join(cold)}.")
    return lines + [f"{e.name}: not measured: {e.not_measured}" for e in report.engines if e.not_measured]


def write_speed(report: SpeedReport, folder: Path) -> Path:
    """Write report.json and report.md into `folder`; returns the latter. Raises InputError as `atomic_paths`."""
    lines = [f"# Speed of {escaped(report.network)}", "", table_row(HEADINGS), table_row(["---", "---", *["---:"] * 6])]
    lines += [table_row(row) for row in rows_of(report)]
    lines += ["", *(f"- {escaped(note)}" for note in notes_of(report))]
    path = folder / "report.md"
    write_together({path: ("\n".join(lines) + "\n").encode(), folder / "report.json": json_bytes(report.to_json())})
    return path
