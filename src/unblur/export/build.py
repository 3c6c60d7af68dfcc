"""Graph -> engine: rewrite the precision, compile, hold the result to what was asked, write all or nothing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from unblur.core.artefacts import atomic_path, file_digest, write_bytes, write_json
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.core.provenance import package_versions
from unblur.engines.audit import computes_in, demand_half, realised_precision
from unblur.engines.graph_facts import CONVOLUTIONS
from unblur.engines.graph_file import read_graph
from unblur.engines.tensorrt_builder import CompiledEngine, compile_engine
from unblur.engines.tensorrt_product import open_product
from unblur.engines.xray import XRay
from unblur.export.casting import cast_to_fp16


@dataclass(frozen=True)
class BuiltEngine:
    """Three files: the engine, `<engine>.onnx` (the graph that was compiled), `<engine>.json` (the manifest)."""

    path: Path
    graph_path: Path
    manifest_path: Path
    manifest: dict[str, Any]


def build_engine(
    graph: Path, output: Path, *, fp16: bool = False, targets: tuple[str, ...] = (), progress: Progress = SILENT
) -> BuiltEngine:
    """Compile an exported graph of one size for TensorRT for RTX.

    Raises MissingRuntimeError without the package, InputError for a graph that cannot be compiled, BudgetError
    when FP16 was asked and a convolution runs in something else. Then no file stands under the final names.
    """
    open_product("tensorrt-rtx")  # say what is missing before minutes of work
    source = read_graph(graph)
    if source.signature.height is None or source.signature.width is None:
        raise InputError(f"{graph} takes every size, an engine here has one; export it with --height and --width.")
    model = onnx.load(graph)
    kept: tuple[tuple[str, str], ...] = ()
    if fp16:
        progress.note("rewriting the graph to FP16")
        cast = cast_to_fp16(model)
        model, kept = cast.model, cast.kept_fp32
    data = model.SerializeToString()
    engine = compile_engine(data, targets, progress)
    if fp16:
        for xray in engine.xrays.values():
            demand_half(xray, _convolutions(model))
    graph_path, manifest_path = companions(output)
    # The manifest names both digests and is written last: without it the other two are taken for nothing.
    manifest_path.unlink(missing_ok=True)
    write_bytes(graph_path, data)
    with atomic_path(output) as temporary:
        temporary.write_bytes(engine.data)
    manifest = _manifest(model, engine, "fp16" if fp16 else source.precision, kept) | {
        "source_graph_sha256": source.digest,
        "graph_sha256": file_digest(graph_path),
        "engine_sha256": file_digest(output),
        "height": source.signature.height,
        "width": source.signature.width,
    }
    write_json(manifest_path, manifest)
    return BuiltEngine(output, graph_path, manifest_path, manifest)


def companions(engine: Path) -> tuple[Path, Path]:
    """Where the graph and the manifest of an engine file lie."""
    return engine.with_name(engine.name + ".onnx"), engine.with_name(engine.name + ".json")


def _manifest(
    model: onnx.ModelProto, engine: CompiledEngine, precision: str, kept: tuple[tuple[str, str], ...]
) -> dict[str, Any]:
    properties = {entry.key.removeprefix("unblur."): entry.value for entry in model.metadata_props}
    return {
        "product": engine.product,
        "version": engine.version,
        "precision": precision,
        "kept_fp32": [{"node": node, "reason": reason} for node, reason in kept],
        "network": properties.get("network"),
        "checkpoint_sha256": properties.get("checkpoint_sha256"),
        "pixel_contract": json.loads(properties["pixel_contract"]),
        "versions": package_versions(),
        "engine_bytes": len(engine.data),
        "build_seconds": round(engine.seconds, 3),
        "warnings": list(engine.warnings),
        "targets": {target: _kernels(xray, model) for target, xray in engine.xrays.items()},
    }


def _convolutions(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS]


def _kernels(xray: XRay, model: onnx.ModelProto) -> dict[str, Any]:
    realised = realised_precision(xray, _convolutions(model))
    return {
        **xray.summary(),
        "convolutions_run_in": dict(Counter(realised.values())),
        "each_kernel": [{**kernel.to_json(), "runs_in": computes_in(kernel)} for kernel in xray.kernels],
    }
