"""Exported graphs out of the store: one per checkpoint, size, pixels and opset."""

from __future__ import annotations

from pathlib import Path

from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.export.graph import export_graph
from unblur.images.contract import Pixels
from unblur.pipeline.foreign import ForeignGraph, Origin
from unblur.pipeline.job import OPSET
from unblur.pipeline.store import Artefact, Recipe, Store


def stored_graph(
    store: Store,
    origin: Origin,
    size: Size | None,
    pixels: Pixels = "float",
    opset: int = OPSET,
    prove: bool = False,
    progress: Progress = SILENT,
    *,
    check: bool = True,
) -> Artefact:
    """The proven graph for (height, width), or (None) for every size; of a foreign graph itself.
    `check` False leaves the proof out.

    Raises as `export_graph` and `ForeignGraph.stored`.
    """
    if isinstance(origin, ForeignGraph):
        return origin.stored(store, size, pixels)
    checkpoint = origin
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
