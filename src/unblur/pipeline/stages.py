"""The stages of a run, each a function from what it depends on to an artefact of the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unblur.building.engine import BuildOptions, build_engine
from unblur.compare.comparison import Settings, compare_engines
from unblur.compare.judge.budgets import check_budgets
from unblur.compare.judge.verdict import judge
from unblur.compare.measure.frames import FrameFile, find_frames
from unblur.compare.report import Report, Strip
from unblur.compare.tell.write import write_report
from unblur.core.artefacts import json_text, value_digest, write_json
from unblur.core.console import Progress
from unblur.engines.catalogue import REFERENCE, is_calibrated
from unblur.engines.named import name_engine
from unblur.engines.runner import restore_frame
from unblur.engines.tensorrt.manifest import companions
from unblur.engines.tensorrt.product import PACKAGES, open_product
from unblur.engines.tensorrt.targets import CURRENT, PORTABLE
from unblur.images.contract import Frame
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.stopwatch import Protocol
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.config import BuildSection, CompareSection, FramesSection, PipelineConfig
from unblur.pipeline.dependence import depends_on, gpu_facts
from unblur.pipeline.job import Calibration, Size, Source
from unblur.pipeline.making.scored_engine import build_best_of_all, build_quantised
from unblur.pipeline.opening import GRAPH_REFERENCE, make_candidate
from unblur.pipeline.store import Artefact, Recipe, Store

COMPILED_GRAPH = "tensorrt-graph"
"""Row of the graph that the TensorRT engine was compiled from, executed by ONNX Runtime: decibels without a GPU. Its
latency there says nothing, so it is not timed."""

EXACT = ("fp32", "fp16", "bf16")
"""Precisions that need no calibration."""


def drawn_frames(store: Store, frames: FramesSection, size: Size) -> Artefact:
    """A folder of `blurred` and `sharp` pictures drawn from a seed, held out from any training."""
    recipe = Recipe("frames", {"seed": frames.seed, "count": frames.generated, "size": list(size)}, {})

    def write(folder: Path) -> None:
        for k in range(frames.generated):
            blurred, sharp = synthetic_pair(frames.seed + k, *size, "heldout")
            _write_png(folder / "blurred" / f"{k:03}.png", blurred)
            _write_png(folder / "sharp" / f"{k:03}.png", sharp)

    return store.make(recipe, f"drawn-{size[0]}x{size[1]}", write)


def find_config_frames(config: PipelineConfig, store: Store) -> tuple[list[FrameFile], str]:
    """The frames to compare on, pinned, and the digest of their names and contents.

    Raises InputError as `find_frames` and `FrameFile.pinned`.
    """
    blurred, sharp = config.frames.blurred, config.frames.sharp
    if blurred is None:
        drawn = drawn_frames(store, config.frames, (config.graph.height, config.graph.width)).path
        blurred, sharp = drawn / "blurred", drawn / "sharp"
    frames = [frame.pinned() for frame in find_frames(blurred, sharp)]
    return frames, value_digest([[frame.name, *(frame.digests or ())] for frame in frames])


def engine(
    store: Store, graph: Artefact, source: Source, build: BuildSection, calibration: Calibration, progress: Progress
) -> Artefact:
    """A folder with the engine, the graph that was compiled and the manifest.

    `graph` is the float32 one of `source`. Raises as `build_engine` and `build_quantised`.
    """
    product = open_product(build.flavor).name
    precision = None if build.precision == "best" else build.precision
    options = BuildOptions(
        precision,
        product,
        build.targets,
        (),
        build.optimization_level,
        build.builds,
        fidelity_db=build.fidelity_db,
    )
    calibrated = {}
    if build.precision not in EXACT:
        calibrated = {"calibration": calibration.to_json(), "psnr_loss_db": build.psnr_loss_db}
    bound = product == "tensorrt" or CURRENT in build.targets  # chosen for the GPU at hand
    recipe = Recipe(
        "engines",
        options.to_json() | {"precision": build.precision, "gpu": gpu_facts() if bound else None} | calibrated,
        {"graph": graph.digest},
        PACKAGES[product],
        machine_bound=bound,
    )
    target = "+".join(build.targets) or (PORTABLE if product == "tensorrt-rtx" else CURRENT)
    assert source.size is not None
    label = f"{source.checkpoint.name}-{source.size[0]}x{source.size[1]}-{build.precision}-{product}-{target}"

    def write(folder: Path) -> None:
        output = folder / f"{label}.engine"
        if precision is None:
            build_best_of_all(store, source, output, options, calibration, build.psnr_loss_db, progress)
        elif precision in EXACT:
            build_engine(graph.path, output, options, progress)
        else:
            build_quantised(store, source, output, options, calibration, build.psnr_loss_db, progress)

    return store.make(recipe, label, write)


def engine_file(folder: Path) -> Path:
    """The engine inside a folder made by `engine`."""
    return next(folder.glob("*.engine"))


def comparison(
    store: Store,
    checkpoint: Checkpoint,
    frames: Sequence[FrameFile],
    frames_digest: str,
    graph: Artefact,
    built: Artefact | None,
    settings: CompareSection,
    calibration: Calibration,
    progress: Progress,
) -> Artefact:
    """The measurement without a verdict, as JSON. It is bound to the machine it was taken on.

    Raises as `compare_engines`.
    """
    threads = settings.threads or None
    candidates = [make_candidate(name, store, checkpoint, threads, progress, calibration) for name in settings.engines]
    if built is not None:
        graph_file = companions(engine_file(built.path))[0]
        compiled = make_candidate(f"{GRAPH_REFERENCE}:{graph_file}", store, checkpoint, threads, progress)
        candidates.append(replace(compiled, name=COMPILED_GRAPH, timed=False))
    parents = {"checkpoint": checkpoint.digest, "frames": frames_digest, "graph": graph.digest}
    if built is not None:
        parents["engine"] = built.digest
    # ONNX Runtime also runs the compiled graph.
    depends = depends_on([name_engine(name) for name in (*settings.engines, *([GRAPH_REFERENCE] if built else ()))])
    spec: dict[str, Any] = {"threads": settings.threads, "rounds": settings.rounds} | depends.spec
    spec |= {"contract": checkpoint.contract.to_json()} | _calibrated(settings.engines, calibration)
    recipe = Recipe("measurements", spec, parents, depends.packages, machine_bound=True)
    protocol = Protocol(rounds=settings.rounds) if settings.rounds else None

    def write(path: Path) -> None:
        report = compare_engines(
            checkpoint, candidates, frames, Settings(threads=threads, protocol=protocol, skip_missing=True), progress
        )
        strips = [strip.model_dump(mode="json") for strip in report.strips]
        path.write_text(json_text({"report": report.to_json(), "strips": strips}, indent=None))

    return store.make(recipe, f"{checkpoint.name}.json", write)


def verdict(store: Store, measured: Artefact, config: PipelineConfig) -> tuple[Report, Artefact]:
    """The report under the configuration's budgets, and its folder. Raises InputError for a budget of nothing."""
    values = json.loads(measured.path.read_text())
    report = Report.model_validate(values["report"])
    check_budgets(
        config.budgets,
        [engine.name for engine in report.engines],
        truth=report.has_truth,
        latency=report.latency is not None,
    )
    strips = tuple(Strip.model_validate(strip) for strip in values["strips"])
    report = judge(report.model_copy(update={"strips": strips}), config.budgets)
    budgets = {name: budget.model_dump() for name, budget in config.budgets.items()}
    resolved = config.model_dump(mode="json")
    recipe = Recipe("reports", {"budgets": budgets, "pipeline": resolved}, {"measurement": measured.digest})

    def write(folder: Path) -> None:
        write_report(report, folder)
        write_json(folder / "pipeline.json", resolved)

    return report, store.make(recipe, report.network, write)


def pictures(
    store: Store, checkpoint: Checkpoint, frames: Sequence[FrameFile], digest: str, settings: CompareSection,
    calibration: Calibration, progress: Progress,
) -> Artefact:  # fmt: skip
    """A folder with every frame deblurred by the first engine of the comparison."""
    name = settings.engines[0] if settings.engines else REFERENCE
    depends = depends_on([name_engine(name)])
    recipe = Recipe(
        "pictures",
        depends.spec | {"contract": checkpoint.contract.to_json()} | _calibrated([name], calibration),
        {"checkpoint": checkpoint.digest, "frames": digest},
        depends.packages,
    )

    def write(folder: Path) -> None:
        by_size: dict[Size, list[FrameFile]] = {}
        for frame in frames:
            size = checkpoint.contract.padded_size(*frame.read()[0].shape[:2])
            by_size.setdefault(size, []).append(frame)
        for size, group in by_size.items():
            candidate = make_candidate(name, store, checkpoint, settings.threads or None, progress, calibration)
            with candidate.open(size) as runner:
                for frame in progress.track(group, "deblurring", len(group)):
                    target = (folder / frame.name).with_suffix(".png")
                    _write_png(target, restore_frame(runner, frame.read()[0]))

    return store.make(recipe, f"{checkpoint.name}-{name}", write)


def _calibrated(engines: Sequence[str], calibration: Calibration) -> dict[str, Any]:
    """What a stage with these engines depends on besides them."""
    return {"calibration": calibration.to_json()} if any(is_calibrated(name) for name in engines) else {}


def _write_png(path: Path, frame: Frame) -> None:
    write_picture(path, Picture(frame), frame)
