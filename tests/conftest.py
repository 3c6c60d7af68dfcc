"""Shared by all tests: a tiny BANet whose weights are symmetric in nothing, and its graphs, exported once."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from exported_once import exported_once
from tiny_banet import TINY, asymmetric

from unblur.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """PyTorch's waiting threads spin, which on a busy machine costs seconds per call."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell starts background work with SIGINT ignored, and then tests of Ctrl-C would wait forever."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def artefacts_outside_of_projects(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A door that is run outside of a project takes the checkout's pipeline.toml, and must leave nothing in it."""
    os.environ["UNBLUR_ARTIFACTS"] = str(tmp_path_factory.mktemp("artefacts"))


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(asymmetric(TINY), path)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Checkpoint:
    return load_checkpoint(tiny_path)


@pytest.fixture(scope="session")
def fixed_graph(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48x64, float pixels."""
    return exported_once(tiny, tmp_path_factory, "fixed.onnx", height=48, width=64)


@pytest.fixture(scope="session")
def dynamic_graph(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every even size, float pixels."""
    return exported_once(tiny, tmp_path_factory, "dynamic.onnx", dynamic=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine lacks, with the reason. What takes longest comes first, lest one worker wait for it: what
    is slow, and the tests of the whole house, which lie beside this file.
    """
    here = Path(__file__).parent
    items.sort(key=lambda item: item.get_closest_marker("slow") is None and item.path.parent != here)
    lacking = {
        "tensorrt_rtx": "" if importlib.util.find_spec("tensorrt_rtx") else "needs the package tensorrt-rtx-cu13",
        "tensorrt": "" if importlib.util.find_spec("tensorrt") else "needs the package tensorrt",
        "gpu": "" if torch.cuda.is_available() else "needs an NVIDIA GPU and driver",
    }
    for item in items:
        for marker, reason in lacking.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
