"""`unblur init`: a configuration that is valid, says which network it is for, and replaces none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from unblur.cli import app
from unblur.networks.checkpoints import load_checkpoint
from unblur.pipeline.places import bundled_manifest
from unblur.pipeline.resolve import load_pipeline_config


@pytest.fixture
def here(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / 'a "quoted" größe 😀 folder'
    folder.mkdir()
    shutil.copy(tiny_path, folder / "w.safetensors")
    monkeypatch.chdir(folder)
    return folder


def test_it_writes_what_run_takes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["init", "w.safetensors"]) == 0
    name = load_checkpoint(here / "w.safetensors").name
    said = capsys.readouterr().out
    assert said.startswith(f"recognised {name}, trained on BGR (taken for granted")
    config = load_pipeline_config(Path("pipeline.toml"))
    assert config.network.checkpoint == here / "w.safetensors"
    assert config.calibration.manifest == bundled_manifest()
    assert f"# {name} with unblur" in Path("pipeline.toml").read_text()
    assert all(len(line) <= 125 for line in Path("pipeline.toml").read_text().splitlines() if "manifest" not in line)


def test_a_checkpoint_elsewhere_and_an_order_that_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["init", "w.safetensors", "--channel-order", "rgb", "--output", "sub/p.toml", "--json"]
    assert app.main(arguments) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["channel_order"], figures["configuration"]) == ("rgb", "sub/p.toml")
    config = load_pipeline_config(Path("sub/p.toml"))
    assert (config.network.checkpoint, config.network.channel_order) == (here / "w.safetensors", "rgb")


def test_no_configuration_is_replaced(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pipeline.toml").write_text("mine")
    assert app.main(["init", "w.safetensors"]) == 2
    assert "pipeline.toml exists and is left as it is" in capsys.readouterr().err
    assert Path("pipeline.toml").read_text() == "mine"
    Path("link.toml").symlink_to("elsewhere.toml")  # which is not there
    assert app.main(["init", "w.safetensors", "--output", "link.toml"]) == 2
    assert Path("link.toml").is_symlink()
    assert app.main(["init", "nothing.pth", "--output", "p.toml"]) == 2
    assert not Path("p.toml").exists()
