"""How BAG is trained: a generator against a critic (WGAN with gradient penalty), and a content loss.

L_D = mean D(G(b)) - mean D(s) + penalty * (|grad D(mixed)| - 1)^2 (Gulrajani et al., NeurIPS 2017), five steps a batch;
L_G = -mean D(G(b)) + weight * L_C, one step. L_C is the mean square between features of VGG19 (the paper), or between
pixels where its weights are not at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from unblur.core.bounds import COUNT_MAX
from unblur.core.config import Section
from unblur.core.errors import InputError
from unblur.networks.bag.content import read_vgg19
from unblur.networks.bag.network import Critic, Generator
from unblur.networks.family import Batch
from unblur.networks.recipe import Adam, Supervised, finite, kinds, load_adam


class Adversary(Section):
    """The game. `content`: "vgg19" as the paper, with the file of its weights in `vgg19`, or "pixels" without.

    `critic_width`: its first channels, 64 in pix2pix. `content_weight` 100 is the paper's, `penalty` 10 WGAN-GP's.
    """

    content: Literal["vgg19", "pixels"] = "vgg19"
    vgg19: Path | None = None
    content_weight: float = Field(100.0, ge=0)
    penalty: float = Field(10.0, ge=0)
    critic_steps: int = Field(5, ge=1, le=COUNT_MAX)
    critic_width: int = Field(64, ge=1, le=1024)


class Settings(Section):
    """The keys of a training configuration that are BAG's own."""

    start: Literal["torch", "identity"] = "torch"
    adversary: Adversary = Adversary()
    optimiser: Adam = Adam()


class AdversarialRecipe(Supervised):
    """`Supervised`, by a critic that learns beside the network, with an Adam of its own at the same rate.

    In each step the critic learns first, from what the generator has made; then the generator, on the same batch.
    """

    def __init__(self, network: Generator, settings: Mapping[str, Any]) -> None:
        """Raises InputError where VGG19 is asked for and its weights are not there."""
        own = Settings.model_validate({key: settings[key] for key in Settings.model_fields})
        super().__init__(network, settings, own.optimiser, self._generator_loss)
        self.network, self.own, self.seed = network, own, int(settings["seed"])
        device = self.parameters[0].device
        self.content = content_loss(own.adversary, device)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.critic = Critic(own.adversary.critic_width).to(device)
        self.judging = torch.optim.Adam(self.critic.parameters(), betas=own.optimiser.betas)
        self.judged = 0
        self.losses: dict[str, float] = {}
        self.rate = 0.0

    def initialise(self) -> None:
        """`start` "identity": a last convolution of zeros, so that the generator first gives its input back."""
        if self.own.start == "identity":
            last = self.network.decoder[-1]
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def step(self, batch: Batch) -> dict[str, float]:
        self.rate = batch.rate
        return super().step(batch) | self.losses

    def _generator_loss(self, restored: Tensor, sharp: Tensor) -> Tensor:
        """L_G, after the critic's own steps."""
        restored, sharp = restored.float().clamp(-1, 1), sharp.float()
        steps = [self._judge(restored.detach(), sharp) for _ in range(self.own.adversary.critic_steps)]
        self.critic.requires_grad_(False)
        content = self.content(restored, sharp)
        loss: Tensor = self.own.adversary.content_weight * content - self.critic(restored).mean()
        self.critic.requires_grad_(True)
        self.losses = {"content": finite(content, "content loss"), "critic": sum(steps) / len(steps)}
        return loss

    def _judge(self, fake: Tensor, sharp: Tensor) -> float:
        """One step of the critic, in float32; its L_D."""
        loss = self.critic(fake).mean() - self.critic(sharp).mean()
        loss = loss + self.own.adversary.penalty * self._steepness(fake, sharp)
        value = finite(loss, "critic's loss")
        for group in self.judging.param_groups:
            group["lr"] = self.rate
        self.judging.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if dist.is_available() and dist.is_initialized():  # of the network torch sees to it
            for parameter in self.critic.parameters():
                assert parameter.grad is not None
                dist.all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()
        self.judging.step()
        self.judged += 1
        return value

    def _steepness(self, fake: Tensor, sharp: Tensor) -> Tensor:
        """The gradient penalty: how far the critic's slope is from 1 somewhere between each pair of pictures.

        Where between is drawn from the seed and the number of the step alone, so that a resumed run draws the same.
        """
        drawn = np.random.default_rng([self.seed, 2, self.judged]).random((len(fake), 1, 1, 1), np.float32)
        share = torch.from_numpy(drawn).to(fake.device)
        mixed = (share * sharp + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(mixed).sum(), mixed, create_graph=True)
        away: Tensor = slope.flatten(1).norm(dim=1) - 1
        return away.square().mean()

    def state_dict(self) -> dict[str, Any]:
        judges = {"critic": self.critic.state_dict(), "judging": self.judging.state_dict(), "judged": self.judged}
        return super().state_dict() | judges

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        missing = {"critic", "judging", "judged"} - state.keys()
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        rest = dict(state)
        critic, judging, judged = (rest.pop(key) for key in ("critic", "judging", "judged"))
        if not isinstance(critic, dict) or not all(isinstance(value, Tensor) for value in critic.values()):
            raise ValueError("its critic is no state dict")
        if kinds(critic.items()) != kinds(self.critic.state_dict().items()):
            raise ValueError("its critic is not of this width")
        if type(judged) is not int or judged < 0:
            raise ValueError(f"it counts {judged!r} steps of the critic")
        super().load_state_dict(rest)
        load_adam(self.judging, list(self.critic.parameters()), judging)
        self.critic.load_state_dict(critic)
        self.judged = judged


def content_loss(game: Adversary, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """(restored, sharp) in [-1, 1] -> L_C. Raises InputError where VGG19 is asked for and its file is not named."""
    if game.content == "pixels":
        if game.vgg19 is not None:
            raise InputError('adversary.vgg19 names a file, but adversary.content is "pixels"; leave one of them out.')
        return F.mse_loss
    if game.vgg19 is None:
        raise InputError(
            "BAG's content loss compares features of VGG19 (conv3_3), whose weights are not part of unblur. Name "
            'torchvision\'s file (vgg19-dcbb9e9d.pth) as vgg19 under [adversary], or set content = "pixels" there to '
            "compare pixels instead (docs/networks.md tells what that changes)."
        )
    features = read_vgg19(game.vgg19).to(device)

    def between(restored: Tensor, sharp: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = features(sharp)
        return F.mse_loss(features(restored), wanted)

    return between
