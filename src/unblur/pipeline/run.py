"""The whole way, top to bottom: exact graphs, engines, frames, comparison, verdict, pictures.

Every stage asks the store first, so a second run does nothing twice, and a run that was killed goes on where it
was: what is finished is found, what is not was never under its final name. A door does its stage alone (`Stages`),
and what it needs of the stages before comes out of the same store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unblur.compare.judge.baselines import load_baseline, refuse_another_network
from unblur.compare.report import Report
from unblur.core.artefacts import refuse_nested
from unblur.core.bounds import Size
from unblur.core.errors import BudgetError, InputError, MissingRuntimeError
from unblur.engines.catalogue import find_engine, is_calibrated, pick_engine
from unblur.engines.named import is_file_engine
from unblur.engines.tensorrt.manifest import companions
from unblur.engines.tensorrt.product import open_product
from unblur.pipeline import stages
from unblur.pipeline.job import Job
from unblur.pipeline.opening import engine_graph, refuse_calibration_frames
from unblur.pipeline.stable_names import publish_engine, publish_folder, publish_graph
from unblur.pipeline.store import Artefact


@dataclass(frozen=True)
class BuiltFile:
    """An engine under its stable name, and its manifest."""

    path: Path
    manifest: dict[str, Any]
    artefact: Artefact


@dataclass(frozen=True)
class Compared:
    """A report under its stable name. `frames`: what was compared on."""

    report: Report
    folder: Path
    frames: stages.Frames


@dataclass
class Stages:
    """A job's stages, each of them telling what it made or found and giving it a name that people can type.

    `refused`: engines that broke their budget of decibels and were not built; the others go on.
    """

    job: Job
    made: list[str] = field(default_factory=list)
    refused: list[BudgetError] = field(default_factory=list)
    told: set[Path] = field(default_factory=set)

    def graph(self, size: Size | None) -> Path:
        """The exact graph of a size."""
        made = self._keep("graph", stages.graph(self.job, size))
        return publish_graph(self.job.store, made.path, f"{self._stem(size)}.onnx", self.job.progress)

    def engine(self, size: Size | None, precision: str) -> BuiltFile:
        """The engine of a size and a precision. Raises as `stages.engine`."""
        self._keep("graph", stages.graph(self.job, size))
        made = self._keep("engine", stages.engine(self.job, size, precision))
        file = stages.engine_file(made.path)
        name = f"{self._stem(size)}-{precision}.engine"
        path = publish_engine(self.job.store, file, name, self.job.progress)
        return BuiltFile(path, json.loads(companions(file)[1].read_text()), made)

    def engines(self, size: Size | None) -> dict[str, BuiltFile]:
        """Precision -> engine, of all that the configuration builds; none where it builds none, or nothing can."""
        built: dict[str, BuiltFile] = {}
        for precision in () if why_no_engine(self.job) else self.job.config.build.precisions:
            try:
                built[precision] = self.engine(size, precision)
            except BudgetError as error:
                self.refused.append(error)
                self.job.progress.note(f"engine: {precision} not built: {error}")
        return built

    def compare(self, size: Size, engines: Mapping[Size | None, Mapping[str, BuiltFile]], name: str) -> Compared:
        """Measure and judge on the configuration's frames, or on those that are drawn at `size`."""
        job = self.job
        frames = stages.frames(job, size)
        if frames.size:
            publish_folder(job.store, frames.files[0].path.parents[1], name.replace("report", "demo"), job.progress)
        padded = frames.padded_sizes(job.checkpoint.contract)
        only = next(iter(padded)) if len(padded) == 1 else None
        compiled = engines.get(None) or engines.get(only) or {}
        if not compiled and any(engines.values()):
            job.progress.note("engine: compiled for no size of these frames, so its graph is not compared")
        precisions = [
            precision for built in compiled.values() if (precision := built.manifest["precision"]) not in stages.EXACT
        ]
        judged = [*job.config.compare.engines, *(pick_engine("tensorrt", each).name for each in precisions)]
        refuse_calibration_frames(job.store, judged, job.calibration, frames.files, job.progress)
        rows = {precision: built.artefact for precision, built in compiled.items()}
        measured = self._keep("measurement", stages.comparison(job, frames, rows))
        self._name_quantised(only)
        report, folder = stages.verdict(job, measured)
        self._keep("report", folder)
        return Compared(report, publish_folder(job.store, folder.path, name, job.progress), frames)

    def pictures(self, frames: stages.Frames, name: str) -> Path:
        """The frames deblurred by the first engine."""
        made = self._keep("pictures", stages.pictures(self.job, frames))
        return publish_folder(self.job.store, made.path, name, self.job.progress)

    def _keep(self, name: str, artefact: Artefact) -> Artefact:
        if artefact.path not in self.told:
            self.told.add(artefact.path)
            self.job.progress.note(f"{name}: {'made' if artefact.fresh else 'found'} {artefact.path}")
        if artefact.fresh:
            self.made.append(name)
        return artefact

    def _stem(self, size: Size | None) -> str:
        pixels = self.job.config.graph.pixels
        kind = "" if pixels == "float" else f"-{pixels}"
        return f"{self.job.origin.name}-{stages.size_text(size)}{kind}"

    def _name_quantised(self, size: Size | None) -> None:
        """Names for the graphs in 8 bits that engines of the comparison ran."""
        job = self.job
        for name in job.config.compare.engines:
            if is_calibrated(name) and (form := find_engine(name).form):
                graph = engine_graph(name, job.store, job.checkpoint, size, job.calibration, job.threads, job.progress)
                stem = f"{job.checkpoint.name}-{stages.size_text(size)}-int8-{form}.onnx"
                publish_graph(job.store, graph.path, stem, job.progress)


@dataclass(frozen=True)
class PipelineResult:
    """What a run left, under names that people can type. `engine_missing`: why there is no engine, else ""."""

    graphs: tuple[Path, ...]
    engines: tuple[BuiltFile, ...]
    engine_missing: str
    compared: tuple[Compared, ...]
    pictures: Path
    made: tuple[str, ...]
    refused: tuple[BudgetError, ...]

    def enforce(self) -> None:
        """Raise BudgetError for what broke its budget, InputError for frames that failed."""
        for error in self.refused:
            raise error
        for one in self.compared:
            one.report.enforce()


def run_pipeline(job: Job) -> PipelineResult:
    """Run every stage of a job. Broken budgets do not raise here: call `result.enforce()`.

    Raises InputError, BudgetError and MissingRuntimeError as the stages do.
    """
    stage = Stages(job)
    check_engines(job)
    check_baseline(job)
    graphs = tuple(stage.graph(size) for size in job.sizes)
    compared, engines = compare_all(stage)
    return PipelineResult(
        graphs=graphs,
        engines=tuple(built for of_size in engines.values() for built in of_size.values()),
        engine_missing=why_no_engine(job),
        compared=compared,
        pictures=stage.pictures(compared[0].frames, "restored"),
        made=tuple(stage.made),
        refused=tuple(stage.refused),
    )


def compare_all(stage: Stages) -> tuple[tuple[Compared, ...], dict[Size | None, dict[str, BuiltFile]]]:
    """One report on the configuration's frames, or one for each size that frames are drawn at; and the engines."""
    job = stage.job
    engines = {size: stage.engines(size) for size in job.sizes}
    first, *others = job.config.graph.sizes
    compared = [stage.compare(first, engines, "report")]
    if job.config.frames.blurred is None:
        compared += [stage.compare(size, engines, f"report-{stages.size_text(size)}") for size in others]
    return tuple(compared), engines


def check_engines(job: Job) -> None:
    """Raise InputError for an engine that is neither in the catalogue nor a file, and for artefacts among the pictures:
    before any work."""
    refuse_nested(job.store.root, "paths.artifacts", stages.folders_of(job.config.frames))
    for name in job.config.compare.engines:
        if not is_file_engine(name):
            find_engine(name)


def check_baseline(job: Job, *, one_report: bool = False, reference: Path | None = None) -> None:
    """Raise InputError for a baseline that cannot be read, is of another checkpoint, or that several reports would be
    held against. `reference`: a graph that stands in the place of the checkpoint."""
    if (path := job.config.compare.baseline) is None:
        return
    baseline = load_baseline(path)
    if reference is None and not job.config.network.is_graph:
        refuse_another_network(baseline, job.checkpoint.name, job.checkpoint.digest, path)
    if job.config.frames.blurred is None and len(job.config.graph.sizes) > 1 and not one_report:
        raise InputError(f"The baseline {path} is of one size, and graph.sizes has several; choose one of them.")


def why_no_engine(job: Job) -> str:
    """Why TensorRT engines are left out; "" when they are not. Raises MissingRuntimeError if they are required."""
    build = job.config.build
    if not build.enabled:
        return "build.enabled is false"
    try:
        open_product(build.flavor)
    except MissingRuntimeError as error:
        if build.required:
            raise
        return str(error)
    return ""
