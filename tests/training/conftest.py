"""A training small enough for a test: the smallest crops, a pool of two scenes, a handful of iterations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

CONFIG = """
network = "banet_nano"
seed = {seed}
device = "cpu"
amp = "off"
threads = 1
save_every = {save_every}

[data]
scenes = 2
scene_side_px = 48
workers = 0

[evaluation]
pairs = 2
side_px = 48

[[stages]]
crop_px = 16
batch = 2
iterations = {first}
first_lr = 1e-3
last_lr = 1e-4

[[stages]]
crop_px = 32
batch = 2
iterations = {second}
first_lr = 1e-4
last_lr = 1e-5
"""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A training sets the number of threads of the process; the next test gets its own back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def write_config(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(seed: int = 5, save_every: int = 2, first: int = 3, second: int = 3, more: str = "") -> Path:
        path = tmp_path / f"config-{seed}.toml"
        path.write_text(more + CONFIG.format(seed=seed, save_every=save_every, first=first, second=second))
        return path

    return write
