"""A recipe of several optimisers and a critic, cut short at any iteration, goes on bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_family import FOREIGN, Foreign, ForeignSpec
from safetensors.torch import load_file
from torch import nn

from unblur.core.errors import InputError
from unblur.networks.family import Batch
from unblur.networks.recipe import descend, finite, load_adam
from unblur.networks.registry import registered
from unblur.training.config import load_config
from unblur.training.loop import train
from unblur.training.state import NAME

CONFIG = """
network = "adversary"
device = "cpu"
amp = "off"
threads = 1
save_every = 1
[data]
scenes = 2
scene_side_px = 48
workers = 0
[[stages]]
crop_px = 17
batch = 2
iterations = 6
first_lr = 1e-3
last_lr = 1e-4
"""


class Adversary:
    """A critic of one convolution, two steps of it to one of the network, and a moving average of its loss."""

    stop_at = 0

    def __init__(self, network: Foreign, settings: Mapping[str, Any]) -> None:
        self.network, self.seed = network, settings["seed"]
        self.critic = nn.Conv2d(3, 1, 3)
        self.of_network = torch.optim.Adam(network.parameters())
        self.of_critic = torch.optim.Adam(self.critic.parameters(), betas=(0.5, 0.9))
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.mean = 0.0
        self.steps = 0

    def initialise(self) -> None:
        torch.manual_seed(self.seed)
        self.critic.reset_parameters()

    def step(self, batch: Batch) -> dict[str, float]:
        self.steps += 1
        if self.steps == self.stop_at:
            raise FloatingPointError("The critic is gone")
        for _ in range(2):
            fake = batch.restore(batch.blurred).detach()
            loss = self.critic(fake).mean() - self.critic(batch.sharp).mean()
            self.mean = 0.9 * self.mean + 0.1 * finite(loss, "critic's loss")
            descend(self.of_critic, self.scaler, loss, batch.rate, max_norm=1.0)
        loss = -self.critic(batch.restore(batch.blurred)).mean() * (1 + self.mean)
        value = finite(loss)
        descend(self.of_network, self.scaler, loss, batch.rate)
        return {"loss": value, "critic": self.mean}

    def state_dict(self) -> dict[str, Any]:
        optimisers = {"of_network": self.of_network.state_dict(), "of_critic": self.of_critic.state_dict()}
        return {"critic": self.critic.state_dict(), "mean": self.mean, **optimisers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.critic.load_state_dict(state["critic"])
        load_adam(self.of_network, list(self.network.parameters()), state["of_network"])
        load_adam(self.of_critic, list(self.critic.parameters()), state["of_critic"])
        self.mean = float(state["mean"])


class Forgetful(Adversary):
    """Leaves out what the next step depends on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        fresh = self.of_critic.state_dict()
        super().load_state_dict(state)
        self.of_critic.load_state_dict(fresh)


def run(recipe: type[Adversary], folder: Path, stop_at: int = 0) -> Path:
    """Train in `folder`; `stop_at`: the step of this run in which it ends with an error."""
    path = folder.parent / "adversary.toml"
    path.write_text(CONFIG)
    stopping = type("Stopping", (recipe,), {"stop_at": stop_at})
    family = replace(FOREIGN, name="adversarial", presets={"adversary": ForeignSpec(4, 1)}, recipe=stopping)
    with registered(family):
        return train(load_config(path), folder)


def weights(path: Path) -> list[torch.Tensor]:
    return list(load_file(path).values())


@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_critic_and_two_optimisers_resume_bit_for_bit(tmp_path: Path, stop_at: int) -> None:
    whole = weights(run(Adversary, tmp_path / "whole"))
    with pytest.raises(InputError, match=f"The critic is gone in iteration {stop_at}"):
        run(Adversary, tmp_path / "cut", stop_at)
    assert torch.load(tmp_path / "cut" / NAME, weights_only=True)["done"] == stop_at - 1
    resumed = weights(run(Adversary, tmp_path / "cut"))
    assert all(map(torch.equal, whole, resumed))
    curves = [json.loads((tmp_path / name / "log.json").read_text())["curve"] for name in ("whole", "cut")]
    assert [set(row) for row in curves[0]] == [{"iteration", "lr", "loss", "critic", "seconds"}]


def test_a_recipe_that_forgets_gives_other_bits(tmp_path: Path) -> None:
    whole = weights(run(Adversary, tmp_path / "whole"))
    with pytest.raises(InputError, match="The critic is gone"):
        run(Forgetful, tmp_path / "cut", 4)
    resumed = weights(run(Forgetful, tmp_path / "cut"))
    assert not all(map(torch.equal, whole, resumed))


def test_the_state_of_another_recipe_is_a_sentence(tmp_path: Path) -> None:
    run(Adversary, tmp_path / "run")
    values = torch.load(tmp_path / "run" / NAME, weights_only=True)
    values["recipe"]["of_critic"] = values["recipe"]["of_network"]
    torch.save(values, tmp_path / "run" / NAME)
    with pytest.raises(InputError, match="is not the state of a training run"):
        run(Adversary, tmp_path / "run")
