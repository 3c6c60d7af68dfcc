"""Exported graphs out of the store: one per checkpoint, size, pixels and opset."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from unblur.core.console import SILENT, Progress
from unblur.export.graph import export_graph
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.job import OPSET, Size
from unblur.pipeline.store import Artefact, Recipe, Store


def stored_graph(
    store: Store,
    checkpoint: Checkpoint,
    size: Size | None,
    pixels: Literal["float", "uint8"] = "float",
    opset: int = OPSET,
    prove: bool = False,
    progress: Progress = SILENT,
    *,
    check: bool = True,
) -> Artefact:
    """The proven graph for (height, width), or (None) for every size; `check` False leaves the proof out.

    Raises as `export_graph`.
    """
    where = "dynamic" if size is None else f"{size[0]}x{size[1]}"
    recipe = Recipe(
        stage="onnx",
        spec={
            "size": where,
            "pixels": pixels,
            "opset": opset,
            "prove": prove,
            "check": check,
            "contract": checkpoint.contract.to_json(),
        },
        parents={"checkpoint": checkpoint.digest},
        # The proof runs in them: another version has proved nothing yet.
        runtimes=frozenset({"onnxruntime", "onnxruntime-gpu"}) | (frozenset({"openvino"}) if prove else frozenset()),
    )
    height, width = size or (None, None)

    def write(path: Path) -> None:
        export_graph(
            checkpoint, path, height=height, width=width, dynamic=size is None, pixels=pixels, opset=opset,
            prove=prove, check=check, progress=progress,
        )  # fmt: skip

    return store.make(recipe, f"{checkpoint.name}-{where}-{pixels}.onnx", write)
