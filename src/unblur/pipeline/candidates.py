"""Engines to compare, from their names: each brings the stored file of the size at hand, or one that is named."""

from __future__ import annotations

from pathlib import Path

from unblur.compare.comparison import Candidate
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.engines.catalogue import find_engine, open_engine
from unblur.engines.runner import Runner
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.engine_graph import BUNDLED, Calibration, engine_graph
from unblur.pipeline.graphs import Size
from unblur.pipeline.store import Store
from unblur.pipeline.stored_engines import stored_engine


def make_candidate(
    name: str, store: Store, checkpoint: Checkpoint, threads: int | None, progress: Progress = SILENT,
    calibration: Calibration = BUNDLED, *, dynamic: bool = False,
) -> Candidate:  # fmt: skip
    """ "openvino" runs the graph exported for the size at hand, or (`dynamic`) the one of every size, which
    `open_runner` takes: another graph, with arithmetic of its own. "openvino:FILE.onnx" runs that very file.
    "openvino-int8" as "openvino", and its graph is calibrated as `calibration` says.

    "tensorrt-rtx-fp16" likewise: compiled for the size at hand, or "tensorrt-rtx-fp16:FILE.engine". Raises InputError
    for an unknown engine, one that runs the checkpoint itself with a file, and a file that does not exist. What
    opening raises comes when the candidate is opened.
    """
    backend, colon, file = name.partition(":")
    engine = find_engine(backend)
    if not colon:

        def open_stored(size: Size | None) -> Runner:
            made: Path | None = None
            if engine.runs == "graph":
                at = None if dynamic else size
                made = engine_graph(name, store, checkpoint, at, calibration, threads, progress).path
            elif engine.runs == "engine":
                if size is None:
                    raise InputError(
                        f"{name} is compiled for one size here, and these frames are of several: compare frames of "
                        f"one size, or build an engine for all with --shapes and name it, {name}:FILE."
                    )
                made = stored_engine(backend, store, checkpoint, {size: 1}, progress, calibration)
            return open_engine(backend, checkpoint, made, threads)

        return Candidate(name, open_stored)
    if engine.runs == "checkpoint":
        raise InputError(f"{name}: {backend} runs the checkpoint itself; leave out ':{file}'.")
    if not Path(file).is_file():
        kind = "an exported graph" if engine.runs == "graph" else "an engine file"
        raise InputError(f"{name}: there is no file {file}; name {kind}.")
    return Candidate(f"{backend}:{Path(file).name}", lambda _: open_engine(backend, checkpoint, Path(file), threads))
