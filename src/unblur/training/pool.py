"""A pool of synthetic scenes on disk, made once by worker processes, so that drawing pictures does not pace training.

Scene k of a pool is `synthetic_pair(seed + k)`: which worker makes it, and when, changes nothing. Each file ends in the
SHA-256 of what stands before it, so that a scene that was damaged since is drawn again and not trained on.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unblur.core.artefacts import atomic_path
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.images.scenes import Split
from unblur.images.synthetic import VERSION, synthetic_pair

DIGEST_BYTES = 32


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
        """Scenes that are not there, or not as they were drawn. Raises InputError for one that cannot be read."""
        return [k for k in range(self.scenes) if not self._whole(k)]

    def make(self, k: int) -> None:
        """Draw scene k and store it, whole or not at all."""
        pair = np.stack(synthetic_pair(self.seed + k, self.side, self.side, self.split, self.largest_scale))
        with atomic_path(self.path(k)) as temporary:
            np.save(temporary, pair)
            with temporary.open("rb+") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
                file.write(digest)  # behind what was read: an array that is mapped ends before it

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

    def _whole(self, k: int) -> bool:
        try:
            data = self.path(k).read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise InputError(f"{self.path(k)} cannot be read: {error.strerror}; check its permissions.") from error
        return hashlib.sha256(data[:-DIGEST_BYTES]).digest() == data[-DIGEST_BYTES:]

    def open(self, k: int) -> NDArray[np.uint8]:
        """Scene k as a memory map, so that only the crop that is cut out of it is read."""
        pair: NDArray[np.uint8] = np.load(self.path(k), mmap_mode="r")
        return pair
