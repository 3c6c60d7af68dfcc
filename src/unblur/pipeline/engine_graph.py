"""The graph that an engine of the catalogue runs: as exported, or calibrated and quantised in the engine's form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unblur.calibration.forms import find_form
from unblur.core.artefacts import file_digest
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.engines.catalogue import find_engine
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.calibrate import DEFAULT_ALGORITHM, CalibrationSet, stored_manifest
from unblur.pipeline.graphs import Size, stored_graph
from unblur.pipeline.places import bundled_manifest
from unblur.pipeline.quantised import EQUALISATION, check_repairs, stored_quantised
from unblur.pipeline.store import Artefact, Store


@dataclass(frozen=True)
class Calibration:
    """How engines in 8 bits are calibrated. `manifest`: None for the bundled one."""

    manifest: Path | None = None
    algorithm: str = DEFAULT_ALGORITHM
    repairs: tuple[str, ...] = (EQUALISATION,)

    @property
    def path(self) -> Path:
        """Of the manifest. Raises InputError where none was given and none is bundled."""
        return self.manifest or bundled_manifest()

    def to_json(self) -> dict[str, Any]:
        """All that it depends on: a manifest pins its frames. Raises InputError for one that cannot be read."""
        path = self.path
        if not path.is_file():
            raise InputError(f"The manifest {path} does not exist; write one with `unblur collect`.")
        return {"manifest": file_digest(path), "algorithm": self.algorithm, "repairs": check_repairs(self.repairs)}


BUNDLED = Calibration()


def is_calibrated(engine: str) -> bool:
    """Whether the engine of this name, or of NAME:FILE, runs a graph that is calibrated here."""
    name, colon, _ = engine.partition(":")
    return bool(find_engine(name).form) and not colon


def engine_graph(
    name: str, store: Store, checkpoint: Checkpoint, size: Size | None, calibration: Calibration = BUNDLED,
    threads: int | None = None, progress: Progress = SILENT,
) -> Artefact:  # fmt: skip
    """The graph of a (height, width), or (None) of every even size, for an engine that runs graphs.

    Raises as `stored_graph`, `stored_manifest` and `stored_quantised`.
    """
    form = find_engine(name).form
    if not form:
        return stored_graph(store, checkpoint, size, progress=progress)
    manifest = stored_manifest(store, calibration.path, progress)
    of = CalibrationSet(checkpoint, manifest, threads=threads or 0)
    return stored_quantised(
        store, store.root, of, size, find_form(form), calibration.algorithm, calibration.repairs, progress
    )
