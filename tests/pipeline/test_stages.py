"""What is stored under a key was made of what the key says, whatever happens to the inputs meanwhile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unblur.core.console import SILENT
from unblur.core.errors import ChangedError
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline import stages
from unblur.pipeline.config import CompareSection, FramesSection, PathsSection, PipelineConfig
from unblur.pipeline.job import BUNDLED
from unblur.pipeline.store import Artefact, Store

SETTINGS = CompareSection(engines=("torch",), rounds=1, threads=1)


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    """Two frames and their truths, 32x32."""
    rng = np.random.default_rng(0)
    for kind in ("blurred", "sharp", "others"):
        (tmp_path / kind).mkdir()
        for k in range(2):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / kind / f"{k}.png")
    frames = FramesSection(blurred=tmp_path / "blurred", sharp=tmp_path / "sharp")
    return PipelineConfig(frames=frames, paths=PathsSection(artifacts=tmp_path / "artifacts"), compare=SETTINGS)


def compared(config: PipelineConfig, tiny: Checkpoint, meanwhile: str = "") -> Artefact:
    """The measurement, while the frames named `meanwhile` are exchanged for others after the key is known."""
    store = Store(config.paths.artifacts)
    frames, digest = stages.find_config_frames(config, store)
    root = config.paths.artifacts.parent
    if meanwhile:
        shutil.copytree(root / meanwhile, root / "kept")
        shutil.copytree(root / "others", root / meanwhile, dirs_exist_ok=True)
    try:
        graph = Artefact(root / "none.onnx", "0" * 64, fresh=False)
        return stages.comparison(store, tiny, frames, digest, graph, None, SETTINGS, BUNDLED, SILENT)
    finally:
        if meanwhile:
            shutil.copytree(root / "kept", root / meanwhile, dirs_exist_ok=True)


@pytest.mark.parametrize("meanwhile", ["blurred", "sharp"])
def test_frames_that_change_during_a_run_leave_nothing_in_the_store(
    config: PipelineConfig, tiny: Checkpoint, meanwhile: str
) -> None:
    with pytest.raises(ChangedError, match=rf"{meanwhile}/0\.png changed during the run"):
        compared(config, tiny, meanwhile)
    assert not list(config.paths.artifacts.rglob("*.json"))
    assert compared(config, tiny).fresh
    assert not compared(config, tiny).fresh


def test_a_report_tells_its_own_configuration(config: PipelineConfig, tiny: Checkpoint) -> None:
    measured = compared(config, tiny)
    store = Store(config.paths.artifacts)
    for seed in (1, 2):  # of frames that are not drawn: nothing is measured again
        another = config.model_copy(update={"frames": config.frames.model_copy(update={"seed": seed})})
        _, folder = stages.verdict(store, measured, another)
        assert json.loads((folder.path / "pipeline.json").read_text())["frames"]["seed"] == seed
