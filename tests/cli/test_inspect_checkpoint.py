"""`unblur inspect` tells what a file is, and of one that is none what it looks like."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unblur.cli.inspect_checkpoint import main
from unblur.images.synthetic import synthetic_pair
from unblur.networks.attention import attention_maps
from unblur.networks.bag.network import BAGSpec, Critic, Generator
from unblur.networks.checkpoints import load_checkpoint


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
                  "multiples of 4 (reflect padding) from 4 on", "growth 3 (no preset has these)"):  # fmt: skip
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


def test_what_a_network_looks_at_is_written_as_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(1)
    path = written(tmp_path, Generator(BAGSpec(stem=2, depth=2, layers=1, growth=2)).state_dict())
    frame = synthetic_pair(0, 64, 64, "heldout")[0][:30, :41]
    picture, folder = tmp_path / "blurred.png", tmp_path / "maps"
    Image.fromarray(frame).save(picture)
    for _ in range(2):  # its own pictures are written over
        assert main([str(path), "--maps", str(picture), "--output", str(folder), "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out.partition("\n}\n")[0] + "}")["maps"]
    maps = attention_maps(load_checkpoint(path).network, frame)
    assert [one["name"] for one in told] == list(maps) == ["module 1", "module 2"]
    assert {file.name for file in folder.iterdir()} == {"module-1.png", "module-2.png"}
    for one, gate in zip(told, maps.values(), strict=True):
        grey = np.asarray(Image.open(one["path"])) / 255
        assert grey.shape == (30, 41)
        assert np.allclose(one["black"] + grey * (one["white"] - one["black"]), gate, atol=0.003 * np.ptp(gate))
    Image.fromarray(frame).save(folder / "module-2.png")
    before = (folder / "module-1.png").read_bytes()
    assert main([str(path), "--maps", str(folder / "module-2.png"), "--output", str(folder)]) == 2
    assert main([str(path), "--maps", str(picture), "--output", str(folder)]) == 2
    assert "module-2.png exists and is not what unblur writes" in capsys.readouterr().err
    assert (folder / "module-1.png").read_bytes() == before


def test_maps_need_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(written(tmp_path, weights())), "--maps", "some.png"]) == 2
    assert "--output DIR go together" in capsys.readouterr().err
