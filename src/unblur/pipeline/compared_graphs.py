"""Which graphs an engine of a comparison runs, and which float32 graph they came from: for its waterfall."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unblur.compare.measure.waterfall import Graphs
from unblur.core.console import SILENT, Progress
from unblur.engines.engine import Engine
from unblur.engines.named import NamedEngine
from unblur.engines.tensorrt.manifest import companions
from unblur.graphs.file import GraphFile, read_graph
from unblur.graphs.rewrites.casting import Narrow
from unblur.images.contract import PixelContract
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.job import Size
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.store import Store


def graphs_of_stored(
    engine: Engine,
    store: Store,
    checkpoint: Checkpoint,
    made: Callable[[Size | None], Path | None],
    progress: Progress = SILENT,
) -> Callable[[Size | None], Graphs | None] | None:
    """Of an engine whose file the store makes (`made`, for a size or, None, for every one); None where it runs none.

    An engine file's graph lies beside it.
    """
    if engine.runs == "checkpoint":
        return None

    def graphs(size: Size | None) -> Graphs | None:
        file = made(size)
        if file is None:
            return None
        exact = stored_graph(store, checkpoint, size, progress=progress).path
        return Graphs(exact, companions(file)[0] if engine.runs == "engine" else file, _narrow(engine))

    return graphs


def graphs_of_file(
    named: NamedEngine,
    float_graph: Callable[[Size | None], Path],
    output: str | None = None,
    contract: PixelContract | None = None,
) -> Callable[[Size | None], Graphs | None] | None:
    """Of a file that was named: a graph, or an engine with its graph beside it. `float_graph`: of a size, asked for
    where the file's graph is not float32 itself."""
    if named.file is None:
        return None
    written = named.file if isinstance(named.told, GraphFile) else companions(named.file)[0]
    if not written.is_file():
        return None

    def graphs(_: Size | None) -> Graphs | None:
        told = read_graph(written, output, contract)
        height, width = told.signature.height, told.signature.width
        plain = told.precision == "f32" and not told.quantised
        size = None if height is None or width is None else (height, width)
        return Graphs(
            written if plain else float_graph(size), written, _narrow(named.engine) if plain else None, output, contract
        )

    return graphs


def _narrow(engine: Engine) -> Narrow | None:
    """What an engine computes a float32 graph in, where that is 16 bits."""
    return engine.precision if engine.precision in ("fp16", "bf16") else None
