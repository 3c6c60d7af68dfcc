"""A runner for a checkpoint and the name of an engine; the graph it may need is exported once and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unblur.core.artefacts import file_digest, value_digest, write_json
from unblur.core.console import SILENT, Progress
from unblur.core.provenance import package_versions
from unblur.engines.catalogue import find_engine, open_engine
from unblur.engines.runner import Runner
from unblur.export.api import export_graph
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.places import artefact_folder

OPSET = 20


def open_runner(
    name: str,
    checkpoint: Checkpoint,
    *,
    threads: int | None = None,
    graphs: Path | None = None,
    progress: Progress = SILENT,
) -> Runner:
    """Open an engine of the catalogue for frames of every size.

    `graphs`: folder of exported graphs, default `artifacts/onnx` of the project or the user's cache. Raises as
    `open_engine` and `export_graph`.
    """
    graph = None
    if find_engine(name).needs_graph:
        graph = dynamic_graph(checkpoint, graphs or artefact_folder() / "onnx", progress)
    return open_engine(name, checkpoint, graph, threads)


def dynamic_graph(checkpoint: Checkpoint, folder: Path, progress: Progress = SILENT) -> Path:
    """The checkpoint's graph for every even size, from `folder` or exported into it.

    The file is taken for a hit only when its own bytes have the digest that its record states.
    """
    made_from = {
        "checkpoint": checkpoint.digest,
        "contract": checkpoint.contract.to_json(),
        "size": "dynamic",
        "pixels": "float",
        "opset": OPSET,
        "versions": {name: package_versions().get(name) for name in ("unblur", "torch", "onnx", "onnxscript")},
    }
    key = value_digest(made_from)
    path = folder / f"{checkpoint.name}-dynamic-{key[:16]}.onnx"
    record = path.with_suffix(".json")
    if path.is_file() and _stated_digest(record, key) == file_digest(path):
        return path
    progress.note(f"exporting {checkpoint.path} once, to {path}")
    exported = export_graph(checkpoint, path, dynamic=True, pixels="float", opset=OPSET, progress=progress)
    write_json(record, {"key": key, "sha256": exported.digest, "made_from": made_from})
    return path


def _stated_digest(record: Path, key: str) -> str | None:
    """The digest in a graph's record, None when the record is missing, damaged or of another graph."""
    try:
        stated: Any = json.loads(record.read_text())
    except (OSError, ValueError):  # missing or damaged: the graph is exported again
        return None
    digest = stated.get("sha256") if isinstance(stated, dict) and stated.get("key") == key else None
    return digest if isinstance(digest, str) else None
