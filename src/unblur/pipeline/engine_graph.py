"""The graph that an engine of the catalogue runs: as exported, or calibrated and quantised in the engine's form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unblur.calibration.forms import find_form
from unblur.compare.frames import FrameFile
from unblur.core.artefacts import file_digest
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.engines.catalogue import find_engine
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.bake_off import calibration_frames_like
from unblur.pipeline.calibrate import DEFAULT_ALGORITHM, CalibrationSet, stored_manifest
from unblur.pipeline.graphs import Size, stored_graph
from unblur.pipeline.places import bundled_manifest
from unblur.pipeline.quantised import check_repairs, stored_quantised
from unblur.pipeline.store import Artefact, Store


@dataclass(frozen=True)
class Calibration:
    """How engines in 8 bits are calibrated. `manifest`: None for the bundled one."""

    manifest: Path | None = None
    algorithm: str = DEFAULT_ALGORITHM
    repairs: tuple[str, ...] = ()

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
    for file in frames:
        try:
            frame, _ = file.read()
        except InputError:
            continue
        same = calibration_frames_like(manifest, frame)
        if same:
            raise InputError(
                f"{file.name} is the calibration frame {same[0]} of {manifest.path}: what is measured there would "
                "flatter the engine. Leave it out, or collect the manifest with --not-in and --allow-overlap, and "
                "every report will tell."
            )


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
