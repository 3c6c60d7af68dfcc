"""Parts that recipes of several papers are made of: Adam, Kaiming's weights, and the training with one loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from unblur.core.config import Section
from unblur.networks.family import Batch


class Adam(Section):
    """Adam. `max_norm` clips the gradient's norm; 0 leaves it alone."""

    betas: tuple[float, float] = (0.9, 0.999)
    max_norm: float = Field(0.0, ge=0)


class Supervised:
    """A `Recipe` of one loss between restored and sharp pixels, minimised by one Adam.

    `settings`: those of a Family; `loss`: (restored, sharp) -> scalar; `first`: sets the first weights, None keeps
    torch's own.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: Mapping[str, Any],
        adam: Adam,
        loss: Callable[[Tensor, Tensor], Tensor],
        first: Callable[[], None] | None = None,
    ) -> None:
        self.parameters = list(network.parameters())
        self.adam, self.loss, self.first = adam, loss, first
        self.optimiser = torch.optim.Adam(self.parameters, betas=adam.betas)
        device = self.parameters[0].device.type
        self.scaler = torch.amp.GradScaler(device, enabled=settings["amp"] == "fp16")

    def initialise(self) -> None:
        if self.first is not None:
            self.first()

    def step(self, batch: Batch) -> dict[str, float]:
        loss = self.loss(batch.restore(batch.blurred), batch.sharp)
        value = finite(loss)
        descend(self.optimiser, self.scaler, loss, batch.rate, self.adam.max_norm)
        return {"loss": value}

    def state_dict(self) -> dict[str, Any]:
        return {"optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state.keys() != {"optimiser", "scaler"}:
            raise ValueError(f"it holds {sorted(map(str, state))} of its optimiser")
        scaler = _Scaler.model_validate({"values": state["scaler"]}).values
        load_adam(self.optimiser, self.parameters, state["optimiser"])
        self.scaler.load_state_dict(scaler)


def finite(loss: Tensor, name: str = "loss") -> float:
    """The number in it. Raises FloatingPointError for one that is not finite."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FloatingPointError(f"The {name} is {value}")
    return value


def descend(
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    loss: Tensor,
    rate: float,
    max_norm: float = 0.0,
) -> None:
    """One step down `loss` at this rate; the gradient no longer than `max_norm`, where that is not 0."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(scaler.scale(loss))
    if max_norm:
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], max_norm)
    scaler.step(optimiser)
    scaler.update()


def kaiming(convolutions: Sequence[nn.Conv2d | nn.ConvTranspose2d], seed: int, slope: float) -> None:
    """Weights of Kaiming's scale (He et al., ICCV 2015) for LeakyReLU of `slope`, biases of 0; in place, on any device.

    So scaled, convolutions without normalisation neither let the signal fade nor swell.
    """
    gain = math.sqrt(2 / (1 + slope**2))
    generator = torch.Generator().manual_seed(seed)
    for conv in convolutions:
        # Inputs that reach one output: a transposed convolution of stride s spreads its kernel over s x s of them.
        fan_in = conv.in_channels * math.prod(conv.kernel_size) / conv.groups
        if isinstance(conv, nn.ConvTranspose2d):
            fan_in /= math.prod(conv.stride)
        drawn = torch.empty(conv.weight.shape).normal_(0, gain / math.sqrt(fan_in), generator=generator)
        with torch.no_grad():
            conv.weight.copy_(drawn)
            if conv.bias is not None:
                conv.bias.zero_()


def load_adam(optimiser: torch.optim.Adam, parameters: Sequence[nn.Parameter], state: Any) -> None:
    """`optimiser.load_state_dict` for a state that may be anything, but is of a run that has begun.

    Raises ValueError for one that is not of an Adam with these settings over such parameters, and what torch raises.
    """
    saved = _Optimiser.model_validate(state)
    # Not all of them: what never had a gradient has no moments.
    if not saved.state or not set(range(len(parameters))).issuperset(saved.state):
        raise ValueError("its moments are not those of this network")
    for k, moments in saved.state.items():
        wanted = kinds({"step": torch.zeros(()), "exp_avg": parameters[k], "exp_avg_sq": parameters[k]}.items())
        if kinds(dict(moments).items()) != wanted:
            raise ValueError(f"the moments of parameter {k} are not of its shape")
    groups = optimiser.state_dict()["param_groups"]
    if [_settings(group) for group in saved.param_groups] != [_settings(group) for group in groups]:
        raise ValueError("its optimiser has other settings")
    optimiser.load_state_dict(saved.model_dump())


def kinds(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, tuple[Any, ...]]:
    """Shape and type of each; a tensor that is not dense is like no other."""
    return {
        key: (tuple(value.shape), value.dtype)
        if value.layout == torch.strided and not value.is_nested
        else (value.layout,)
        for key, value in tensors
    }


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """What a group of parameters is trained with; the rate is set anew in every iteration."""
    return {key: value for key, value in group.items() if key != "lr"}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)


class _Moments(_Strict):
    """What Adam keeps of one parameter."""

    step: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


class _Optimiser(_Strict):
    state: dict[int, _Moments]
    param_groups: list[dict[str, Any]]


class _Scaler(_Strict):
    values: dict[str, float | int]
