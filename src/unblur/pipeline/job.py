"""What is asked of the pipeline, resolved: sizes, sources, and how 8 bits are calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unblur.calibration.algorithms import DEFAULT_ALGORITHM
from unblur.calibration.manifest import Manifest
from unblur.calibration.repairs.names import check_repairs
from unblur.core.artefacts import file_digest
from unblur.core.errors import InputError
from unblur.images.contract import Pixels
from unblur.pipeline.foreign import Origin
from unblur.pipeline.places import bundled_manifest

Size = tuple[int, int]
OPSET = 20


@dataclass(frozen=True)
class CalibrationSet:
    """What is calibrated, and on which frames.

    pixels, opset: of the graph that shall be quantised. Ranges are measured at the size of the manifest's frames and
    serve every size: fixed graphs of one checkpoint differ in no map's name between sizes.
    """

    checkpoint: Origin
    manifest: Manifest
    pixels: Pixels = "float"
    opset: int = OPSET
    threads: int = 0


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


@dataclass(frozen=True)
class Source:
    """What an engine is made from: a checkpoint or a foreign graph, and its graph of (height, width), or (None) of
    every size that it takes.
    """

    checkpoint: Origin
    size: Size | None
    pixels: Pixels = "float"
    opset: int = OPSET
