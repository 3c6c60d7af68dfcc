"""A new engine is one record: names, choices, keys and doors follow from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unblur.cli.compare_engines import main as compare
from unblur.cli.deblur_images import arguments
from unblur.cli.deblur_images import main as deblur
from unblur.core.errors import InputError
from unblur.engines.base import BaseRunner
from unblur.engines.catalogue import CATALOGUE, added, backends, choose_engine, open_engine
from unblur.engines.engine import Engine, Opening
from unblur.engines.runner import Runner
from unblur.images.files import Picture, read_picture, write_picture
from unblur.images.signature import Signature
from unblur.networks.checkpoints import Checkpoint


class Negative(BaseRunner):
    """Gives every pixel's negative, so that nobody can take it for another engine."""

    def __init__(self, opening: Opening) -> None:
        about = {"backend": "looking-glass", "version": "1", "device": "cpu", "precision": "fp32"}
        super().__init__(Signature(opening.checkpoint.contract), about | {"threads": str(opening.threads)})

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        return -tensor

    def _release(self) -> None:
        pass


def _open(opening: Opening) -> Runner:
    return Negative(opening)


NEGATIVE = Engine(
    "negative", "looking-glass", "fp32", "checkpoint", "cpu", frozenset({"numpy"}), "numpy", _open, "gives negatives"
)


def test_one_record_reaches_every_door(
    tiny: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("pipeline.toml").touch()  # without budgets
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    write_picture(Path("in.png"), Picture(frame), frame)
    given = ["--checkpoint", str(tiny.path), "--threads", "1"]
    with added(NEGATIVE):
        assert "looking-glass" in backends()
        assert "looking-glass" in arguments().format_help()
        assert choose_engine("looking-glass", "fp32") == "negative"
        with open_engine("negative", tiny, None, 1) as runner:
            assert runner.description["backend"] == "looking-glass"
        assert deblur(["in.png", "out.png", "--engine", "negative", *given]) == 0
        assert np.array_equal(read_picture(Path("out.png")).frame, 255 - frame)
        flags = ["--frames", "in.png", "--engines", "negative", "--no-latency", "--output", "report"]
        assert compare([*flags, *given]) == 0
        engines = json.loads(Path("report/report.json").read_text())["engines"]
        assert [engine["name"] for engine in engines] == ["torch", "negative"]
    capsys.readouterr()
    assert "negative" not in CATALOGUE
    assert "looking-glass" not in arguments().format_help()
    assert deblur(["in.png", "again.png", "--engine", "negative", *given]) == 2
    assert "Unknown engine 'negative'" in capsys.readouterr().err


def test_names_are_unique() -> None:
    with added(NEGATIVE), pytest.raises(ValueError, match="two engines are called 'negative'"), added(NEGATIVE):
        raise AssertionError("taken")


def test_an_engine_that_runs_a_checkpoint_says_that_there_is_none() -> None:
    with added(NEGATIVE), pytest.raises(InputError, match="negative runs a checkpoint, and there is none here"):
        open_engine("negative", None, None, 1)
