"""Whoever takes a checkpoint takes the order of channels it was trained with, and obeys it."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unblur.cli import app
from unblur.cli.door import Arguments
from unblur.core.errors import InputError
from unblur.engines.catalogue import open_engine
from unblur.engines.runner import restore_frame
from unblur.images.files import read_picture
from unblur.networks import load_checkpoint, save_checkpoint
from unblur.networks.banet.network import BANet, BANetSpec
from unblur.networks.random_weights import random_checkpoint

NAMES = ("--checkpoint", "--evaluate")
"""Options that name a checkpoint."""

BY_PLACE = ("checkpoint", "first")
"""Arguments without an option that may be one."""

# What each door needs besides: {weights}, {frames}, {config} and {out} are filled in.
TAKES_A_CHECKPOINT = {
    "export": "--checkpoint {weights} --dynamic --output {out}/g.onnx",
    "build": "--checkpoint {weights} --dynamic --output {out}/e.engine",
    "build --int8": "--checkpoint {weights} --dynamic --output {out}/e.engine",
    "calibrate": "--checkpoint {weights} --output {out}/g.onnx",
    "search": "--checkpoint {weights} --output {out}/search",
    "search --reproduce x --point 1": "--checkpoint {weights} --output {out}/g.onnx",
    "deblur": "--checkpoint {weights} {frames} {out}/deblurred --engine torch",
    "compare": "--checkpoint {weights} --frames {frames} --output {out}/compared",
    "speed": "--checkpoint {weights} --output {out}/speed",
    "train": "--evaluate {weights} --config {config}",
    "init": "{weights} --output {out}/pipeline.toml",
    "inspect": "{weights}",
    "blame": "{weights} {weights}",
}


class Parsers:
    """Every door's parser, caught before it parses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.caught: list[argparse.ArgumentParser] = []

        def catch(parser: Arguments, *_: Any) -> None:
            self.caught.append(parser)
            raise InputError("caught")

        monkeypatch.setattr(Arguments, "parse_args", catch)

    def of(self, verb: str) -> argparse.ArgumentParser:
        assert importlib.import_module(f"unblur.cli.{app.VERBS[verb][0]}").main([]) == 2
        return self.caught[-1]


def test_whoever_takes_a_checkpoint_takes_its_channel_order(monkeypatch: pytest.MonkeyPatch) -> None:
    parsers, having = Parsers(monkeypatch), set()
    for verb in app.VERBS:
        options = {text: action for action in parsers.of(verb)._actions for text in action.option_strings}
        actions = parsers.of(verb)._actions
        by_place = any(action.dest in BY_PLACE and not action.option_strings for action in actions)
        takes = by_place or any(name in options for name in NAMES)
        assert takes == ("--channel-order" in options), verb
        if takes:
            having.add(verb)
            order = options["--channel-order"]
            assert (order.choices, order.default, order.required) == (("bgr", "rgb"), None, False)
    assert having == {names.split()[0] for names in TAKES_A_CHECKPOINT}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(BANet(BANetSpec(depth=1, stem_width=2, width=4, fuse_width=3)), path)
    return path


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (12, 18, 3), np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    return folder


@pytest.mark.parametrize("door", TAKES_A_CHECKPOINT)
def test_every_door_loads_what_it_is_told(
    door: str, tmp_path: Path, weights: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("network = 'banet_nano'\nstages = [{iterations = 1}]\n")
    monkeypatch.chdir(tmp_path)
    for name in ("open_product", "resolve_targets"):  # the product may be missing where tests run
        module = "tensorrt.product" if name == "open_product" else "tensorrt.targets"
        monkeypatch.setattr(f"unblur.engines.{module}.{name}", lambda *_: None)
    asked = []

    def load(path: Path, channel_order: str | None = None, *_: Any) -> None:
        asked.append((path, channel_order))
        raise InputError("enough")

    # Doors that stand on a job, and those that open weights themselves.
    monkeypatch.setattr("unblur.networks.checkpoints.load_checkpoint", load)
    monkeypatch.setattr("unblur.pipeline.job.load_checkpoint", load)
    verb, *flags = door.split()
    rest = TAKES_A_CHECKPOINT[door].format(weights=weights, frames=frames, config=config, out=tmp_path).split()
    for order in ("rgb", "bgr"):
        assert app.main([verb, *flags, *rest, "--channel-order", order]) == 2
        assert asked.pop() == (weights, order)


def test_weights_that_were_trained_on_rgb(
    tmp_path: Path, weights: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pictures are those of PyTorch on RGB, and what was finished with the other order is not finished."""
    arguments = [str(frames), str(tmp_path / "out"), "--checkpoint", str(weights), "--engine", "torch"]
    given = read_picture(frames / "a.png").frame
    results = []
    for order in ("bgr", "rgb", "rgb"):
        assert app.main(["deblur", *arguments, "--channel-order", order, "--threads", "1"]) == 0
        results.append((capsys.readouterr().out.split(",")[0], read_picture(tmp_path / "out/a.png").frame))
        with open_engine("torch", load_checkpoint(weights, order), None, 1) as runner:  # type: ignore[arg-type]
            np.testing.assert_array_equal(results[-1][1], restore_frame(runner, given))
    assert [said for said, _ in results] == ["1 deblurred", "1 deblurred", "0 deblurred"]
    assert not np.array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize(
    "arguments",
    [
        "build --onnx g.onnx --output e.engine --channel-order rgb",
        "build --rebuild e.engine --channel-order rgb",
        "speed --network banet_nano --output s --channel-order rgb",
    ],
)
def test_an_order_without_a_checkpoint_is_refused(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(arguments.split()) == 2
    assert "--channel-order" in capsys.readouterr().err


def test_the_key_that_was_taken_is_printed(
    tmp_path: Path, weights: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_checkpoint(weights).network.state_dict()
    torch.save({"state_dict": {k: v + 1 for k, v in state.items()}, "state_dict_ema": state}, tmp_path / "both.pth")
    arguments = [str(frames), str(tmp_path / "out"), "--checkpoint", str(tmp_path / "both.pth"), "--engine", "torch"]
    assert app.main(["deblur", *arguments, "--threads", "1"]) == 0
    assert "took the weights under 'state_dict_ema', not state_dict" in capsys.readouterr().err


def test_an_evaluation_tells_the_order(tmp_path: Path) -> None:
    weights = random_checkpoint("banet_nano", 0, tmp_path).path
    config = tmp_path / "config.toml"
    config.write_text("network = 'banet_nano'\nstages = [{iterations = 1}]\n[evaluation]\npairs = 1\nside_px = 16\n")
    reports = []
    for order in ("bgr", "rgb"):
        report = tmp_path / f"{order}.json"
        assert app.main(["train", "--config", str(config), "--evaluate", str(weights), "--channel-order", order,
                         "--report", str(report)]) == 0  # fmt: skip
        reports.append(json.loads(report.read_text()))
    assert [report["channel_order"] for report in reports] == ["bgr", "rgb"]
    assert reports[0]["synthetic"] != reports[1]["synthetic"]
