"""`unblur inspect` tells what a file is, and of one that is none what it looks like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from unblur.cli.inspect_checkpoint import main
from unblur.networks.bag.network import BAGSpec, Critic, Generator


def written(tmp_path: Path, value: object) -> Path:
    path = tmp_path / "some.pth"
    torch.save(value, path)
    return path


def weights() -> dict[str, torch.Tensor]:
    return dict(Generator(BAGSpec(stem=2, depth=1, layers=2, growth=3)).state_dict())


def test_a_checkpoint_of_a_training_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {f"module.{key}": value.half() if key.endswith("weight") else value for key, value in weights().items()}
    path = written(tmp_path, {"epoch": 12, "optimizer": {"a": 1, "b": 2}, "params_ema": state, "params": state})
    assert main([str(path), "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    biases = sum(key.endswith("bias") for key in state)
    assert (told["network"], told["family"]) == ("bag-1x2-2-3", "bag")
    assert told["spec"] == {"stem": 2, "depth": 1, "layers": 2, "growth": 3}
    assert told["types"] == {"float16": len(state) - biases, "float32": biases}
    assert told["weights_key"] == "params_ema"
    assert told["other_weights"] == ["params"]
    assert told["extras"] == {"epoch": "12", "optimizer": "dict of 2"}
    assert told["contract"]["channel_order"] == "rgb"
    assert told["parameters"] == told["numbers"] == sum(value.numel() for value in state.values())
    assert told["size_bytes"] == path.stat().st_size


def test_people_are_told_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, {"epoch": 12, "state_dict": weights()})
    assert main([str(path)]) == 0
    said = capsys.readouterr().out
    for words in ("bag-1x2-2-3: BAG (2020)", "float32", "taken from  state_dict", "epoch (12)", "RGB from -1 to 1",
                  "multiples of 4 (reflect padding) from 8 on", "growth 3"):  # fmt: skip
        assert words in said


def test_the_nearest_miss_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = weights()
    del state["decoder.2.bias"]
    path = written(tmp_path, state)
    assert main([str(path), "--json", "--quiet"]) == 2
    streams = capsys.readouterr()
    told = json.loads(streams.out)
    assert told["network"] is None
    assert told["types"] == {"float32": len(state)}
    for text in (told["why"], streams.err):
        assert "Nearest is bag-1x2-2-3" in text
        assert "decoder.2.bias is missing" in text


def test_a_critic_is_told_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(written(tmp_path, Critic(4).state_dict()))]) == 2
    assert "BAG's critic" in capsys.readouterr().err


def test_what_is_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(written(tmp_path, [1, 2]))]) == 2
    assert "not a state dict" in capsys.readouterr().err
