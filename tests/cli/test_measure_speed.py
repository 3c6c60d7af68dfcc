"""The door of the speed benchmark."""

import json
from pathlib import Path

import pytest

from unblur.cli.measure_speed import main
from unblur.networks.random_weights import random_checkpoint


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_a_network_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--network", "banet_nano", "--size", "16x16", "--threads", "1", "--rounds", "1"]
    assert main([*arguments, "--engines", "torch,torch-channels-last", "--output", "out"]) == 0
    printed = capsys.readouterr().out
    assert "torch-channels-last" in printed
    assert "random weights, seed 0" in printed
    report = json.loads(Path("out/report.json").read_text())
    assert [engine["name"] for engine in report["engines"]] == ["torch", "torch-channels-last"]
    assert report["latency"]["height"] == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "banet", "--checkpoint", "x.pth"], "one of the two"),
        (["--network", "banett"], "did you mean 'banet'"),
        (["--network", "banet_nano", "--engines", "torch-fast"], "Unknown engine 'torch-fast'"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--output", "out"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_random_weights_are_the_same_for_a_seed(tmp_path: Path) -> None:
    first = random_checkpoint("banet_nano", 0, tmp_path / "a")
    assert random_checkpoint("banet_nano", 0, tmp_path / "b").digest == first.digest
    assert random_checkpoint("banet_nano", 1, tmp_path / "c").digest != first.digest
