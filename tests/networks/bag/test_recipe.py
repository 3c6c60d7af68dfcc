"""BAG's game: its losses as the papers state them, its VGG19, and a run that is killed and goes on bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from unblur.core.console import Silent
from unblur.core.errors import InputError
from unblur.networks.bag.content import LAYERS, POOLED, read_vgg19
from unblur.networks.bag.network import BAGSpec, Generator
from unblur.networks.bag.recipe import AdversarialRecipe, Settings
from unblur.networks.family import Batch
from unblur.training.config import load_config
from unblur.training.loop import train
from unblur.training.state import NAME

CONFIG = """
network = "bag_narrow"
seed = 5
device = "cpu"
amp = "off"
threads = 1
save_every = {save_every}

[data]
scenes = 2
scene_side_px = 48
workers = 0

[adversary]
content = "pixels"
critic_width = 4
critic_steps = 2

[[stages]]
crop_px = 16
batch = 2
iterations = 6
first_lr = 1e-3
last_lr = 1e-4
decay = "linear"
"""


def game(**adversary: Any) -> dict[str, Any]:
    chosen = {"content": "pixels", "critic_width": 4, "critic_steps": 3} | adversary
    return Settings(adversary=chosen).model_dump() | {"seed": 3, "amp": "off"}


def recipe_of(**adversary: Any) -> AdversarialRecipe:
    torch.manual_seed(1)
    return AdversarialRecipe(Generator(BAGSpec(2, 1, 1, 2)), game(**adversary))


def pictures(seed: int) -> Tensor:
    return torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(seed)) * 2 - 1


class KilledAt(Silent):
    """Stops the loop before iteration k: what is saved by then is what a kill leaves."""

    def __init__(self, k: int) -> None:
        self.k = k

    def track(self, items: Iterable[Any], text: str, total: int) -> Iterator[Any]:
        for k, item in enumerate(items):
            if text.startswith("training") and k == self.k:
                raise KeyboardInterrupt
            yield item


@pytest.mark.parametrize("save_every", [1, 2])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, save_every: int) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(save_every=save_every))
    config = load_config(path)
    whole = load_file(train(config, tmp_path / "whole"))
    state = torch.load(tmp_path / "whole" / NAME, weights_only=True)["recipe"]
    for k in range(1, 6):
        folder = tmp_path / f"killed-{k}"
        with pytest.raises(KeyboardInterrupt):
            train(config, folder, KilledAt(k))
        resumed = load_file(train(config, folder))
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
        again = torch.load(folder / NAME, weights_only=True)["recipe"]
        assert all(torch.equal(value, again["critic"][key]) for key, value in state["critic"].items())
        assert again["judged"] == state["judged"] == 12


def test_a_run_that_forgot_its_critic_would_give_other_bits(tmp_path: Path) -> None:
    """So the test above can fail."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(save_every=1))
    config = load_config(path)
    whole = load_file(train(config, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "killed", KilledAt(3))
    state = torch.load(tmp_path / "killed" / NAME, weights_only=True)
    state["recipe"]["judged"] += 1  # other places between the pictures
    torch.save(state, tmp_path / "killed" / NAME)
    other = load_file(train(config, tmp_path / "killed"))
    assert not all(torch.equal(whole[key], other[key]) for key in whole)


def test_losses_are_those_of_the_papers() -> None:
    recipe = recipe_of(content_weight=7.0)
    restored, sharp = pictures(1) * 1.5, pictures(2)
    restored.requires_grad_()
    losses = recipe.step(Batch(restored, sharp, 1e-3, lambda x: x))
    clamped = restored.clamp(-1, 1)
    content = float(F.mse_loss(clamped, sharp).detach())
    assert losses["content"] == pytest.approx(content, rel=1e-6)
    assert losses["loss"] == pytest.approx(7 * content - float(recipe.critic(clamped).mean().detach()), rel=1e-5)
    assert recipe.judged == 3


def test_the_penalty_is_how_far_the_slope_is_from_one() -> None:
    recipe = recipe_of()

    class Plane(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x.sum()

    recipe.critic = Plane()  # type: ignore[assignment]
    slope = 0.5 * (3 * 16 * 16) ** 0.5
    assert float(recipe._steepness(pictures(1), pictures(2))) == pytest.approx((slope - 1) ** 2, rel=1e-5)


def test_the_critic_learns_and_leaves_the_generator_alone() -> None:
    recipe = recipe_of()
    before = {key: value.clone() for key, value in recipe.network.state_dict().items()}
    recipe.rate = 1e-3
    losses = [recipe._judge(pictures(1), pictures(2)) for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(before[key], value) for key, value in recipe.network.state_dict().items())


def test_identity_gives_the_input_back() -> None:
    torch.manual_seed(1)
    network = Generator(BAGSpec(2, 1, 1, 2))
    AdversarialRecipe(network, game() | {"start": "identity"}).initialise()
    assert torch.equal(network(pictures(1)), pictures(1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop("critic"), "lacks critic"),
        (lambda s: s.update(critic={"layers.0.weight": torch.zeros(1)}), "not of this width"),
        (lambda s: s.update(critic=[1]), "no state dict"),
        (lambda s: s.update(judged=-1), "counts -1"),
        (lambda s: s.update(more=1), "holds"),
    ],
)
def test_a_state_that_is_none(change: Any, reason: str) -> None:
    recipe = recipe_of()
    recipe.step(Batch(pictures(1), pictures(2), 1e-3, recipe.network))
    state = recipe.state_dict()
    change(state)
    with pytest.raises(ValueError, match=reason):
        recipe_of().load_state_dict(state)


def torchvisions() -> nn.Sequential:
    """The beginning of VGG19 in torchvision's order and numbers."""
    layers: list[nn.Module] = []
    for k, (into, out) in LAYERS.items():
        layers += [nn.MaxPool2d(2)] if k in POOLED else []
        layers += [nn.Conv2d(into, out, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_content_is_torchvisions_first_fifteen_layers(tmp_path: Path) -> None:
    torch.manual_seed(2)
    features = torchvisions()
    assert len(features) == 15
    path = tmp_path / "vgg19.pth"
    rest = {"classifier.0.weight": torch.zeros(1), "features.16.weight": torch.zeros(256, 256, 3, 3)}
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()} | rest, path)
    picture = pictures(4)
    mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = ((picture + 1) / 2 - mean[:, None, None]) / spread[:, None, None]
    content = read_vgg19(path)
    with torch.inference_mode():
        assert torch.allclose(content(picture), features(normal), rtol=1e-5, atol=1e-6)
    assert not any(p.requires_grad for p in content.parameters())
    recipe = recipe_of(content="vgg19", vgg19=path)
    restored = pictures(1).requires_grad_()
    losses = recipe.step(Batch(restored, pictures(2), 1e-3, lambda x: x))
    with torch.inference_mode():
        assert losses["content"] == pytest.approx(float(F.mse_loss(content(restored), content(pictures(2)))), rel=1e-4)
    assert restored.grad is not None


def test_without_the_weights_of_vgg19_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'vgg19-dcbb9e9d.pth.*content = "pixels"'):
        recipe_of(content="vgg19")
    with pytest.raises(InputError, match="does not exist"):
        recipe_of(content="vgg19", vgg19=tmp_path / "vgg19.pth")
    with pytest.raises(InputError, match="leave one of them out"):
        recipe_of(content="pixels", vgg19=tmp_path / "vgg19.pth")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"no features.0.bias of \[64\]"):
        recipe_of(content="vgg19", vgg19=tmp_path / "other.pth")


def test_the_file_of_vgg19_is_named_from_the_configurations_folder_and_counts_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    path = tmp_path / "configs" / "config.toml"
    path.write_text(CONFIG.format(save_every=1).replace('content = "pixels"', 'vgg19 = "../vgg19.pth"'))
    config = load_config(path)
    assert config.adversary.vgg19 == tmp_path / "vgg19.pth"  # type: ignore[attr-defined]
    digests = set()
    for text in ("one", "two"):
        (tmp_path / "vgg19.pth").write_text(text)
        digests.add(config.digest())
    assert len(digests) == 2
