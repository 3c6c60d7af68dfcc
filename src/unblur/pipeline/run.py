"""The whole way, top to bottom: frames, exact graph, engine, comparison, verdict, pictures.

Every stage asks the store first, so a second run does nothing twice, and a run that was killed goes on where it
was: what is finished is found, what is not was never under its final name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unblur.compare.report import Report
from unblur.core.console import SILENT, Progress
from unblur.core.errors import MissingRuntimeError
from unblur.engines.catalogue import find_engine
from unblur.engines.tensorrt.manifest import companions
from unblur.engines.tensorrt.product import open_product
from unblur.networks.checkpoints import load_checkpoint
from unblur.pipeline import stages
from unblur.pipeline.config import PipelineConfig
from unblur.pipeline.job import Source
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.opening import refuse_calibration_frames
from unblur.pipeline.store import Artefact, Store


@dataclass(frozen=True)
class PipelineResult:
    """What a run left. `manifest` is None where the engine was left out; `engine_missing` then says why."""

    graph: Path
    engine: Path | None
    manifest: dict[str, Any] | None
    engine_missing: str
    report: Report
    report_folder: Path
    pictures: Path
    made: tuple[str, ...]


def run_pipeline(config: PipelineConfig, progress: Progress = SILENT) -> PipelineResult:
    """Run every stage of a configuration. Broken budgets do not raise here: call `result.report.enforce()`.

    Raises InputError, BudgetError and MissingRuntimeError as the stages do.
    """
    for name in config.compare.engines:
        find_engine(name)
    artefacts: dict[str, Artefact] = {}

    def keep(name: str, artefact: Artefact) -> Artefact:
        artefacts[name] = artefact
        progress.note(f"{name}: {'made' if artefact.fresh else 'found'} {artefact.path}")
        return artefact

    checkpoint = load_checkpoint(config.network.checkpoint, config.network.channel_order, progress)
    store = Store(config.paths.artifacts, progress.note)
    frames, frames_digest = stages.find_config_frames(config, store)

    options = config.graph
    size = (options.height, options.width)
    graph = stored_graph(store, checkpoint, size, options.pixels, options.opset, options.prove, progress)
    keep("graph", graph)

    calibration = config.calibration.to_calibration()
    built, missing = None, _why_no_engine(config)
    if not missing:
        built = keep(
            "engine",
            stages.engine(
                store,
                graph,
                Source(checkpoint, size, options.pixels, options.opset),
                config.build,
                calibration,
                progress,
            ),
        )

    refuse_calibration_frames(store, config.compare.engines, calibration, frames, progress)
    measured = stages.comparison(
        store, checkpoint, frames, frames_digest, graph, built, config.compare, calibration, progress
    )
    keep("measurement", measured)
    report, folder = stages.verdict(store, measured, config)
    keep("report", folder)
    restored = stages.pictures(store, checkpoint, frames, frames_digest, config.compare, calibration, progress)
    keep("pictures", restored)

    engine_path = stages.engine_file(built.path) if built else None
    return PipelineResult(
        graph=graph.path,
        engine=engine_path,
        manifest=json.loads(companions(engine_path)[1].read_text()) if engine_path else None,
        engine_missing=missing,
        report=report,
        report_folder=folder.path,
        pictures=restored.path,
        made=tuple(name for name, artefact in artefacts.items() if artefact.fresh),
    )


def _why_no_engine(config: PipelineConfig) -> str:
    """Why the TensorRT engine is left out; "" when it is not. Raises MissingRuntimeError if it is required."""
    if not config.build.enabled:
        return "build.enabled is false"
    try:
        open_product(config.build.flavor)
    except MissingRuntimeError as error:
        if config.build.required:
            raise
        return str(error)
    return ""
