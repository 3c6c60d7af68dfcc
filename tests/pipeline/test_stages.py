"""What is stored under a key was made of what the key says, whatever happens to the inputs meanwhile."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unblur.core.errors import ChangedError
from unblur.pipeline import stages
from unblur.pipeline.config import CompareSection, FramesSection, NetworkSection, PathsSection, PipelineConfig
from unblur.pipeline.job import Job
from unblur.pipeline.store import Artefact

SETTINGS = CompareSection(engines=("torch",), rounds=1, threads=1, hang_seconds=0)


@pytest.fixture
def job(tmp_path: Path, tiny_path: Path) -> Job:
    """Two frames and their truths, 32x32."""
    rng = np.random.default_rng(0)
    for kind in ("blurred", "sharp", "others"):
        (tmp_path / kind).mkdir()
        for k in range(2):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / kind / f"{k}.png")
    frames = FramesSection(blurred=tmp_path / "blurred", sharp=tmp_path / "sharp")
    network, paths = NetworkSection(checkpoint=tiny_path), PathsSection(artifacts=tmp_path / "artifacts")
    return Job.of(PipelineConfig(network=network, frames=frames, paths=paths, compare=SETTINGS))


def compared(job: Job, meanwhile: str = "") -> Artefact:
    """The measurement, while the frames named `meanwhile` are exchanged for others after the key is known."""
    frames = stages.frames(job, (32, 32))
    root = job.store.root.parent
    if meanwhile:
        shutil.copytree(root / meanwhile, root / "kept")
        shutil.copytree(root / "others", root / meanwhile, dirs_exist_ok=True)
    try:
        return stages.comparison(job, frames, {})
    finally:
        if meanwhile:
            shutil.copytree(root / "kept", root / meanwhile, dirs_exist_ok=True)


@pytest.mark.parametrize("meanwhile", ["blurred", "sharp"])
def test_frames_that_change_during_a_run_leave_nothing_in_the_store(job: Job, meanwhile: str) -> None:
    with pytest.raises(ChangedError, match=rf"{meanwhile}/0\.png changed during the run"):
        compared(job, meanwhile)
    assert not list(job.store.root.rglob("*.json"))
    assert compared(job).fresh
    assert not compared(job).fresh


def test_a_measurement_that_was_killed_scores_what_is_missing(job: Job) -> None:
    """The second frame is changed while it runs, so nothing is stored but the score of the first; then an engine more
    is asked for."""
    truth = job.store.root.parent / "sharp" / "1.png"
    whole = truth.read_bytes()
    frames = stages.frames(job, (32, 32))
    truth.write_bytes(whole + b"?")
    with pytest.raises(ChangedError, match=r"sharp/1\.png changed"):
        stages.comparison(job, frames, {})
    truth.write_bytes(whole)
    (scores,) = (job.store.root / "scores").iterdir()
    first = scores.read_bytes()
    assert first.count(b"\n") == 1
    assert compared(job).fresh
    assert scores.read_bytes().startswith(first)
    assert scores.read_bytes().count(b"\n") == 2
    both = CompareSection(engines=("torch", "torch-channels-last"), rounds=0, threads=1, hang_seconds=0)
    measured = compared(replace(job, config=job.config.model_copy(update={"compare": both})))
    assert scores.read_bytes().count(b"\n") == 2
    report = json.loads(measured.path.read_text())["report"]
    assert [len(engine["frames"]) for engine in report["engines"]] == [2, 2]
    assert len(list((job.store.root / "scores").iterdir())) == 2


def test_a_report_tells_its_own_configuration(job: Job) -> None:
    measured = compared(job)
    for seed in (1, 2):  # of frames that are not drawn: nothing is measured again
        frames = job.config.frames.model_copy(update={"seed": seed})
        another = replace(job, config=job.config.model_copy(update={"frames": frames}))
        _, folder = stages.verdict(another, measured)
        assert json.loads((folder.path / "pipeline.json").read_text())["frames"]["seed"] == seed
