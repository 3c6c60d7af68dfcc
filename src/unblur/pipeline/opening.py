"""From the name of an engine to an open runner; what it needs is made once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from unblur.compare.candidates import Candidate, Reference
from unblur.compare.measure.frames import FrameFile
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress, printable
from unblur.core.errors import InputError
from unblur.core.overlap import ahead
from unblur.engines.catalogue import demand_device, find_engine, is_calibrated, open_engine
from unblur.engines.engine import HANG_SECONDS
from unblur.engines.named import NamedEngine, name_engine
from unblur.engines.per_size import PerSizeRunner
from unblur.engines.runner import Runner
from unblur.graphs.file import read_graph
from unblur.graphs.rewrites.forms import find_form
from unblur.images.contract import PixelContract
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.compared_graphs import graphs_of_file, graphs_of_stored
from unblur.pipeline.held_out import calibration_frames_like
from unblur.pipeline.job import BUNDLED, Calibration, CalibrationSet
from unblur.pipeline.making.eight_bits import stored_quantised
from unblur.pipeline.making.engine import stored_engine
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.ranges import stored_manifest
from unblur.pipeline.store import Artefact, Store

GRAPH_REFERENCE = "onnxruntime"
"""Runs a graph that engines are held against: as it is written, on any machine."""


def open_runner(
    name: str,
    checkpoint: Checkpoint,
    store: Store,
    sizes: Callable[[], Mapping[Size, int]],
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
    calibration: Calibration = BUNDLED,
    device: str = "",
) -> Runner:
    """Open an engine of the catalogue: with the store's dynamic graph if it runs one, or compiled for `sizes`.

    `sizes` tells the padded sizes of the frames to come and how many of each; it is asked only where they matter. An
    engine that needs a graph of one size gets one for each as it comes. Raises as `open_engine`, `engine_graph` and
    `stored_engine`.
    """
    engine = find_engine(name)
    gpu = demand_device(engine, device)
    file = None
    if engine.fixed:

        def open_size(size: Size) -> Runner:
            graph = engine_graph(name, store, checkpoint, size, calibration, threads, progress)
            return open_engine(name, checkpoint, graph.path, threads, device=device)

        return PerSizeRunner(open_size, checkpoint.contract, next(iter(sizes())))
    if engine.runs == "graph":
        artefact = engine_graph(name, store, checkpoint, None, calibration, threads, progress)
        file = artefact.path
        progress.note(f"graph: {'made once to' if artefact.fresh else 'found'} {file}")
    elif engine.runs == "engine":
        file = stored_engine(name, store, checkpoint, sizes(), progress, calibration, gpu)
        progress.note(f"engine: {file}")
    return open_engine(name, checkpoint, file, threads, device=device)


def refuse_calibration_frames(
    store: Store, engines: Sequence[str], calibration: Calibration, frames: Iterable[FrameFile],
    progress: Progress = SILENT,
) -> None:  # fmt: skip
    """Raise InputError where an engine that is calibrated here would be judged on a frame of its manifest.

    By the pixels' fingerprints. A manifest that tells of overlaps was collected with them on purpose, and every report
    says so; then nothing is refused. A frame that cannot be read is the comparison's to tell.
    """
    if not any(is_calibrated(name) for name in engines):
        return
    manifest = stored_manifest(store, calibration.path, progress)
    if manifest.overlaps:
        return

    def like(file: FrameFile) -> tuple[FrameFile, Sequence[str]]:
        try:
            return file, calibration_frames_like(manifest, file.read()[0])
        except InputError:
            return file, ()

    with ahead(frames, like, workers=2) as looked_at:
        file, same = next((one for one in looked_at if one[1]), (None, ()))
        if file is not None:
            raise InputError(
                f"{file.name} is the calibration frame {same[0]} of {manifest.path}: what is measured there would "
                "flatter the engine. Leave it out, or collect the manifest with --not-in and --allow-overlap, and "
                "every report will tell."
            )


def engine_graph(
    name: str, store: Store, checkpoint: Checkpoint, size: Size | None, calibration: Calibration = BUNDLED,
    threads: int | None = None, progress: Progress = SILENT,
) -> Artefact:  # fmt: skip
    """The graph of a (height, width), or (None) of every size, for an engine that runs graphs.

    Raises as `stored_graph`, `stored_manifest` and `stored_quantised`.
    """
    form = find_engine(name).form
    if not form:
        return stored_graph(store, checkpoint, size, progress=progress)
    manifest = stored_manifest(store, calibration.path, progress)
    of = CalibrationSet(checkpoint, manifest, threads=threads or 0, keep=calibration.keep)
    return stored_quantised(
        store, store.root, of, size, find_form(form), calibration.algorithm, calibration.repairs, progress
    )


def make_candidate(
    name: str, store: Store, checkpoint: Checkpoint, threads: int | None, progress: Progress = SILENT,
    calibration: Calibration = BUNDLED, output: str | None = None, *, dynamic: bool = False, device: str = "",
    contract: PixelContract | None = None, hang_s: float | None = None,
) -> Candidate:  # fmt: skip
    """ "openvino" runs the graph exported for the size at hand, or (`dynamic`) the one of every size, which
    `open_runner` takes: another graph, with arithmetic of its own. "openvino:FILE.onnx" runs that very file, and
    "FILE.onnx" too, with the engine that is right for it. "openvino-int8" as "openvino", and its graph is calibrated as
    `calibration` says.

    `output`: of a file's several outputs the restored frame. `contract`: the pixels of a file that does not say them.
    `device`: for engines on a GPU, which one. `hang_s`: as `open_engine`.

    "tensorrt-rtx-fp16" likewise: compiled for the size at hand, or "tensorrt-rtx-fp16:FILE.engine", or "FILE.engine".
    Raises InputError for an unknown engine, one that runs the checkpoint itself with a file, and a file that does not
    exist or does not say of which checkpoint it is. What opening raises comes when the candidate is opened.
    """
    named = name_engine(name, output, contract, device=device)
    engine, file = named.engine, named.file
    # Of engines beside each other only those on a GPU have a choice.
    device = device if engine.device == "cuda" else ""
    gpu = demand_device(engine, device)
    if file is not None:
        if named.told is not None and named.told.checkpoint is None:
            raise InputError(
                f"{name}: {file} does not say of which checkpoint it is, and beside {checkpoint.path.name} a graph of "
                "another network would look like a bad engine. Write it again with `unblur export --checkpoint "
                f"{checkpoint.path.name}`, or name the float32 graph that it shall be held against: --reference "
                "FILE.onnx."
            )

        def float_graph(size: Size | None) -> Path:
            return stored_graph(store, checkpoint, size, progress=progress).path

        graphs = graphs_of_file(named, float_graph, output, contract)
        return Candidate(
            named.label,
            lambda _: _open_named(named, checkpoint, threads, output, device, contract, hang_s),
            graphs=graphs,
        )

    def fitting(size: Size | None) -> Size | None:
        return None if dynamic and engine.runs == "graph" and not engine.fixed else size

    def made(size: Size | None) -> Path | None:
        if engine.runs == "graph":
            return engine_graph(name, store, checkpoint, size, calibration, threads, progress).path
        if engine.runs == "engine":
            if size is None:
                raise _several_sizes(name)
            return stored_engine(name, store, checkpoint, {size: 1}, progress, calibration, gpu)
        return None

    def open_stored(size: Size | None) -> Runner:
        if size is None and engine.fixed:
            raise _several_sizes(name)
        return open_engine(name, checkpoint, made(fitting(size)), threads, device=device, hang_s=hang_s)

    of_size = graphs_of_stored(engine, store, checkpoint, made, progress)
    graphs = of_size and (lambda size: of_size(fitting(size)))
    return Candidate(name, open_stored, graphs=graphs, refits=engine.runs == "graph")


def _several_sizes(name: str) -> InputError:
    return InputError(
        f"{name} is compiled for one size here, and these frames are of several: compare frames of one size, or build "
        f"an engine for all with --shapes and name it, {name}:FILE."
    )


def _open_named(
    named: NamedEngine, checkpoint: Checkpoint | None, threads: int | None, output: str | None, device: str,
    contract: PixelContract | None, hang_s: float | None = None,
) -> Runner:  # fmt: skip
    name, file = named.engine.name, named.file
    return open_engine(name, checkpoint, file, threads, output, device=device, contract=contract, hang_s=hang_s)


def open_file(
    text: str, checkpoint: Checkpoint | None = None, threads: int | None = None, output: str | None = None,
    contract: PixelContract | None = None, device: str = "",
) -> Runner:  # fmt: skip
    """A graph or engine file, alone or as NAME:FILE, without a checkpoint or held to one.

    Raises as `name_engine` and `open_engine`.
    """
    named = name_engine(text, output, contract, device=device)
    return _open_named(named, checkpoint, threads, output, device, contract)


def graph_reference(
    path: Path, threads: int | None = None, output: str | None = None, contract: PixelContract | None = None
) -> Reference:
    """A float32 graph, run by ONNX Runtime, in the place of a checkpoint. Raises InputError for a file that is no
    graph with a pixel contract, and for one in another precision.
    """
    graph = read_graph(path, output, contract)
    if graph.precision != "f32" or graph.quantised:
        raise InputError(f"--reference {path} is {graph.precision}; name the float32 graph that it was made from.")
    label = printable(f"{GRAPH_REFERENCE}:{path.name}")

    def open_it(hang_s: float | None = None) -> Runner:
        return open_engine(GRAPH_REFERENCE, None, path, threads, output, contract=contract, hang_s=hang_s)

    return Reference(
        engine=Candidate(label, lambda _: open_it()),
        text="the float32 graph that was named",
        network=printable(path.stem),
        source=printable(path.name),
        digest=graph.digest,
        contract=graph.signature.contract,
        apart=lambda: open_it(HANG_SECONDS),
    )


def make_file_candidate(
    name: str, reference: Path, threads: int | None, output: str | None = None, *, device: str = "",
    contract: PixelContract | None = None, hang_s: float | None = None,
) -> Candidate:  # fmt: skip
    """ "onnxruntime:FILE.onnx", "FILE.onnx" or "FILE.engine" beside a reference that is a graph; "openvino" runs that
    very graph.

    Raises InputError for an engine that would need the checkpoint, a file that does not exist, and one that says it is
    of another checkpoint than the reference says.
    """
    named = name_engine(name, output, contract, device=device)
    if named.file is None:
        if named.engine.runs != "graph" or named.engine.form:
            raise InputError(
                f"{name} needs the checkpoint, and --reference is a graph; write {name}:FILE or leave it out."
            )
        named = NamedEngine(named.engine, reference, read_graph(reference, output, contract))
    assert named.told is not None
    told, own = named.told.checkpoint, read_graph(reference, output, contract).checkpoint
    if None not in (told, own) and told != own:
        raise InputError(
            f"{name}: {named.file} is of another checkpoint than the reference {reference}; name its own float32 graph."
        )
    device = device if named.engine.device == "cuda" else ""
    graphs = graphs_of_file(named, lambda _: reference, output, contract)
    return Candidate(
        named.label, lambda _: _open_named(named, None, threads, output, device, contract, hang_s), graphs=graphs
    )
