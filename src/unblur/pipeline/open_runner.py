"""A runner for a checkpoint and the name of an engine; the graph or engine file it needs is made once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from unblur.core.console import SILENT, Progress
from unblur.engines.catalogue import find_engine, open_engine
from unblur.engines.runner import Runner
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.engine_graph import BUNDLED, Calibration, engine_graph
from unblur.pipeline.graphs import Size
from unblur.pipeline.store import Store
from unblur.pipeline.stored_engines import stored_engine


def open_runner(
    name: str,
    checkpoint: Checkpoint,
    store: Store,
    sizes: Callable[[], Mapping[Size, int]],
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
    calibration: Calibration = BUNDLED,
) -> Runner:
    """Open an engine of the catalogue: with the store's dynamic graph if it runs one, or compiled for `sizes`.

    `sizes` tells the padded sizes of the frames to come and how many of each; it is asked only where they matter.
    Raises as `open_engine`, `engine_graph` and `stored_engine`.
    """
    runs = find_engine(name).runs
    file = None
    if runs == "graph":
        artefact = engine_graph(name, store, checkpoint, None, calibration, threads, progress)
        file = artefact.path
        progress.note(f"graph: {'made once to' if artefact.fresh else 'found'} {file}")
    elif runs == "engine":
        file = stored_engine(name, store, checkpoint, sizes(), progress, calibration)
        progress.note(f"engine: {file}")
    return open_engine(name, checkpoint, file, threads)
