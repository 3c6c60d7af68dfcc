"""What a person writes for an engine: a name of the catalogue, a file, or NAME:FILE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unblur.core.console import printable
from unblur.core.errors import InputError, nearest
from unblur.engines.catalogue import CATALOGUE, choose_engine, find_engine, pick_engine
from unblur.engines.engine import Engine

if TYPE_CHECKING:
    from unblur.engines.tensorrt.file import EngineFile
    from unblur.graphs.file import GraphFile
    from unblur.images.contract import PixelContract

GRAPH, ENGINE = ".onnx", ".engine"
"""Suffixes of files that are engines by themselves."""


@dataclass(frozen=True)
class NamedEngine:
    """An engine of the catalogue, and the file that was named for it, which `told` says everything of; None for what
    is made from the checkpoint.
    """

    engine: Engine
    file: Path | None = None
    told: GraphFile | EngineFile | None = None

    @property
    def label(self) -> str:
        """For reports: the engine's name, and the file's behind it."""
        return printable(f"{self.engine.name}:{self.file.name}") if self.file else self.engine.name


def is_file_engine(text: str) -> bool:
    """Whether a text names a file, with an engine before it or alone. Reads nothing."""
    before, colon, _ = text.partition(":")
    return text not in CATALOGUE and ((bool(colon) and before in CATALOGUE) or Path(text).suffix in (GRAPH, ENGINE))


def name_engine(
    text: str, output: str | None = None, contract: PixelContract | None = None, *, device: str = ""
) -> NamedEngine:
    """Look up what a text names, and read the file that it names.

    A file alone is run by the engine that is right for it (`engine_for`). `output`: of a graph's several outputs the
    restored frame; `contract`: the pixels of a graph that does not say itself. Raises InputError for an unknown engine,
    one that runs no files, and a file that is missing, foreign or damaged.
    """
    if not is_file_engine(text):
        return NamedEngine(_known(text))
    before, colon, after = text.partition(":")
    if not (colon and before in CATALOGUE):
        path = Path(text)
        told = _read(path, "engine" if path.suffix == ENGINE else "graph", text, output, contract)
        return NamedEngine(engine_for(told, device), path, told)
    engine = find_engine(before)
    if engine.runs == "checkpoint":
        raise InputError(f"{text}: {before} runs the checkpoint itself; leave out ':{after}'.")
    path = Path(after)
    return NamedEngine(engine, path, _read(path, engine.runs, text, output, contract))


def engine_for(told: GraphFile | EngineFile, device: str = "") -> Engine:
    """The engine that runs a file: an engine file's own product, and for a graph what AUTO would take.

    8 bits go to the backend whose form they are written in, and everything that is not plain float32 to ONNX Runtime,
    which runs a graph as it is written.
    """
    from unblur.graphs.file import GraphFile

    if not isinstance(told, GraphFile):
        return pick_engine(told.product, told.precision)
    if device.startswith("cuda"):
        return find_engine("onnxruntime-cuda")
    if told.quantised:
        return next((engine for engine in CATALOGUE.values() if engine.form == told.form != ""), _as_written())
    if told.precision != "f32":
        return _as_written()
    return find_engine(choose_engine("auto", "fp32", "cpu", runs="graph"))


def _as_written() -> Engine:
    return find_engine("onnxruntime")


def _known(text: str) -> Engine:
    if text not in CATALOGUE:
        before, colon, _ = text.partition(":")
        name = before if colon else text
        raise InputError(
            f"Unknown engine {name!r}{nearest(name, CATALOGUE)}; known: {', '.join(CATALOGUE)}, or a file of a graph "
            f"({GRAPH}) or an engine ({ENGINE})."
        )
    return CATALOGUE[text]


def _read(
    path: Path, runs: str, text: str, output: str | None, contract: PixelContract | None
) -> GraphFile | EngineFile:
    if not path.is_file():
        kind = "an exported graph" if runs == "graph" else "an engine file"
        raise InputError(f"{text}: there is no file {path}; name {kind}.")
    if runs == "graph":
        from unblur.graphs.file import read_graph

        return read_graph(path, output, contract)
    from unblur.engines.tensorrt.file import read_engine

    return read_engine(path)
