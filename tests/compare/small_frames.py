"""Small frames made from a seed, and a stopwatch protocol that takes no time."""

from pathlib import Path

import numpy as np
from PIL import Image

from unblur.metrics.stopwatch import Protocol

QUICK = Protocol(rounds=3, warmup_window=1, warmup_rounds_max=1, settle_ms=0)


def save_frame(path: Path, height: int = 20, width: int = 24, seed: int = 0, noise: float = 12.0) -> None:
    """A smooth picture of a seed, with noise over it; `noise` 0 is the truth of that seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / 5.0
    phase = rng.uniform(0, 6, 3)
    picture = 128 + 80 * np.sin(rows[..., None] + phase) * np.cos(columns[..., None] * 1.3 + phase)
    picture = picture + noise * np.random.default_rng(seed + 1000).normal(size=picture.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(path)
