"""Engines to compare, from their names: each brings the stored file of the size at hand, or one that is named."""

from __future__ import annotations

from pathlib import Path

from unblur.compare.comparison import Candidate, Reference
from unblur.core.console import SILENT, Progress, printable
from unblur.core.errors import InputError
from unblur.engines.catalogue import find_engine, open_engine
from unblur.engines.engine_file import EngineFile, read_engine
from unblur.engines.graph_file import GraphFile, read_graph
from unblur.engines.runner import Runner
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.engine_graph import BUNDLED, Calibration, engine_graph
from unblur.pipeline.graphs import Size
from unblur.pipeline.store import Store
from unblur.pipeline.stored_engines import stored_engine


def make_candidate(
    name: str, store: Store, checkpoint: Checkpoint, threads: int | None, progress: Progress = SILENT,
    calibration: Calibration = BUNDLED, output: str | None = None,
) -> Candidate:  # fmt: skip
    """ "openvino" runs the graph exported for the size at hand, "openvino:FILE.onnx" that very file at every size;
    "openvino-int8" likewise, and its graph is calibrated as `calibration` says.

    `output`: of a file's several outputs the restored frame.

    "tensorrt-rtx-fp16" likewise: compiled for the size at hand, or "tensorrt-rtx-fp16:FILE.engine". Raises InputError
    for an unknown engine, one that runs the checkpoint itself with a file, and a file that does not exist or does not
    say of which checkpoint it is. What opening raises comes when the candidate is opened.
    """
    backend, colon, file = name.partition(":")
    engine = find_engine(backend)
    if not colon:

        def open_stored(size: Size | None) -> Runner:
            made: Path | None = None
            if engine.runs == "graph":
                made = engine_graph(name, store, checkpoint, size, calibration, threads, progress).path
            elif engine.runs == "engine":
                if size is None:
                    raise InputError(
                        f"{name} is compiled for one size here, and these frames are of several: compare frames of "
                        f"one size, or build an engine for all with --shapes and name it, {name}:FILE."
                    )
                made = stored_engine(backend, store, checkpoint, {size: 1}, progress, calibration)
            return open_engine(backend, checkpoint, made, threads)

        return Candidate(name, open_stored)
    if _file_of(name, output).checkpoint is None:
        raise InputError(
            f"{name}: {file} does not say of which checkpoint it is, and beside {checkpoint.path.name} a graph of "
            "another network would look like a bad engine. Write it again with `unblur export --checkpoint "
            f"{checkpoint.path.name}`, or name the float32 graph that it shall be held against: --reference FILE.onnx."
        )
    label = printable(f"{backend}:{Path(file).name}")
    return Candidate(label, lambda _: open_engine(backend, checkpoint, Path(file), threads, output))


def graph_reference(path: Path, threads: int | None = None, output: str | None = None) -> Reference:
    """A float32 graph, run by ONNX Runtime, in the place of a checkpoint. Raises InputError for a file that is no
    graph with a pixel contract, and for one in another precision.
    """
    graph = read_graph(path, output)
    if graph.precision != "f32" or graph.quantised:
        raise InputError(f"--reference {path} is {graph.precision}; name the float32 graph that it was made from.")
    label = printable(f"onnxruntime:{path.name}")
    return Reference(
        engine=Candidate(label, lambda _: open_engine("onnxruntime", None, path, threads, output)),
        text="the float32 graph that was named",
        network=printable(path.stem),
        source=printable(path.name),
        digest=graph.digest,
        contract=graph.signature.contract,
    )


def make_file_candidate(name: str, reference: Path, threads: int | None, output: str | None = None) -> Candidate:
    """ "onnxruntime:FILE.onnx" or "tensorrt-rtx-fp16:FILE.engine" beside a reference that is a graph; "openvino" runs
    that very graph.

    Raises InputError for an engine that would need the checkpoint, a file that does not exist, and one that says it is
    of another checkpoint than the reference says.
    """
    backend, colon, file = name.partition(":")
    engine = find_engine(backend)
    if not colon and (engine.runs != "graph" or engine.form):
        raise InputError(f"{name} needs the checkpoint, and --reference is a graph; write {name}:FILE or leave it out.")
    path = Path(file) if colon else reference
    told, own = _file_of(f"{backend}:{path}", output).checkpoint, read_graph(reference, output).checkpoint
    if None not in (told, own) and told != own:
        raise InputError(
            f"{name}: {path} is of another checkpoint than the reference {reference}; name its own float32 graph."
        )
    return Candidate(printable(f"{backend}:{path.name}"), lambda _: open_engine(backend, None, path, threads, output))


def _file_of(name: str, output: str | None) -> GraphFile | EngineFile:
    backend, _, file = name.partition(":")
    engine = find_engine(backend)
    if engine.runs == "checkpoint":
        raise InputError(f"{name}: {backend} runs the checkpoint itself; leave out ':{file}'.")
    if not Path(file).is_file():
        kind = "an exported graph" if engine.runs == "graph" else "an engine file"
        raise InputError(f"{name}: there is no file {file}; name {kind}.")
    return read_graph(Path(file), output) if engine.runs == "graph" else read_engine(Path(file))
