"""Training samples by number: sample n is the same pixels in any process, on any worker, before and after a resume."""

from __future__ import annotations

import functools
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from unblur.core.errors import InputError
from unblur.images.contract import PixelContract
from unblur.images.pairs import Pair, check_pair, read_pair
from unblur.training.pool import Pool


class Source(Protocol):
    """Pairs by number; `read` gives (blurred, sharp) as (2, H, W, 3) RGB uint8 or something that indexes like it."""

    def __len__(self) -> int: ...

    def read(self, k: int) -> NDArray[np.uint8]: ...


class PoolSource:
    """Drawn scenes."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return self.pool.scenes

    def read(self, k: int) -> NDArray[np.uint8]:
        return self.pool.open(k)


class FolderSource:
    """Pairs of a data set on disk."""

    def __init__(self, pairs: list[Pair]) -> None:
        """Raises InputError, by headers alone, for a picture of a kind that is not taken and for sizes that differ:
        now, and not when its turn comes after hours.
        """
        for pair in pairs:
            check_pair(pair)
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, k: int) -> NDArray[np.uint8]:
        return np.stack(read_pair(self.pairs[k]))


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Random crops with random flips and quarter turns; item n -> (blurred, sharp), each (3, crop, crop).

    Every pair is seen once before any is seen twice. Raises InputError when a picture is smaller than the crop.
    """

    def __init__(self, source: Source, crop_px: int, seed: int, contract: PixelContract) -> None:
        self.source, self.crop_px, self.seed, self.contract = source, crop_px, seed, contract

    def __getitem__(self, n: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(n, len(self.source))
        k = int(_order(self.seed, epoch, len(self.source))[place])
        pair = self.source.read(k)
        rng = np.random.default_rng([self.seed, 1, n])
        size, (height, width) = self.crop_px, pair.shape[1:3]
        if height < size or width < size:
            raise InputError(f"Training pair {k} is {height}x{width}, smaller than the crop of {size}; lower crop_px.")
        top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        crop = np.array(pair[:, top : top + size, left : left + size])
        turns, flip = int(rng.integers(4)), int(rng.integers(2))  # the eight symmetries of a square
        crop = np.rot90(crop, turns, (1, 2))
        if flip:
            crop = crop[:, :, ::-1]
        blurred, sharp = (torch.from_numpy(self.contract.encode(frame)[0]) for frame in crop)
        return blurred, sharp


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)
