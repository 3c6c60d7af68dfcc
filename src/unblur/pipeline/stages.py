"""The stages of a job, each a function from what it depends on to an artefact of the store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unblur.building.cast_frames import CROP
from unblur.building.engine import BuildOptions, build_engine
from unblur.building.precision import Precision
from unblur.compare.candidates import Candidate
from unblur.compare.comparison import Settings, compare_engines
from unblur.compare.judge.budgets import TRUTH_BUDGETS, Budget, check_budgets
from unblur.compare.judge.verdict import LATENCY_BUDGETS, judge, reach
from unblur.compare.measure.frames import FrameFile, find_frames
from unblur.compare.parts import Attention, Part
from unblur.compare.report import Report, Strip
from unblur.compare.tell.write import write_report
from unblur.core.artefacts import json_text, value_digest, write_json
from unblur.core.bounds import Size
from unblur.engines.catalogue import REFERENCE, is_calibrated, pick_engine
from unblur.engines.named import name_engine
from unblur.engines.runner import restore_frame
from unblur.engines.tensorrt.manifest import companions
from unblur.engines.tensorrt.product import open_product
from unblur.engines.tensorrt.profiles import Profile, parse_profile
from unblur.engines.tensorrt.targets import CURRENT, PORTABLE
from unblur.images.contract import Frame, PixelContract
from unblur.images.files import Picture, write_picture
from unblur.images.pairs import named_layout
from unblur.images.sizes import picture_size
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.stopwatch import Protocol
from unblur.pipeline.baseline import since_baseline
from unblur.pipeline.config import FramesSection
from unblur.pipeline.cost import with_costs
from unblur.pipeline.dependence import Dependence, depends_on, gpu_facts
from unblur.pipeline.held_out import Named
from unblur.pipeline.job import Job
from unblur.pipeline.kept_scores import kept_scores
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.scored_engine import build_best_of_all, build_quantised, smaller_graph
from unblur.pipeline.opening import GRAPH_REFERENCE, make_candidate
from unblur.pipeline.store import Artefact, Recipe

COMPILED_GRAPH = "tensorrt-graph"
"""Rows "tensorrt-graph-fp16": the graph that the TensorRT engine was compiled from, executed by ONNX Runtime: decibels
without a GPU. Its latency there says nothing, so it is not timed."""

SHOWN: dict[str, type[Part]] = {"strips": Strip, "attention": Attention}
"""Pictures of a report, which only its page has."""

EXACT = ("fp32", "fp16", "bf16")
"""Precisions that need no calibration."""


@dataclass(frozen=True)
class Frames:
    """Frames to compare on, pinned, and the digest of their names and contents. `size`: that they are drawn at."""

    files: tuple[FrameFile, ...]
    digest: str
    size: Size | None = None

    def padded_sizes(self, contract: PixelContract) -> Counter[Size]:
        """(height, width) that a network sees, by the headers, and of how many frames. Raises as `picture_size`."""
        return Counter(contract.padded_size(*picture_size(frame.path)) for frame in self.files)


def graph(job: Job, size: Size | None) -> Artefact:
    """The exact graph of (height, width), or (None) of every size. Raises as `stored_graph`."""
    options = job.config.graph
    return stored_graph(job.store, job.origin, size, options.pixels, options.opset, options.prove, job.progress)


def frames(job: Job, size: Size) -> Frames:
    """The configuration's frames, or pairs drawn at (height, width).

    Raises InputError as `find_frames` and `FrameFile.pinned`.
    """
    options = job.config.frames
    blurred, sharp, drawn = options.blurred, options.sharp, None
    if blurred is None:
        folder, drawn = drawn_frames(job, size).path, size
        blurred, sharp = folder / "blurred", folder / "sharp"
    files = tuple(frame.pinned() for frame in find_frames(blurred, sharp, job.progress))
    return Frames(files, value_digest([[frame.name, *(frame.digests or ())] for frame in files]), drawn)


def folders_of(options: FramesSection) -> list[Path | None]:
    """Where the pictures are read that somebody named."""
    return [named_layout(options.blurred)[1] if options.blurred else None, options.sharp]


def drawn_frames(job: Job, size: Size) -> Artefact:
    """A folder of `blurred` and `sharp` pictures drawn from a seed, held out from any training."""
    options = job.config.frames
    recipe = Recipe("frames", {"seed": options.seed, "count": options.generated, "size": list(size)}, {})

    def write(folder: Path) -> None:
        for k in range(options.generated):
            blurred, sharp = synthetic_pair(options.seed + k, *size, "heldout")
            _write_png(folder / "blurred" / f"{k:03}.png", blurred)
            _write_png(folder / "sharp" / f"{k:03}.png", sharp)

    return job.store.make(recipe, f"drawn-{size[0]}x{size[1]}", write)


def engine(job: Job, size: Size | None, precision: str) -> Artefact:
    """A folder with the engine of a graph, the graph that was compiled and the manifest.

    `precision`: as build.precisions has it, "best" too. Raises as `build_engine` and `build_quantised`.
    """
    build, source = job.config.build, graph(job, size)
    named, given = judged_on(job, size), job.source(size)
    options = replace(build_options(job, size, precision), frames=named.blurred)
    product = options.flavor
    spec, parents = options.to_json() | {"precision": precision, "frames": None}, {"graph": source.digest}
    if precision not in EXACT:
        spec |= {"calibration": job.calibration.to_json(), "psnr_loss_db": build.psnr_loss_db}
    if named.files:
        parents["frames"] = value_digest([[frame.name, *(frame.digests or ())] for frame in named.files])
    bound = product == "tensorrt" or CURRENT in build.targets  # chosen for the GPU at hand
    if bound or precision == "best":  # which is timed where a GPU can
        spec["gpu"] = gpu_facts()
    recipe = Recipe("engines", spec, parents, pick_engine(product, "fp32").packages, machine_bound=bound)
    target = "+".join(build.targets) or (PORTABLE if product == "tensorrt-rtx" else CURRENT)
    label = f"{job.origin.name}-{size_text(size)}-{precision}-{product}-{target}"

    def write(folder: Path) -> None:
        output = folder / f"{label}.engine"
        caches = job.store.root / recipe.stage
        eight = (job.store, given, output, options, job.calibration, build.psnr_loss_db, job.progress, named)
        if precision == "best":
            build_best_of_all(*eight)
        elif precision in EXACT:
            smaller = smaller_graph(job.store, given, job.progress)
            build_engine(source.path, output, options, job.progress, smaller=smaller, caches=caches)
        else:
            build_quantised(*eight, caches=caches)

    return job.store.make(recipe, label, write)


def judged_on(job: Job, size: Size | None) -> Named:
    """The pictures of [frames], pinned, that precisions of a graph are judged on; drawn ones take the place of none,
    and, which is told, of pictures that are smaller than the graph's (height, width)."""
    options = job.config.frames
    if options.blurred is None:
        return Named()
    files = tuple(frame.pinned() for frame in find_frames(options.blurred, options.sharp))
    named = Named(files, options.blurred, options.sharp)
    least = size or (CROP, CROP)
    if named.fits(least, job.checkpoint.contract.padded_size):
        return named
    job.progress.note(
        f"{options.blurred} has no picture as large as {size_text(least)}: precisions are judged on drawn ones"
    )
    return Named()


def build_options(job: Job, size: Size | None, precision: str | None) -> BuildOptions:
    """How the configuration builds. Raises MissingRuntimeError where its product is missing."""
    build = job.config.build
    profiles: tuple[Profile, ...] = ()
    if size is None:
        shapes = tuple(parse_profile(text) for text in build.shapes)
        profiles = shapes or tuple(map(Profile.only, job.config.graph.sizes))
    named: dict[str, Precision] = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "int8", "fp8": "fp8"}
    return BuildOptions(
        named.get(precision or ""), open_product(build.flavor).name, build.targets, profiles,
        build.optimization_level, build.builds, fidelity_db=build.fidelity_db,
    )  # fmt: skip


def engine_file(folder: Path) -> Path:
    """The engine inside a folder made by `engine`."""
    return next(folder.glob("*.engine"))


def size_text(size: Size | None) -> str:
    """ "720x1280", or "dynamic"."""
    return "dynamic" if size is None else f"{size[0]}x{size[1]}"


def comparison(job: Job, frames: Frames, compiled: Mapping[str, Artefact]) -> Artefact:
    """The measurement without a verdict, as JSON. It is bound to the machine it was taken on.

    `compiled`: precision -> folder of an engine whose graph is a row too. Raises as `compare_engines`.
    """
    checkpoint, settings = job.checkpoint, job.config.compare
    candidates = [_candidate(job, name) for name in settings.engines]
    rows = {REFERENCE: REFERENCE} | {one.name: text for one, text in zip(candidates, settings.engines, strict=True)}
    for precision, built in compiled.items():
        graph_file = companions(engine_file(built.path))[0]
        name, text = f"{COMPILED_GRAPH}-{precision}", f"{GRAPH_REFERENCE}:{graph_file}"
        row = make_candidate(
            text, job.store, checkpoint, job.threads, job.progress, hang_s=job.config.compare.hang_seconds
        )
        candidates.append(replace(row, name=name, timed=False))
        rows[name] = text
    parents = {"checkpoint": checkpoint.digest, "frames": frames.digest}
    parents |= {f"engine {precision}": built.digest for precision, built in compiled.items()}
    # ONNX Runtime also runs the compiled graphs.
    depends = _depends(job, [*settings.engines, *([GRAPH_REFERENCE] if compiled else ())])
    how = {"waterfall": settings.waterfall, "detectors": settings.detectors, "shown": list(SHOWN)}
    spec: dict[str, Any] = {"threads": settings.threads, "rounds": settings.rounds, "repeats": settings.repeats} | how
    spec |= depends.spec
    spec |= {"contract": checkpoint.contract.to_json(), "cost": settings.cost} | _calibrated(job, settings.engines)
    recipe = Recipe("measurements", spec, parents, depends.packages, machine_bound=True)
    protocol = Protocol(rounds=settings.rounds) if settings.rounds else None
    crashed: list[str] = []

    def write(path: Path) -> None:
        kept = kept_scores(job, rows, checkpoint.digest)
        options = Settings(
            threads=job.threads,
            protocol=protocol,
            skip_missing=True,
            repeats=settings.repeats,
            waterfall=settings.waterfall,
            kept=kept,
            detectors=settings.detectors,
        )
        report = compare_engines(checkpoint, candidates, frames.files, options, job.progress)
        if settings.cost:
            report = with_costs(job, report, settings.engines)
        crashed.extend(engine.name for engine in report.engines if engine.crashed)
        shown = {name: [one.model_dump(mode="json") for one in getattr(report, name)] for name in SHOWN}
        path.write_text(json_text({"report": report.to_json(), **shown}, indent=None))

    return job.store.make(recipe, f"{checkpoint.name}.json", write, whole=lambda: not crashed)


def verdict(job: Job, measured: Artefact) -> tuple[Report, Artefact]:
    """The report under the configuration's budgets, and its folder. Raises InputError for a budget of nothing."""
    values = json.loads(measured.path.read_text())
    report = Report.model_validate(values["report"])
    report, budgets = reach(report, job.config.budgets)
    names = [engine.name for engine in report.engines]
    check_budgets(budgets, names, truth=report.has_truth, latency=report.latency is not None)
    shown = {name: tuple(map(part.model_validate, values[name])) for name, part in SHOWN.items()}
    report = since_baseline(job, judge(report.model_copy(update=shown), budgets))
    resolved = job.config.model_dump(mode="json")
    told = {name: budget.model_dump() for name, budget in budgets.items()}
    parents = {"measurement": measured.digest} | ({"baseline": report.since.digest} if report.since else {})
    recipe = Recipe("reports", {"budgets": told, "pipeline": resolved}, parents)

    def write(folder: Path) -> None:
        write_report(report, folder)
        write_json(folder / "pipeline.json", resolved)

    return report, job.store.make(recipe, report.network, write)


def fitting_budgets(
    budgets: Mapping[str, Budget], engines: Sequence[str], *, has_truth: bool, latency: bool
) -> dict[str, Budget]:
    """Budgets without the limits that a comparison of other engines, of other frames or without latency has nothing to
    hold against."""
    needs = {**dict.fromkeys(TRUTH_BUDGETS, has_truth), **dict.fromkeys(LATENCY_BUDGETS, latency)}
    without = [key for key, fits in needs.items() if not fits]
    compared = {*engines, REFERENCE}
    return {
        name: budget.model_copy(update=dict.fromkeys(without))
        for name, budget in budgets.items()
        if "*" in name or name in compared or name.startswith(COMPILED_GRAPH)
    }


def pictures(job: Job, frames: Frames) -> Artefact:
    """A folder with every frame deblurred by the first engine of the comparison."""
    checkpoint = job.checkpoint
    name = next(iter(job.config.compare.engines), REFERENCE)
    depends = _depends(job, [name])
    recipe = Recipe(
        "pictures",
        depends.spec | {"contract": checkpoint.contract.to_json()} | _calibrated(job, [name]),
        {"checkpoint": checkpoint.digest, "frames": frames.digest},
        depends.packages,
    )

    def write(folder: Path) -> None:
        by_size: dict[Size, list[FrameFile]] = {}
        for frame in frames.files:
            size = checkpoint.contract.padded_size(*frame.read()[0].shape[:2])
            by_size.setdefault(size, []).append(frame)
        for size, group in by_size.items():
            with _candidate(job, name).open(size) as runner:
                for frame in job.progress.track(group, "deblurring", len(group)):
                    target = (folder / frame.name).with_suffix(".png")
                    _write_png(target, restore_frame(runner, frame.read()[0]))

    return job.store.make(recipe, f"{checkpoint.name}-{name_engine(name).engine.name}", write)


def _candidate(job: Job, name: str) -> Candidate:
    how: dict[str, Any] = {"device": job.config.compare.device, "hang_s": job.config.compare.hang_seconds}
    return make_candidate(name, job.store, job.checkpoint, job.threads, job.progress, job.calibration, **how)


def _depends(job: Job, engines: Sequence[str]) -> Dependence:
    device = job.config.compare.device
    return depends_on([name_engine(name, device=device) for name in engines], device)


def _calibrated(job: Job, engines: Sequence[str]) -> dict[str, Any]:
    """What a stage with these engines depends on besides them."""
    return {"calibration": job.calibration.to_json()} if any(is_calibrated(name) for name in engines) else {}


def _write_png(path: Path, frame: Frame) -> None:
    write_picture(path, Picture(frame), frame)
