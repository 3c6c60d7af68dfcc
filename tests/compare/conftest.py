"""A tiny checkpoint, small frames with truth, and candidates whose faults are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from small_frames import QUICK, save_frame

from unblur.compare.candidates import Candidate
from unblur.compare.comparison import Settings
from unblur.engines.base import BaseRunner
from unblur.engines.runner import Runner
from unblur.images.signature import Signature
from unblur.networks.banet.network import BANet, BANetSpec
from unblur.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture
def settings() -> Settings:
    """Without detectors: the faults here are put in on purpose, and `test_alarms.py` looks for the alarms."""
    return Settings(threads=1, protocol=QUICK, detectors=False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(BANet(BANetSpec(depth=1, stem_width=2, width=4, fuse_width=2)), path)
    return load_checkpoint(path)


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of two blurred frames (one in a sub-folder, odd) and their sharp partners."""
    for seed, name in enumerate(("a.png", "night/b.png")):
        save_frame(tmp_path / "blurred" / name, 20, 24 - seed, seed)
        save_frame(tmp_path / "sharp" / name, 20, 24 - seed, seed, noise=0)
    return tmp_path / "blurred", tmp_path / "sharp"


class NetworkRunner(BaseRunner):
    """The checkpoint's network with a fault put into its output."""

    def __init__(self, checkpoint: Checkpoint, fault: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        about = {"backend": "fake", "version": "1", "device": "cpu", "threads": "1", "precision": "f32"}
        super().__init__(Signature(checkpoint.contract), about)
        self._network, self._fault = checkpoint.network, fault

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            result = self._network(torch.from_numpy(tensor.copy())).clamp(-0.5, 0.5).numpy()
        return self._fault(result.copy())

    def _release(self) -> None:
        pass


@pytest.fixture
def faulty(checkpoint: Checkpoint) -> Callable[[str, Callable[[NDArray[Any]], NDArray[Any]]], Candidate]:
    """Make a candidate: its name, and what it does to the right output."""

    def make(name: str, fault: Callable[[NDArray[Any]], NDArray[Any]]) -> Candidate:
        def open_it(size: tuple[int, int] | None) -> Runner:
            return NetworkRunner(checkpoint, fault)

        return Candidate(name, open_it)

    return make
