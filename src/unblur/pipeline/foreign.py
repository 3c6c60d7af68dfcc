"""A graph that unblur did not export in the place of a checkpoint: calibrated, searched and built as one of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from unblur.core.errors import InputError
from unblur.engines.rehearsal import rehearse
from unblur.graphs.file import open_graph, read_graph
from unblur.graphs.metadata import CHECKPOINT_KEY
from unblur.graphs.onnx_file import infer
from unblur.graphs.sizes import fold_sizes
from unblur.images.contract import PixelContract, Pixels
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.store import Artefact, Recipe, Store

Size = tuple[int, int]


@dataclass(frozen=True)
class ForeignGraph:
    """A float32 graph file that stands for itself: `digest` is the file's, `contract` what it says or what was said.

    `size`: (height, width), None where it takes every one.
    """

    path: Path
    digest: str
    name: str
    contract: PixelContract
    size: Size | None
    output: str

    def stored(self, store: Store, size: Size | None, pixels: Pixels = "float") -> Artefact:
        """The graph at one (height, width), or (None) of every size: a copy that says its pixels, whose nodes all have
        names and which counts as of a checkpoint of its own digest.

        Raises InputError for a size that it does not take, and for other pixels than its own.
        """
        if pixels != "float":
            raise InputError(f"{self.path} takes {self.contract.name}, which cannot be chosen: leave out --pixels.")
        if self.size is not None and size != self.size:
            asked = "every size" if size is None else f"{size[0]}x{size[1]}"
            own = f"{self.size[0]}x{self.size[1]}"
            raise InputError(
                f"{self.path} takes frames of {own}, and a graph for {asked} is asked for; name its size (--size "
                f"{own}) and calibrate on frames of it (`unblur collect SOURCE --crop {own} --output frames.toml`, "
                "--manifest frames.toml), or export it with open height and width."
            )
        where = "dynamic" if size is None else f"{size[0]}x{size[1]}"
        recipe = Recipe(
            "onnx", {"contract": self.contract.to_json(), "output": self.output, "size": where}, {"graph": self.digest}
        )

        def write(path: Path) -> None:
            _, model = open_graph(self.path, self.output, self.contract)
            if size is not None:
                _fix(model, size, self.contract)
                fold_sizes(model)
            onnx.helper.set_model_props(
                model, {e.key: e.value for e in model.metadata_props} | {CHECKPOINT_KEY: self.digest}
            )
            onnx.save(infer(model), path)

        return store.make(recipe, f"{self.name}-{where}.onnx", write)


Origin = Checkpoint | ForeignGraph
"""What graphs are made from."""


def open_foreign(
    path: Path, contract: PixelContract | None = None, output: str | None = None, threads: int = 1
) -> ForeignGraph:
    """Read a float32 graph file, and run it once in a process of its own (`rehearse`): it is not known what it does.

    Raises InputError as `read_graph`, for a graph in another precision, and as `rehearse`.
    """
    graph = read_graph(path, output, contract)
    if graph.precision != "f32" or graph.quantised:
        raise InputError(f"{path} is {graph.precision}; name the float32 graph that it was made from.")
    rehearse("onnxruntime", graph, threads)
    height, width = graph.signature.height, graph.signature.width
    if (height is None) != (width is None):
        raise InputError(f"{path} fixes only one of height and width; export it with both open, or both fixed.")
    size = None if height is None or width is None else (height, width)
    return ForeignGraph(path, graph.digest, path.stem, graph.signature.contract, size, graph.output)


def demand_checkpoint(origin: Origin, what: str) -> Checkpoint:
    """The checkpoint. Raises InputError for a graph, naming `what` needs one."""
    if isinstance(origin, ForeignGraph):
        raise InputError(f"{what} needs the checkpoint, and {origin.path} is a graph; name it with --checkpoint.")
    return origin


def _fix(model: onnx.ModelProto, size: Size, contract: PixelContract) -> None:
    """One size instead of every one: input and output say it, and what was said in between is inferred again."""
    rows = 2 if contract.layout == "nchw" else 1
    del model.graph.value_info[:]
    for value in (model.graph.input[0], model.graph.output[0]):
        for axis, side in zip((rows, rows + 1), size, strict=True):
            value.type.tensor_type.shape.dim[axis].dim_value = side
