"""A runner for a checkpoint and the name of an engine; the graph it may need is exported once and kept."""

from __future__ import annotations

from unblur.core.console import SILENT, Progress
from unblur.engines.catalogue import find_engine, open_engine
from unblur.engines.runner import Runner
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.graphs import stored_graph
from unblur.pipeline.store import Store


def open_runner(
    name: str, checkpoint: Checkpoint, store: Store, *, threads: int | None = None, progress: Progress = SILENT
) -> Runner:
    """Open an engine of the catalogue for frames of every size, with the store's dynamic graph if it needs one.

    Raises as `open_engine` and `stored_graph`.
    """
    graph = None
    if find_engine(name).needs_graph:
        artefact = stored_graph(store, checkpoint, size=None, progress=progress)
        graph = artefact.path
        progress.note(f"graph: {'exported once to' if artefact.fresh else 'found'} {graph}")
    return open_engine(name, checkpoint, graph, threads)
