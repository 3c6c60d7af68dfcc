"""`unblur.open_engine`: from a name or a file to an open runner, in Python."""

from __future__ import annotations

from pathlib import Path

from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.engines.catalogue import choose_engine, find_engine
from unblur.engines.named import is_file_engine
from unblur.engines.runner import Runner
from unblur.images.contract import PixelContract, parse_contract
from unblur.networks.checkpoints import Checkpoint, load_checkpoint
from unblur.pipeline.job import BUNDLED, Calibration
from unblur.pipeline.opening import make_candidate, open_file
from unblur.pipeline.places import artefact_folder, bundled_checkpoint
from unblur.pipeline.store import Store


def open_engine(
    engine: str | Path = "auto",
    checkpoint: Checkpoint | str | Path | None = None,
    *,
    precision: str | None = None,
    size: Size | None = None,
    threads: int | None = None,
    device: str = "",
    contract: PixelContract | str | None = None,
    output: str | None = None,
    calibration: Calibration = BUNDLED,
    progress: Progress = SILENT,
) -> Runner:
    """Open an engine: a file (a graph, FILE.onnx, or a compiled engine, FILE.engine), or a name as `--engine` takes it.

    A file says itself which pixels it takes and of which weights it is; `checkpoint` is then held against it, and
    `contract` ("rgb01", or a PixelContract) is for a graph that unblur did not export. Otherwise the engine is made
    from `checkpoint`, the bundled network if left out, for one padded (height, width) or, where it can, for every size;
    graphs and engines are kept in the project's store. `device`: "cuda:1" for the second GPU. `output`: the restored
    frame among a graph's several outputs.

    The runner takes and gives tensors as its `signature` says; `unblur.restore_frame(runner, frame)` takes and gives
    (height, width, 3) RGB uint8. Close it, or use it in a `with`. Raises InputError for what cannot be, and
    MissingRuntimeError where a package, a driver or a GPU is missing.
    """
    text = str(engine)
    if isinstance(contract, str):
        contract = parse_contract(contract)
    if isinstance(checkpoint, str | Path):
        checkpoint = load_checkpoint(checkpoint, progress=progress)
    if is_file_engine(text):
        return open_file(text, checkpoint, threads, output, contract, device)
    if contract is not None or output is not None:
        raise InputError(f"{text}: contract and output are of a graph's file; name the file.")
    name = choose_engine(text, precision, device)
    if size is None and find_engine(name).runs == "engine":
        raise InputError(f"{name} is compiled for the frames at hand; say size=(height, width), or name a file.")
    checkpoint = checkpoint or load_checkpoint(bundled_checkpoint(), progress=progress)
    padded = size and checkpoint.contract.padded_size(*size)
    store = Store(artefact_folder(), progress.note)
    return make_candidate(name, store, checkpoint, threads, progress, calibration, device=device).open(padded)
