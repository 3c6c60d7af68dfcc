"""A state that is damaged, or something else, is never gone on from, and is always a sentence."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unblur.core.errors import InputError
from unblur.networks.banet.network import BANet, BANetSpec
from unblur.networks.banet.recipe import Settings, recipe
from unblur.networks.family import Batch
from unblur.training.state import NAME, State

Values = dict[str, Any]


def fresh(width: int = 4) -> State:
    torch.manual_seed(1)
    network = BANet(BANetSpec(depth=1, stem_width=2, width=width, fuse_width=3))
    return State(network, recipe(network, {**Settings().model_dump(), "seed": 1, "amp": "off"}), "d" * 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run after two steps."""
    state = fresh()
    for _ in range(2):
        blurred, sharp = torch.rand(2, 1, 3, 4, 6)
        state.recipe.step(Batch(blurred, sharp, 1e-3, state.network))
    state.done, state.seconds = 2, 1.5
    state.curve = [{"iteration": 2, "lr": 1e-3, "loss": 0.5, "seconds": 1.5}]
    state.save(tmp_path)
    return tmp_path


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) and type(a) is type(b)


def test_what_was_saved_comes_back(folder: Path) -> None:
    saved, state = torch.load(folder / NAME, weights_only=True), fresh()
    assert state.resume(folder)
    assert (state.done, state.seconds) == (2, 1.5)
    assert same(state.curve, saved["curve"])
    assert same(dict(state.network.state_dict()), dict(saved["network"]))
    assert same(state.recipe.state_dict(), saved["recipe"])
    (folder / NAME).unlink()
    assert not fresh().resume(folder)


def test_a_state_from_before_recipes_held_their_own_is_gone_on_from(folder: Path) -> None:
    values = torch.load(folder / NAME, weights_only=True)
    torch.save({key: value for key, value in values.items() if key != "recipe"} | values["recipe"], folder / NAME)
    state = fresh()
    assert state.resume(folder)
    assert state.done == 2
    assert same(state.recipe.state_dict(), values["recipe"])


def test_damage_is_a_sentence_or_does_nothing(folder: Path) -> None:
    path, dice = folder / NAME, random.Random(8)
    whole = path.read_bytes()
    reference = fresh()
    reference.resume(folder)
    refusals = 0
    for _ in range(120):
        damaged, place = bytearray(whole), dice.randrange(len(whole))
        damaged[place : place + 2] = dice.randbytes(2)
        path.write_bytes(damaged[: dice.choice([len(whole), len(whole), place])])
        state = fresh()
        try:
            state.resume(folder)
        except InputError:
            refusals += 1
            continue
        assert same(dict(state.network.state_dict()), dict(reference.network.state_dict()))
        assert same(state.recipe.state_dict(), reference.recipe.state_dict())
        assert (state.done, state.curve) == (reference.done, reference.curve)
    assert refusals > 80


def put(*where: Any, value: Any) -> Callable[[Values], None]:
    """Another value at a place."""

    def change(values: Values) -> None:
        inner = values
        for key in where[:-1]:
            inner = inner[key]
        inner[where[-1]] = value

    return change


WRONG: dict[str, Callable[[Values], None]] = {
    "done is text": put("done", value="2"),
    "done is true": put("done", value=True),
    "done is negative": put("done", value=-1),
    "done is not there": lambda values: values.pop("done"),
    "more than a state has": put("more", value=1),
    "seconds are not a number": put("seconds", value=float("nan")),
    "a digest that is a number": put("config_digest", value=5),
    "curve is none": put("curve", value=None),
    "curve of text": put("curve", value=["row"]),
    "a row without its loss": put("curve", value=[{"iteration": 1, "lr": 0.1, "seconds": 1.0}]),
    "a row without end": put("curve", 0, "loss", value=float("inf")),
    "network is a list": put("network", value=[]),
    "network of numbers": put("network", "en_layer1.0.bias", value=1.0),
    "weights of another shape": put("network", "en_layer1.0.bias", value=torch.zeros(1)),
    "weights of another type": put("network", "en_layer1.0.bias", value=torch.zeros(2, dtype=torch.float64)),
    "weights that are sparse": put("network", "en_layer1.0.bias", value=torch.zeros(2).to_sparse()),
    "weights that lack one": lambda values: values["network"].pop("en_layer1.0.bias"),
    "a loss without end": put("curve", 0, "critic", value=float("inf")),
    "recipe is text": put("recipe", value="adam"),
    "more than a recipe has": put("recipe", "critic", value={}),
    "optimiser is text": put("recipe", "optimiser", value="adam"),
    "optimiser is empty": put("recipe", "optimiser", value={}),
    "no moments": put("recipe", "optimiser", "state", value={}),
    "moments of a stranger": put("recipe", "optimiser", "state", "x", value={}),
    "moments of another shape": put("recipe", "optimiser", "state", 0, "exp_avg", value=torch.zeros(1)),
    "moments are numbers": put("recipe", "optimiser", "state", 0, "exp_avg", value=0.5),
    "groups are text": put("recipe", "optimiser", "param_groups", value="groups"),
    "no group": put("recipe", "optimiser", "param_groups", value=[]),
    "a group of text": put("recipe", "optimiser", "param_groups", 0, value="group"),
    "other parameters": put("recipe", "optimiser", "param_groups", 0, "params", value=[0]),
    "other betas": put("recipe", "optimiser", "param_groups", 0, "betas", value=(0.5, 0.5)),
    "betas are text": put("recipe", "optimiser", "param_groups", 0, "betas", value="0.9"),
    "scaler is a list": put("recipe", "scaler", value=[1]),
    "scaler of text": put("recipe", "scaler", "scale", value="65536"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_state_of_the_wrong_kind_is_a_sentence_and_changes_nothing(folder: Path, what: str) -> None:
    values = torch.load(folder / NAME, weights_only=True)
    WRONG[what](values)
    torch.save(values, folder / NAME)
    state = fresh()
    before = copy.deepcopy(state.network.state_dict())
    with pytest.raises(InputError, match=r"is not the state of a training run \(.*\); move it away to start afresh"):
        state.resume(folder)
    assert same(dict(state.network.state_dict()), dict(before))
    assert state.done == 0


@pytest.mark.parametrize("value", [None, 5, [], {}, torch.zeros(2)])
def test_a_file_that_holds_something_else(folder: Path, value: Any) -> None:
    torch.save(value, folder / NAME)
    with pytest.raises(InputError, match="is not the state of a training run"):
        fresh().resume(folder)


def test_the_state_of_another_network(folder: Path) -> None:
    with pytest.raises(InputError, match="its weights are not those of this network"):
        fresh(width=6).resume(folder)


def test_a_full_disk_names_itself_and_keeps_the_last_state(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own writer turns the disk's error into one about the inside of a zip archive."""
    before, state = (folder / NAME).read_bytes(), fresh()
    state.resume(folder)
    state.done = 3

    def full(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:5000])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"[Dd]isk is full"):
        state.save(folder)
    assert (folder / NAME).read_bytes() == before
    assert [path.name for path in folder.iterdir()] == [NAME]
