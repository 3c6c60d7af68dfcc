"""Graph -> engine: rewrite the precision, lint, compile, hold the result to what was asked, write all or nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import onnx

from unblur.building.cast_frames import CastFrames, Smaller, choose_frames
from unblur.building.precision import PRECISIONS, Precision, PreparedGraph, precision_of, prepare_graph
from unblur.core.artefacts import atomic_paths, file_digest, json_bytes
from unblur.core.console import SILENT, Progress
from unblur.core.errors import BudgetError, InputError
from unblur.core.exclusive import exclusive
from unblur.core.provenance import default_threads, package_versions
from unblur.engines.rehearsal import rehearse
from unblur.engines.tensorrt.builder import CompiledEngine, compile_engine
from unblur.engines.tensorrt.lint.lint import describe_lints, lint
from unblur.engines.tensorrt.manifest import check_files, companions, read_manifest
from unblur.engines.tensorrt.product import Flavor, Product, open_product
from unblur.engines.tensorrt.profiles import Profile, check_profiles, profiles_from_json, profiles_to_json
from unblur.engines.tensorrt.targets import PORTABLE, resolve_targets
from unblur.engines.xray.audit import audit, computes_in, demand_asked, realised_precision
from unblur.engines.xray.kernels import XRay
from unblur.graphs.facts import GraphFacts, read_facts
from unblur.graphs.file import GraphFile, open_graph
from unblur.graphs.metadata import CHECKPOINT_KEY, NETWORK_KEY, ORDER_KEY, calibration_of, contract_of, properties
from unblur.graphs.rewrites.casting import Narrow


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built. precision None: as the graph is. profiles: for a dynamic graph only.

    frames: a folder of pictures to measure a cast to FP16 or BF16 on, None for a drawn one; fidelity_db: what the cast
    must keep there, None for FLOORS_DB of `unblur.building.islands`; output_name: of a graph's several outputs the
    restored frame.
    """

    precision: Precision | None = None
    flavor: Flavor = "auto"
    targets: tuple[str, ...] = ()
    profiles: tuple[Profile, ...] = ()
    optimization_level: int | None = None
    builds: int = 1
    frames: Path | None = None
    fidelity_db: float | None = None
    output_name: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "targets": list(self.targets),
            "profiles": profiles_to_json(self.profiles),
            "frames": self.frames and str(self.frames),
        }


ORIGIN = ("source_graph_sha256", "kept_fp32", "cast", "score")
"""What a manifest says of how its graph came about."""

AS_IT_IS = BuildOptions()
"""The graph's own precision, for any GPU from Ampere on or the one at hand."""


@dataclass(frozen=True)
class BuiltEngine:
    """Three files: the engine, `<engine>.onnx` (the graph that was compiled), `<engine>.json` (the manifest)."""

    path: Path
    graph_path: Path
    manifest_path: Path
    manifest: dict[str, Any]


def build_engine(
    graph: Path,
    output: Path,
    options: BuildOptions = AS_IT_IS,
    progress: Progress = SILENT,
    *,
    about: Mapping[str, Any] | None = None,
    smaller: Smaller | None = None,
    caches: Path | None = None,
) -> BuiltEngine:
    """Compile an exported graph. `about`: what the manifest shall say besides, of how the graph came about. `smaller`:
    gives a graph of the same weights for frames of CROP, by which the cast of a graph of large frames is judged.
    `caches`: the folder of TensorRT's timing cache, the engine's own where none is named.

    Of two builds of one output at the same time the second waits, and takes what the first has made if it was asked
    for the same. Raises MissingRuntimeError where the product or a GPU is missing, InputError for a graph, option or
    target that does not go, BudgetError when a convolution runs in something else than was asked. Then, and after
    Ctrl-C, what stood under the final names before stands there still.
    """
    product = open_product(options.flavor)  # say what is missing before minutes of work
    options = replace(options, flavor=product.name)  # the recipe names it, whatever is installed later
    source, model = open_graph(graph, options.output_name)
    _check_sizes(source, options.profiles)
    with exclusive(output, progress.note) as waited:
        if waited and (made := _made_meanwhile(output, product, source, options)):
            progress.note(f"{output} was made by the other process")
            return made
        facts = graph_facts(model, source)
        frames = _cast_frames(source, facts, options, smaller)
        if frames and source.checkpoint is None:
            rehearse("onnxruntime", source, default_threads())
        prepared = prepare_graph(model, facts, options.precision, frames, options.fidelity_db, graph, progress)
        origin = {
            "source_graph_sha256": source.digest,
            "kept_fp32": [{"node": node, "reason": reason} for node, reason in prepared.kept_fp32],
            "cast": prepared.measured and prepared.measured.to_json(),
            **(about or {}),
        }
        return _compile(prepared, source, output, product, options, origin, progress, caches)


def rebuild_engine(engine: Path, output: Path | None = None, progress: Progress = SILENT) -> BuiltEngine:
    """Build again by the recipe in an engine's manifest: the same graph, product and options, the release at hand.

    `output` None: over the engine itself. Raises InputError where manifest or graph are missing, damaged or of an
    older unblur without a recipe, and as `build_engine`.
    """
    manifest = read_manifest(engine, "recipe", "product", "precision", "graph_sha256", "engine_sha256")
    graph_path = companions(engine)[0]
    options = _recipe(manifest, companions(engine)[1])
    if not graph_path.is_file() or file_digest(graph_path) != manifest["graph_sha256"]:
        raise InputError(
            f"{graph_path} is not the graph that {companions(engine)[1]} describes, or is missing; build from the "
            "exported graph or the checkpoint."
        )
    product = open_product(options.flavor)
    source, model = open_graph(graph_path)
    output = output or engine
    with exclusive(output, progress.note):
        prepared = PreparedGraph(model, manifest["precision"])
        origin: dict[str, Any] = {name: manifest[name] for name in ORIGIN if name in manifest}
        return _compile(prepared, source, output, product, options, origin, progress)


def _compile(
    prepared: PreparedGraph,
    source: GraphFile,
    output: Path,
    product: Product,
    options: BuildOptions,
    origin: dict[str, Any],
    progress: Progress,
    caches: Path | None = None,
) -> BuiltEngine:
    model = prepared.model
    targets, _ = resolve_targets(product, options.targets)
    _lint(model, product, targets)
    data = model.SerializeToString()
    engine = compile_engine(
        data, options.targets, progress, product=product, profiles=options.profiles,
        optimization_level=options.optimization_level, builds=options.builds, caches=caches or output.parent,
    )  # fmt: skip
    facts = replace(graph_facts(model, source), declared=prepared.precision)
    try:
        demand_asked([finding for xray in engine.listed.values() for finding in audit(xray, facts)])
    except BudgetError as error:
        raise BudgetError(f"{error} Nothing was written.") from error
    manifest = _manifest(model, engine, prepared.precision, options, source, facts) | origin
    return write_engine(output, data, engine.data, manifest)


def write_engine(output: Path, graph: bytes, engine: bytes, manifest: dict[str, Any]) -> BuiltEngine:
    """Write the three files, or none. Raises InputError as `atomic_paths`; what stood there is then untouched."""
    graph_path, manifest_path = companions(output)
    with atomic_paths(graph_path, output, manifest_path) as (compiled, made, told):
        compiled.write_bytes(graph)
        made.write_bytes(engine)
        manifest |= {"graph_sha256": file_digest(compiled), "engine_sha256": file_digest(made)}
        told.write_bytes(json_bytes(manifest))
    return BuiltEngine(output, graph_path, manifest_path, manifest)


def _check_sizes(source: GraphFile, profiles: tuple[Profile, ...]) -> None:
    height, width = source.signature.height, source.signature.width
    if height is not None and width is not None:
        if profiles:
            raise InputError(
                f"{source.path} has one size, {height}x{width}; --shapes is for a graph exported with --dynamic."
            )
    elif height is not None or width is not None:
        raise InputError(f"{source.path} leaves one side open and fixes the other; export it with both open.")
    elif not profiles:
        raise InputError(
            f"{source.path} takes every size, and an engine is compiled for some: name them with --shapes, such as "
            "64x64:256x256:720x1280, or take them from pictures with --shapes-from DIR."
        )
    check_profiles(profiles, source.signature.contract, source.smallest)


def _cast_frames(
    source: GraphFile, facts: GraphFacts, options: BuildOptions, smaller: Smaller | None
) -> tuple[CastFrames, ...]:
    """What to measure a cast on; nothing where there is none."""
    if options.precision not in get_args(Narrow) or precision_of(facts) != "fp32":
        return ()
    height, width = source.signature.height, source.signature.width
    if height is None or width is None:
        return choose_frames(options.frames, source, options.profiles[0].best, None)
    return choose_frames(options.frames, source, (height, width), facts.macs, smaller)


def graph_facts(model: onnx.ModelProto, source: GraphFile) -> GraphFacts:
    """What the graph of a file, or a rewrite of it, asks for. Raises InputError as `read_facts`."""
    height, width = source.signature.height, source.signature.width
    fixed = height is not None and width is not None
    return read_facts(model, height or 0, width or 0, count=fixed)


def _lint(model: onnx.ModelProto, product: Product, targets: tuple[str, ...]) -> None:
    """Refuse what a target refuses, or takes for something else than it says, before minutes of work."""
    major, minor = (int(part) for part in product.version.split(".")[:2])
    for target in targets or (PORTABLE,):
        # A portable engine runs on Ampere too, the first of its families.
        findings = lint(model, product.name, "sm80" if target == PORTABLE else target, (major, minor))
        # That 8 bits are emulated is found in the engine itself, by the audit.
        findings = tuple(f for f in findings if f.rule != "int8 on sm75")
        if findings:
            raise InputError(
                f"The graph cannot be built for {target}.\n{describe_lints(product.name, target, findings)}"
            )


def _made_meanwhile(output: Path, product: Product, source: GraphFile, options: BuildOptions) -> BuiltEngine | None:
    """What another process made while this one waited, if it is whole and was asked for the same."""
    graph_path, manifest_path = companions(output)
    try:
        manifest = read_manifest(output)
        check_files(output, manifest)
    except InputError:  # it failed or was stopped: then it is for this process to build
        return None
    same = {
        "product": product.name,
        "version": product.version,
        "source_graph_sha256": source.digest,
        "recipe": options.to_json(),
    }
    if any(manifest.get(name) != value for name, value in same.items()):
        return None
    return BuiltEngine(output, graph_path, manifest_path, manifest)


def _recipe(manifest: dict[str, Any], path: Path) -> BuildOptions:
    try:
        values = dict(manifest["recipe"])
        options = BuildOptions(
            precision=values["precision"],
            flavor=manifest["product"],
            targets=tuple(values["targets"]),
            profiles=profiles_from_json(values["profiles"]),
            optimization_level=values["optimization_level"],
            builds=int(values["builds"]),
        )
        if manifest["precision"] not in PRECISIONS or options.precision not in (*PRECISIONS, None):
            raise ValueError(f"precision {manifest['precision']!r}")
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} has no whole recipe ({error!r}); build from the graph or the checkpoint.") from error
    return options


def _manifest(
    model: onnx.ModelProto,
    engine: CompiledEngine,
    precision: str,
    options: BuildOptions,
    source: GraphFile,
    facts: GraphFacts,
) -> dict[str, Any]:
    said = properties(model)
    height, width = source.signature.height, source.signature.width
    profiles = options.profiles
    if height is not None and width is not None:
        profiles = (Profile.only((height, width)),)
    gpu = None if engine.product.name == "tensorrt-rtx" or engine.device is None else asdict(engine.device)
    return {
        "product": engine.product.name,
        "version": engine.product.version,
        "precision": precision,
        "recipe": options.to_json(),
        "gpu": gpu,
        "network": said.get(NETWORK_KEY),
        "checkpoint_sha256": said.get(CHECKPOINT_KEY),
        "channel_order": said.get(ORDER_KEY),
        "calibration": calibration_of(model) or None,
        "pixel_contract": json.loads(contract_of(model).to_json()),
        "height": height,
        "width": width,
        "profiles": profiles_to_json(profiles),
        "versions": package_versions(),
        "engine_bytes": len(engine.data),
        "build_seconds": round(engine.seconds, 3),
        "builds": [asdict(attempt) | {"seconds": round(attempt.seconds, 3)} for attempt in engine.attempts],
        "chosen_build": engine.chosen,
        "warnings": list(engine.warnings),
        "seen_at": list(engine.seen_at) if engine.seen_at else None,
        "targets": {
            target: {
                "convolutions_run_in": _run_in(engine.listed[target], facts),
                **xray.summary(),
                "each_kernel": [{**kernel.to_json(), "runs_in": computes_in(kernel)} for kernel in xray.kernels],
            }
            for target, xray in engine.xrays.items()
        },
    }


def _run_in(xray: XRay, facts: GraphFacts) -> dict[str, int]:
    return dict(Counter(realised_precision(xray, [c.name for c in facts.convolutions]).values()))
