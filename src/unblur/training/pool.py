"""A pool of synthetic scenes on disk, made once by worker processes, so that drawing pictures does not pace training.

Scene k of a pool is `synthetic_pair(seed + k)`: which worker makes it, and when, changes nothing.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unblur.core.artefacts import atomic_path
from unblur.core.console import SILENT, Progress
from unblur.images.scenes import Split
from unblur.images.synthetic import VERSION, synthetic_pair


@dataclass(frozen=True)
class Pool:
    """`scenes` pairs of side x side pixels in `folder`, one .npy file (2, side, side, 3) uint8 each: blurred, sharp."""

    folder: Path
    seed: int
    scenes: int
    side: int
    split: Split = "train"
    largest_scale: float = 1.0

    def path(self, k: int) -> Path:
        """Name of scene k; it tells everything the pixels depend on."""
        scale = "" if self.largest_scale == 1 else f"-x{self.largest_scale:g}"
        return self.folder / f"{self.split}-v{VERSION}-{self.side}px{scale}-{self.seed + k:06d}.npy"

    def missing(self) -> list[int]:
        return [k for k in range(self.scenes) if not self.path(k).exists()]

    def make(self, k: int) -> None:
        """Draw scene k and store it, whole or not at all."""
        pair = np.stack(synthetic_pair(self.seed + k, self.side, self.side, self.split, self.largest_scale))
        with atomic_path(self.path(k)) as temporary:
            np.save(temporary, pair)

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
        with multiprocessing.get_context("spawn").Pool(workers) as processes:
            made = processes.imap_unordered(self.make, missing, chunksize=4)
            for _ in progress.track(made, "drawing scenes", len(missing)):
                pass

    def open(self, k: int) -> NDArray[np.uint8]:
        """Scene k as a memory map, so that only the crop that is cut out of it is read."""
        pair: NDArray[np.uint8] = np.load(self.path(k), mmap_mode="r")
        return pair
