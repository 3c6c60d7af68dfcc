"""A pool of synthetic scenes on disk, made once by worker processes, so that drawing pictures does not pace training.

Scene k of a pool is `synthetic_pair(seed + k)`: which worker makes it, and when, changes nothing. So a scene that was
damaged on disk is drawn again.
"""

from __future__ import annotations

import io
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unblur.core.artefacts import write_bytes
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.core.interrupts import end_with_parent
from unblur.core.reading import DAMAGED_ARCHIVE
from unblur.images.scenes import Split
from unblur.images.synthetic import VERSION, synthetic_pair


@dataclass(frozen=True)
class Pool:
    """`scenes` pairs of side x side pixels in `folder`, one .npz file (2, side, side, 3) uint8 each: blurred, sharp."""

    folder: Path
    seed: int
    scenes: int
    side: int
    split: Split = "train"
    largest_scale: float = 1.0

    def path(self, k: int) -> Path:
        """Name of scene k; it tells everything the pixels depend on."""
        scale = "" if self.largest_scale == 1 else f"-x{self.largest_scale:g}"
        return self.folder / f"{self.split}-v{VERSION}-{self.side}px{scale}-{self.seed + k:06d}.npz"

    def missing(self) -> list[int]:
        return [k for k in range(self.scenes) if not self.path(k).exists()]

    def make(self, k: int) -> None:
        """Draw scene k and store it, whole or not at all."""
        pair = np.stack(synthetic_pair(self.seed + k, self.side, self.side, self.split, self.largest_scale))
        # A zip archive, for it has a checksum; in memory first, for numpy does not say which error the disk gave.
        data = io.BytesIO()
        np.savez(data, pair=pair)
        write_bytes(self.path(k), data.getvalue())

    def fill(self, workers: int, progress: Progress = SILENT) -> None:
        """Make what is missing. An interrupted fill goes on where it stopped."""
        missing = self.missing()
        if not missing:
            return
        if workers <= 1:
            for k in progress.track(missing, "drawing scenes", len(missing)):
                self.make(k)
            return
        # spawn: a fork would inherit torch's thread pools in an unknown state.
        with multiprocessing.get_context("spawn").Pool(workers, end_with_parent) as processes:
            made = processes.imap_unordered(self.make, missing, chunksize=4)
            for _ in progress.track(made, "drawing scenes", len(missing)):
                pass

    def open(self, k: int) -> NDArray[np.uint8]:
        """Scene k; drawn again where the file is damaged or gone."""
        pair = self._read(k)
        if pair is None:
            self.make(k)
            pair = self._read(k)
        if pair is None:
            raise InputError(f"{self.path(k)} is damaged again as soon as it was drawn; check the disk.")
        return pair

    def _read(self, k: int) -> NDArray[np.uint8] | None:
        """What the file holds; None where it does not have its checksum, or is something else."""
        try:
            with np.load(self.path(k), allow_pickle=False) as archive:
                pair: NDArray[np.uint8] = archive["pair"]
        except DAMAGED_ARCHIVE:
            return None
        return pair if pair.shape == (2, self.side, self.side, 3) and pair.dtype == np.uint8 else None
