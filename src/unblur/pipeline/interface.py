"""The Python interface: one function a stage, paths in, small results out. `import unblur` brings them (unblur.NAME).

What a function makes on the way comes out of the store that the doors use: below `artifacts/` of the project of the
working directory, of the checkout, or the user's cache folder (`unblur.pipeline.places`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unblur.building.engine import BuildOptions, BuiltEngine
from unblur.building.engine import build_engine as build_graph
from unblur.building.precision import Precision
from unblur.calibration.algorithms import DEFAULT_ALGORITHM, algorithms_for, check_algorithm
from unblur.calibration.repairs.names import DEFAULT
from unblur.compare.comparison import Settings, compare_engines
from unblur.compare.judge.budgets import Budget
from unblur.compare.measure.frames import find_frames
from unblur.compare.report import Report
from unblur.compare.tell.write import write_report
from unblur.core.bounds import Size
from unblur.core.errors import InputError
from unblur.graphs.rewrites.forms import find_form
from unblur.images.contract import Pixels
from unblur.metrics.stopwatch import Protocol
from unblur.pipeline.calibrate_network import Limits, calibrate_network, write_calibrated
from unblur.pipeline.config import (
    CalibrationSection,
    CompareSection,
    GraphSection,
    NetworkSection,
    PathsSection,
    PipelineConfig,
)
from unblur.pipeline.held_out import drawn_held_out
from unblur.pipeline.job import CalibrationSet, Job
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.ranges import stored_manifest
from unblur.pipeline.making.scored_engine import build_quantised
from unblur.pipeline.opening import make_candidate, refuse_calibration_frames
from unblur.pipeline.places import artefact_folder, bundled_checkpoint, bundled_manifest
from unblur.pipeline.stable_names import copy_to

PathLike = Path | str


@dataclass(frozen=True)
class CalibratedGraph:
    """A graph in 8 bits and what it costs on held-out frames, in dB: fidelity to float32, PSNR lost against truth."""

    path: Path
    algorithm: str
    repairs: tuple[str, ...]
    fidelity_db_mean: float
    fidelity_db_worst: float
    psnr_loss_db: float | None


def export_graph(
    checkpoint: PathLike | None, output: PathLike, size: Size | None = None, *, pixels: Pixels = "float",
    channel_order: Literal["bgr", "rgb"] | None = None, prove: bool = False,
) -> Path:  # fmt: skip
    """Write the exact ONNX graph of a checkpoint (None: the bundled network) and return its path.

    `size`: (height, width) of the frames, None for a graph of every size. `pixels`: "float" takes NCHW float32 as the
    network does, "rgb01" NCHW RGB in [0, 1], "uint8" NHWC RGB bytes. Raises InputError for a checkpoint or a size that
    cannot be, BudgetError where the graph and PyTorch differ.
    """
    job = _job(checkpoint, channel_order=channel_order)
    graph = stored_graph(job.store, job.checkpoint, size, pixels, prove=prove)
    copy_to(Path(output), graph.path)
    return Path(output)


def calibrate(
    checkpoint: PathLike | None, output: PathLike, size: Size | None = None, *, manifest: PathLike | None = None,
    form: str = "openvino", algorithm: str = DEFAULT_ALGORITHM, repairs: Sequence[str] = (DEFAULT,),
    channel_order: Literal["bgr", "rgb"] | None = None,
) -> CalibratedGraph:  # fmt: skip
    """Write the graph of a checkpoint in 8 bits, calibrated on a manifest's frames and scored on drawn ones.

    `size`: (height, width), None for that of the manifest's frames; `manifest`: None for the bundled one; `form`: which
    runtime 8 bits are written for; `algorithm`: of the ranges, "best" for a bake-off, which also tries repairs unless
    they are chosen; `repairs`: "default" for the form's own, names of others, () for none. Raises as
    `unblur.pipeline.calibrate_network.calibrate_network`.
    """
    job = _job(checkpoint, channel_order=channel_order)
    frames = stored_manifest(job.store, Path(manifest) if manifest else bundled_manifest())
    written = find_form(form)
    names = algorithms_for(written) if algorithm == "best" else (check_algorithm(algorithm, written).name,)
    at = size or frames.size
    found = calibrate_network(
        job.store, CalibrationSet(job.checkpoint, frames), at, written, names, repairs, drawn_held_out(at), Limits()
    )
    write_calibrated(found, Path(output))
    score = found.chosen.score
    loss = None if score.loss is None else score.psnr_loss_db
    return CalibratedGraph(
        Path(output),
        found.chosen.algorithm,
        found.chosen.repairs,
        score.fidelity_db_mean,
        score.fidelity_db_worst,
        loss,
    )


def build_engine(
    source: PathLike | None, output: PathLike, size: Size | None = None, *, precision: Precision = "fp16",
    targets: Sequence[str] = (), pixels: Pixels = "float", manifest: PathLike | None = None,
    channel_order: Literal["bgr", "rgb"] | None = None,
) -> BuiltEngine:  # fmt: skip
    """Compile a TensorRT engine from a graph (.onnx) or a checkpoint (None: the bundled network) with its (height,
    width).

    int8 and fp8 of a checkpoint are calibrated on the manifest's frames (None: the bundled ones) and held to 40 dB of
    fidelity and a loss of 0.05 dB of PSNR. `targets`: GPU families such as "sm89", none for a portable engine. Three
    files are written: `output`, and beside it the graph (.onnx) and the manifest (.json). Raises MissingRuntimeError
    where TensorRT for RTX is missing, InputError and BudgetError as `unblur.building.engine.build_engine`.
    """
    options = BuildOptions(precision, targets=tuple(targets))
    if source is not None and Path(source).suffix == ".onnx":
        return build_graph(Path(source), Path(output), options)
    if size is None:
        raise InputError("An engine of a checkpoint is compiled for a size; give (height, width).")
    job = _job(source, channel_order=channel_order, size=size, pixels=pixels, manifest=manifest)
    if precision in ("int8", "fp8"):
        return build_quantised(job.store, job.source(size), Path(output), options, job.calibration)
    return build_graph(stored_graph(job.store, job.checkpoint, size, pixels).path, Path(output), options)


def compare(
    frames: PathLike, engines: Sequence[str] = ("onnxruntime", "openvino"), *, truth: PathLike | None = None,
    checkpoint: PathLike | None = None, output: PathLike | None = None,
    budgets: Mapping[str, Mapping[str, float]] | None = None, rounds: int = 0, threads: int | None = None,
    channel_order: Literal["bgr", "rgb"] | None = None, waterfall: bool = False,
) -> Report:  # fmt: skip
    """Compare engines with eager float32 PyTorch on pictures, and with their sharp partners in `truth`.

    `engines`: as `unblur compare --engines` takes them; `budgets`: {"*" or an engine: {"fidelity_db_min": 60}};
    `rounds`: timed ones, 0 for no latency; `waterfall`: also measure where each engine loses its decibels; `output`: a
    folder for report.html, .md and .json. A budget that is broken raises when you call `report.enforce()`. Raises
    InputError and MissingRuntimeError as `unblur.compare.comparison.compare_engines`.
    """
    job = _job(checkpoint, channel_order=channel_order)
    files = find_frames(Path(frames), None if truth is None else Path(truth))
    how: dict[str, Any] = {"dynamic": True, "hang_s": job.config.compare.hang_seconds}
    candidates = [make_candidate(name, job.store, job.checkpoint, threads, **how) for name in engines]
    refuse_calibration_frames(job.store, engines, job.calibration, files)
    settings = Settings(
        threads=threads,
        protocol=Protocol(rounds=rounds) if rounds else None,
        budgets={name: Budget(**limits) for name, limits in (budgets or {}).items()},
        waterfall=waterfall,
    )
    report = compare_engines(job.checkpoint, candidates, files, settings)
    if output is not None:
        write_report(report, Path(output))
    return report


def _job(
    checkpoint: PathLike | None, *, channel_order: Literal["bgr", "rgb"] | None, size: Size | None = None,
    pixels: Pixels = "float", manifest: PathLike | None = None,
) -> Job:  # fmt: skip
    graph: dict[str, Any] = {"sizes": (size,)} if size else {}
    config = PipelineConfig(
        network=NetworkSection(checkpoint=Path(checkpoint or bundled_checkpoint()), channel_order=channel_order),
        graph=GraphSection(pixels=pixels, **graph),
        calibration=CalibrationSection(manifest=Path(manifest) if manifest else bundled_manifest()),
        compare=CompareSection(),
        paths=PathsSection(artifacts=artefact_folder()),
    )
    return Job.of(config)
