"""The loop: deterministic, resumable to the bit after SIGKILL, stops before a bad loss, learns."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pixels import BGR
from safetensors.torch import load_file

import unblur.training.loop as loop
from unblur.core.errors import InputError
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.quality import psnr_db
from unblur.networks import load_checkpoint
from unblur.networks.banet.family import BANET
from unblur.networks.banet.network import BANet
from unblur.networks.recipe import Adam, Supervised
from unblur.networks.registry import registered
from unblur.training.config import load_config
from unblur.training.evaluation import restore
from unblur.training.loop import train
from unblur.training.state import NAME

DOOR = Path(__file__).parents[2] / "training" / "train_network.py"
WriteConfig = Callable[..., Path]


def same_weights(a: Path, b: Path) -> bool:
    one, other = load_file(a), load_file(b)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path: Path, write_config: WriteConfig) -> None:
    config = load_config(write_config())
    first, second = train(config, tmp_path / "a"), train(config, tmp_path / "b")
    other = train(load_config(write_config(seed=6)), tmp_path / "c")
    assert same_weights(first, second)
    assert not same_weights(first, other)
    curve = json.loads((tmp_path / "a" / "log.json").read_text())["curve"]
    assert curve[-1]["iteration"] == 6
    assert curve[-1]["lr"] == 1e-5


def test_a_run_killed_at_any_moment_and_resumed_gives_the_bits_of_one_that_was_not(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    path = write_config(save_every=1, first=24, second=4)
    whole = train(load_config(path), tmp_path / "whole")
    command = [sys.executable, str(DOOR), "--config", str(path), "--output", str(tmp_path / "cut")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    state, deadline = tmp_path / "cut" / NAME, time.monotonic() + 60
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = torch.load(state, weights_only=True)["done"]
    assert 0 < done < 28, "the kill came too late to test anything"
    resumed = train(load_config(path), tmp_path / "cut")
    assert same_weights(whole, resumed)


def test_a_finished_run_is_not_run_again(
    tmp_path: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(write_config())
    first = train(config, tmp_path / "a")
    before = first.read_bytes()
    monkeypatch.setattr(loop, "_step", None)
    assert train(config, tmp_path / "a").read_bytes() == before


def test_another_configuration_does_not_resume(tmp_path: Path, write_config: WriteConfig) -> None:
    train(load_config(write_config()), tmp_path / "a")
    with pytest.raises(InputError, match=r"another configuration.*[Cc]hoose another --output"):
        train(load_config(write_config(first=4)), tmp_path / "a")


def test_a_state_that_is_none_is_named(tmp_path: Path, write_config: WriteConfig) -> None:
    (tmp_path / NAME).write_bytes(b"no state")
    with pytest.raises(InputError, match="is not the state of a training run"):
        train(load_config(write_config()), tmp_path)


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_good_state(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    calls: list[int] = []

    def failing(network: BANet, settings: Mapping[str, Any]) -> Supervised:
        def loss(restored: torch.Tensor, sharp: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            return (restored - sharp).square().mean() * (float("nan") if len(calls) == 4 else 1.0)

        return Supervised(network, settings, Adam(), loss)

    family = replace(BANET, name="failing", presets={"failing": BANET.presets["banet_nano"]}, recipe=failing)
    path = write_config(save_every=2)
    path.write_text(path.read_text().replace('"banet_nano"', '"failing"'))
    with registered(family), pytest.raises(InputError, match=r"The loss is nan in iteration 4: .*lower first_lr"):
        train(load_config(path), tmp_path / "a")
    state = torch.load(tmp_path / "a" / NAME, weights_only=True)
    assert state["done"] == 2
    assert all(torch.isfinite(value).all() for value in state["network"].values())
    assert not list((tmp_path / "a").glob("*.safetensors"))


def test_a_tiny_network_overfits_one_pair(tmp_path: Path) -> None:
    blurred, sharp = synthetic_pair(3, 32, 32)
    for kind, frame in (("blur", blurred), ("sharp", sharp)):
        folder = tmp_path / "train" / "one" / kind
        folder.mkdir(parents=True)
        Image.fromarray(frame).save(folder / "1.png")
    path = tmp_path / "c.toml"
    path.write_text(
        f"network = 'banet_nano'\nstart = 'identity'\namp = 'off'\ndevice = 'cpu'\nthreads = 1\n"
        f"[data]\nsource = 'gopro'\nfolder = '{tmp_path.as_posix()}'\nworkers = 0\n"
        f"[[stages]]\ncrop_px = 32\nbatch = 2\niterations = 90\nfirst_lr = 2e-3\nlast_lr = 1e-4\n"
    )
    loaded = load_checkpoint(train(load_config(path), tmp_path / "run"))
    before = psnr_db(blurred, sharp, peak=255.0)
    after = psnr_db(restore(loaded.network, loaded.contract, blurred), sharp, peak=255.0)
    assert after > before + 1.0, (before, after)


def test_starting_at_the_identity_gives_the_input_back(write_config: WriteConfig, tmp_path: Path) -> None:
    path = write_config(more="start = 'identity'\n")
    with loop.assemble("cpu") as team:
        state = loop.fresh_state(load_config(path), team)
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(restore(state.network, BGR, frame), frame)


def test_bfloat16_trains_float32_weights_and_differs_from_float32(tmp_path: Path, write_config: WriteConfig) -> None:
    path = write_config(first=1, second=1)
    plain = load_file(train(load_config(path), tmp_path / "plain"))
    path.write_text(path.read_text().replace('amp = "off"', 'amp = "bf16"'))
    mixed = load_file(train(load_config(path), tmp_path / "mixed"))
    assert {value.dtype for value in mixed.values()} == {torch.float32}
    assert any(not torch.equal(plain[key], mixed[key]) for key in plain)
    assert all(torch.allclose(plain[key], mixed[key], atol=3e-3) for key in plain)  # Adam: at most two rates a weight


def test_a_clipped_gradient_is_no_longer_than_asked(
    tmp_path: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []
    genuine = torch.optim.Adam.step

    def measure(self: torch.optim.Adam, *arguments: object) -> object:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        lengths.append(float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients if g is not None]))))
        return genuine(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", measure)
    path = write_config(first=1, second=1)
    train(load_config(path), tmp_path / "free")
    path.write_text(path.read_text() + "\n[optimiser]\nmax_norm = 0.001\n")
    train(load_config(path), tmp_path / "clipped")
    assert min(lengths[:2]) > 0.002
    assert max(lengths[2:]) <= 0.001 * 1.001


def test_a_run_goes_on_from_the_weights_of_a_checkpoint(tmp_path: Path, write_config: WriteConfig) -> None:
    first = train(load_config(write_config()), tmp_path / "a")
    config = load_config(write_config(seed=9, more=f"begin_with = '{first.as_posix()}'\n"))
    with loop.assemble("cpu") as team:
        begun = loop.fresh_state(config, team).network.state_dict()
    assert all(torch.equal(value, begun[key]) for key, value in load_file(first).items())
    wrong = config.model_copy(update={"network": "banet"})
    with loop.assemble("cpu") as team, pytest.raises(InputError, match="is a banet_nano, but the network to train is"):
        loop.fresh_state(wrong, team)
