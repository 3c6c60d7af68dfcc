"""What is asked of the pipeline, resolved: one job of all its stages, sources, and how 8 bits are calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unblur.calibration.algorithms import DEFAULT_ALGORITHM
from unblur.calibration.manifest import Manifest
from unblur.calibration.repairs.names import DEFAULT as REPAIRS_BY_DEFAULT
from unblur.calibration.repairs.names import check_repairs
from unblur.core.artefacts import file_digest
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.core.reading import read_regular
from unblur.graphs.rewrites.keeping import DEFAULT
from unblur.images.contract import Pixels
from unblur.networks.checkpoints import Checkpoint, load_checkpoint
from unblur.pipeline.config import PipelineConfig
from unblur.pipeline.foreign import Origin, demand_checkpoint, open_foreign
from unblur.pipeline.places import bundled_manifest
from unblur.pipeline.store import Store

__all__ = ["BUNDLED", "OPSET", "Calibration", "CalibrationSet", "Job", "Size", "Source"]

OPSET = 20


@dataclass(frozen=True)
class CalibrationSet:
    """What is calibrated, and on which frames.

    pixels, opset: of the graph that shall be quantised. Ranges are measured at the size of the manifest's frames and
    serve every size: fixed graphs of one checkpoint differ in no map's name between sizes. keep: words of `kept`.
    """

    checkpoint: Origin
    manifest: Manifest
    pixels: Pixels = "float"
    opset: int = OPSET
    threads: int = 0
    keep: tuple[str, ...] = (DEFAULT,)


@dataclass(frozen=True)
class Calibration:
    """How engines in 8 bits are calibrated. `manifest`: None for the bundled one; `keep`: words of `kept`."""

    manifest: Path | None = None
    algorithm: str = DEFAULT_ALGORITHM
    repairs: tuple[str, ...] = (REPAIRS_BY_DEFAULT,)
    keep: tuple[str, ...] = (DEFAULT,)

    @property
    def path(self) -> Path:
        """Of the manifest. Raises InputError where none was given and none is bundled."""
        return self.manifest or bundled_manifest()

    def to_json(self) -> dict[str, Any]:
        """All that it depends on: a manifest pins its frames. Raises InputError for one that cannot be read."""
        path = self.path
        if not path.is_file():
            raise InputError(f"The manifest {path} does not exist; write one with `unblur collect`.")
        how = {"algorithm": self.algorithm, "repairs": check_repairs(self.repairs), "keep": self.keep}
        return {"manifest": file_digest(path), **how}


BUNDLED = Calibration()


def read_keep(words: Sequence[str]) -> tuple[str, ...]:
    """Words of `kept`, with the lines of the files among them in their place ("#" begins a remark).

    Keys and provenance get what the files say, not where they lie. Raises InputError for a file that is no text, or has
    no name in it.
    """
    found: list[str] = []
    for word in words:
        path = Path(word)
        if not path.is_file():
            found.append(word)
            continue
        try:
            lines = read_regular(path).decode().splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is no text ({error}); --keep takes a file with a name on each line.") from error
        names = [name for line in lines if (name := line.partition("#")[0].strip())]
        if not names:
            raise InputError(f"{path} has no name in it; --keep none keeps nothing.")
        found += names
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Source:
    """What an engine is made from: a checkpoint or a foreign graph, and its graph of (height, width), or (None) of
    every size that it takes.
    """

    checkpoint: Origin
    size: Size | None
    pixels: Pixels = "float"
    opset: int = OPSET


@dataclass(frozen=True)
class Job:
    """What every stage works on: the resolved configuration, the store, who is told how far it is, the checkpoint."""

    config: PipelineConfig
    store: Store
    progress: Progress = SILENT

    @classmethod
    def of(cls, config: PipelineConfig, progress: Progress = SILENT) -> Job:
        """With the store that the configuration names."""
        return cls(config, Store(config.paths.artifacts, progress.note), progress)

    @cached_property
    def origin(self) -> Origin:
        """The checkpoint, or a foreign graph: loaded when it is first asked for, and once.

        Raises InputError as `load_checkpoint` and `open_foreign`.
        """
        network = self.config.network
        if network.is_graph:
            return open_foreign(network.checkpoint, network.pixel_contract, network.output_name or None)
        return load_checkpoint(network.checkpoint, network.channel_order, self.progress)

    @property
    def checkpoint(self) -> Checkpoint:
        """The origin, which must be a checkpoint. Raises InputError as `origin`, and for a graph."""
        return demand_checkpoint(self.origin, "This stage")

    @property
    def threads(self) -> int | None:
        """Of each engine; None for the physical cores."""
        return self.config.compare.threads or None

    @property
    def calibration(self) -> Calibration:
        """As engines take it."""
        section = self.config.calibration
        return Calibration(section.manifest, section.algorithm, section.repairs, read_keep(section.keep))

    @property
    def sizes(self) -> tuple[Size | None, ...]:
        """Of the graphs: (height, width) each, or None for the one of every size."""
        return (None,) if self.config.graph.dynamic else self.config.graph.sizes

    def source(self, size: Size | None) -> Source:
        """What the engine of a graph is made from."""
        return Source(self.origin, size, self.config.graph.pixels, self.config.graph.opset)
