"""Open an engine or a graph for the X-ray: its kernels for each target, and what its graph asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError, UnblurError, nearest
from unblur.engines.tensorrt.builder import compile_engine
from unblur.engines.tensorrt.manifest import check_files, companions, read_manifest
from unblur.engines.xray.kernels import Kernel, XRay
from unblur.graphs.facts import GraphFacts, read_facts
from unblur.graphs.file import open_graph
from unblur.graphs.metadata import NETWORK_KEY, properties
from unblur.graphs.onnx_file import load_onnx
from unblur.graphs.rewrites.casting import cast_graph
from unblur.images.contract import PixelContract


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
    manifest = read_manifest(path)
    check_files(path, manifest)
    if manifest["height"] is None:
        raise InputError(
            f"{path} takes several sizes, and an X-ray is of one: X-ray a graph exported for the size you want to see. "
            "The manifest has the kernels of the size it was looked at."
        )
    built = manifest["targets"]
    for target in targets:
        if target not in built:
            raise InputError(f"{path} was not built for {target!r}{nearest(target, built)}; it has {', '.join(built)}.")
    try:
        xrays = {target: _xray(built[target]) for target in (targets or built)}
    except UnblurError as error:
        raise InputError(f"{manifest_path} does not list its kernels in full ({error}); build it again.") from error
    facts = read_facts(load_onnx(graph), manifest["height"], manifest["width"])
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
    path: Path,
    *,
    fp16: bool = False,
    targets: Sequence[str] = (),
    output_name: str | None = None,
    contract: PixelContract | None = None,
    progress: Progress = SILENT,
) -> Subject:
    """Compile a graph of one size in memory and read the builder's log; nothing is written.

    `output_name`: of a graph's several outputs the restored frame; `contract`: its pixels, where it does not say them.
    Raises InputError for a graph that cannot be compiled, MissingRuntimeError without the compiler.
    """
    source, model = open_graph(path, output_name, contract)
    height, width = source.signature.height, source.signature.width
    if height is None or width is None:
        raise InputError(f"{path} takes every size, an engine here has one; export it with --height and --width.")
    if fp16:
        progress.note("rewriting the graph to FP16")
        model = cast_graph(model, "fp16").model
    facts = read_facts(model, height, width)
    engine = compile_engine(model.SerializeToString(), targets, progress)
    network = properties(model).get(NETWORK_KEY)
    precision = facts.declared or source.precision
    return Subject(path.name, engine.product.name, engine.product.version, precision, network, facts, engine.xrays)


def _xray(kernels: dict[str, Any]) -> XRay:
    each = kernels.get("each_kernel", [])
    if not each:
        raise UnblurError("it has none")
    return XRay(tuple(Kernel.from_json(kernel) for kernel in each), int(kernels.get("activation_bytes", 0)))
