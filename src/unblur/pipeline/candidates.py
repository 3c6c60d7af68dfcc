"""Engines to compare, from their names: each brings the stored graph of the size at hand, or a graph file."""

from __future__ import annotations

from pathlib import Path

from unblur.compare.comparison import Candidate
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.engines.catalogue import find_engine, open_engine
from unblur.engines.runner import Runner
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.graphs import Size, stored_graph
from unblur.pipeline.store import Store


def make_candidate(
    name: str, store: Store, checkpoint: Checkpoint, threads: int | None, progress: Progress = SILENT
) -> Candidate:
    """ "openvino" runs the graph exported for the size at hand, "openvino:FILE.onnx" that very file at every size.

    Raises InputError for an unknown engine, a torch engine with a file, and a file that does not exist. What opening
    raises comes when the candidate is opened.
    """
    backend, colon, file = name.partition(":")
    engine = find_engine(backend)
    if not colon:

        def open_stored(size: Size | None) -> Runner:
            graph = stored_graph(store, checkpoint, size, progress=progress).path if engine.needs_graph else None
            return open_engine(backend, checkpoint, graph, threads)

        return Candidate(name, open_stored)
    if not engine.needs_graph:
        raise InputError(f"{name}: {backend} runs the checkpoint, not a graph; leave out ':{file}'.")
    if not Path(file).is_file():
        raise InputError(f"{name}: there is no file {file}; name an exported graph.")
    return Candidate(f"{backend}:{Path(file).name}", lambda _: open_engine(backend, checkpoint, Path(file), threads))
