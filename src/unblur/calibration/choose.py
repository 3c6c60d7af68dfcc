"""Choose frames that differ: over scenes first, within them over brightness and sharpness.

Brightness is the mean of luma (0 to 1). Sharpness is the variance of the Laplacian of luma (Pech-Pacheco et al.,
"Diatom autofocusing in brightfield microscopy: a comparative study", ICPR 2000) over the variance of luma, so that
contrast cancels:

    s = var(4 y[i,j] - y[i-1,j] - y[i+1,j] - y[i,j-1] - y[i,j+1]) / var(y)

The more blur, the smaller. A flat picture has s = 0.

The rule, greedy and without chance: both measures are replaced by their rank among all candidates, 0 to 1. The first
frame is the one nearest to the middle ranks. Each next one comes from the scenes with the fewest chosen frames, and is
the one farthest from its nearest chosen frame in the two ranks. Equal distances are decided by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from unblur.core.errors import InputError
from unblur.images.contract import Frame


@dataclass(frozen=True)
class Measured:
    """A candidate: its name, the scene it belongs to, and the two measures."""

    name: str
    scene: str
    brightness: float
    sharpness: float


def measure(frame: Frame) -> tuple[float, float]:
    """(brightness, sharpness) of a (H, W, 3) RGB uint8 frame; luma by ITU-R 601, as Pillow converts."""
    y = np.asarray(Image.fromarray(frame).convert("L"), np.float64)
    laplacian = 4 * y[1:-1, 1:-1] - y[:-2, 1:-1] - y[2:, 1:-1] - y[1:-1, :-2] - y[1:-1, 2:]
    contrast = float(y.var())
    return float(y.mean()) / 255, float(laplacian.var()) / contrast if contrast > 0 else 0.0


def choose(candidates: Sequence[Measured], count: int) -> list[int]:
    """Indices of `count` candidates, in the order of choice; the candidates' order does not matter.

    Raises InputError when there are fewer.
    """
    if len(candidates) < count:
        raise InputError(
            f"{count} frames were asked for, and there are {len(candidates)}; lower --count or add sources."
        )
    points = np.stack([_ranks([c.brightness for c in candidates]), _ranks([c.sharpness for c in candidates])], axis=1)
    from_middle = np.linalg.norm(points - 0.5, axis=1)
    chosen: list[int] = []
    of_scene: Counter[str] = Counter()
    nearest = np.full(len(candidates), np.inf)
    while len(chosen) < count:
        left = [k for k in range(len(candidates)) if k not in set(chosen)]
        fewest = min(of_scene[candidates[k].scene] for k in left)
        open_to = [k for k in left if of_scene[candidates[k].scene] == fewest]
        key = nearest if chosen else -from_middle
        k = min(open_to, key=lambda k: (-round(float(key[k]), 9), candidates[k].name))
        chosen.append(k)
        of_scene[candidates[k].scene] += 1
        nearest = np.minimum(nearest, np.linalg.norm(points - points[k], axis=1))
    return chosen


def _ranks(values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Ranks from 0 to 1; equal values share one."""
    unique, place = np.unique(np.asarray(values), return_inverse=True)
    return place / max(1, len(unique) - 1)
