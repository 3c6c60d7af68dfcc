"""Open an engine or a graph for the X-ray: its kernels for each target, and what its graph asks for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from unblur.core.artefacts import file_digest
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError, UnblurError, nearest
from unblur.engines.graph_facts import GraphFacts, read_facts
from unblur.engines.graph_file import read_graph
from unblur.engines.tensorrt_builder import compile_engine
from unblur.engines.xray import Kernel, XRay
from unblur.export.build import companions
from unblur.export.casting import cast_to_fp16

FIELDS = ("product", "version", "precision", "engine_sha256", "graph_sha256", "height", "width", "targets")


@dataclass(frozen=True)
class Subject:
    """What is X-rayed: `name` is the file's name, `precision` what the manifest or the graph says it is."""

    name: str
    product: str
    version: str
    precision: str
    network: str | None
    facts: GraphFacts
    xrays: dict[str, XRay]


def examine_engine(path: Path, targets: Sequence[str] = ()) -> Subject:
    """Read the kernels from the manifest beside an engine; nothing is compiled, no GPU is needed.

    `targets` picks some of the engine's; none takes all. Raises InputError where the engine, its manifest or its
    graph is missing, damaged or of another build, and for a target the engine was not built for.
    """
    graph, manifest_path = companions(path)
    for file, what in ((path, "Engine"), (manifest_path, "The engine's manifest"), (graph, "The engine's graph")):
        if not file.is_file():
            raise InputError(
                f"{what} {file} does not exist. An X-ray takes an engine with the two files that `unblur build` writes "
                "beside it, or a graph whose name ends in .onnx."
            )
    manifest = _manifest(manifest_path)
    for file, field in ((path, "engine_sha256"), (graph, "graph_sha256")):
        if file_digest(file) != manifest[field]:
            raise InputError(f"{file} is not the file that {manifest_path} describes; build the engine again.")
    built = manifest["targets"]
    for target in targets:
        if target not in built:
            raise InputError(f"{path} was not built for {target!r}{nearest(target, built)}; it has {', '.join(built)}.")
    try:
        xrays = {target: _xray(built[target]) for target in (targets or built)}
    except UnblurError as error:
        raise InputError(f"{manifest_path} does not list its kernels in full ({error}); build it again.") from error
    facts = read_facts(onnx.load(graph), manifest["height"], manifest["width"])
    return Subject(
        path.name,
        manifest["product"],
        manifest["version"],
        manifest["precision"],
        manifest.get("network"),
        facts,
        xrays,
    )


def examine_graph(
    path: Path, *, fp16: bool = False, targets: Sequence[str] = (), progress: Progress = SILENT
) -> Subject:
    """Compile a graph of one size in memory and read the builder's log; nothing is written.

    Raises InputError for a graph that cannot be compiled, MissingRuntimeError without the compiler.
    """
    source = read_graph(path)
    height, width = source.signature.height, source.signature.width
    if height is None or width is None:
        raise InputError(f"{path} takes every size, an engine here has one; export it with --height and --width.")
    model = onnx.load(path)
    if fp16:
        progress.note("rewriting the graph to FP16")
        model = cast_to_fp16(model).model
    facts = read_facts(model, height, width)
    engine = compile_engine(model.SerializeToString(), targets, progress)
    network = next((entry.value for entry in model.metadata_props if entry.key == "unblur.network"), None)
    precision = facts.declared or source.precision
    return Subject(path.name, engine.product, engine.version, precision, network, facts, engine.xrays)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(
            f"{path} is no manifest of an engine, or only a part of one; build the engine again."
        ) from error
    lacking = [field for field in FIELDS if not isinstance(manifest, dict) or field not in manifest]
    if lacking:
        raise InputError(f"{path} is no manifest of an engine: it has no {', '.join(lacking)}; build the engine again.")
    return dict(manifest)


def _xray(kernels: dict[str, Any]) -> XRay:
    each = kernels.get("each_kernel", [])
    if not each:
        raise UnblurError("it has none")
    return XRay(tuple(Kernel.from_json(kernel) for kernel in each), int(kernels.get("activation_bytes", 0)))
