"""Where a run stands, in one file that is whole or not there; a kill at any moment costs work, never the run."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from torch import Tensor, nn

from unblur.core.artefacts import write_bytes
from unblur.core.errors import InputError
from unblur.networks.checkpoint_file import read_content

NAME = "state.pt"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)


class _Row(_Strict):
    iteration: int = Field(ge=1)
    lr: FiniteFloat
    loss: FiniteFloat
    seconds: FiniteFloat


class _Moments(_Strict):
    """What Adam keeps of one parameter."""

    step: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


class _Optimiser(_Strict):
    state: dict[int, _Moments]
    param_groups: list[dict[str, Any]]


class _Saved(_Strict):
    """The file's contents."""

    network: dict[str, Tensor]
    optimiser: _Optimiser
    scaler: dict[str, float | int]
    config_digest: str
    done: int = Field(ge=0)
    seconds: FiniteFloat = Field(ge=0)
    curve: list[_Row]


@dataclass
class State:
    """A run after `done` iterations. `curve` is a list of rows for the log."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    config_digest: str
    done: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write `folder`/state.pt atomically. Raises InputError where it cannot be written."""
        values = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "config_digest": self.config_digest,
            "done": self.done,
            "seconds": self.seconds,
            "curve": self.curve,
        }
        # Serialised in memory: torch's own writer hides which error the disk gave.
        data = io.BytesIO()
        torch.save(values, data)
        write_bytes(folder / NAME, data.getvalue())

    def resume(self, folder: Path) -> bool:
        """Go on from `folder`/state.pt; False when there is none.

        Raises InputError when it belongs to another configuration, is damaged or no such state.
        """
        path = folder / NAME
        if not path.exists():
            return False
        try:
            saved = _Saved.model_validate(read_content(path).value)
        except (InputError, ValidationError) as error:
            raise _no_state(path, error) from error
        if saved.config_digest != self.config_digest:
            raise InputError(
                f"{path} belongs to a run of another configuration ({saved.config_digest[:12]}, this one is "
                f"{self.config_digest[:12]}): resuming would mix two recipes. Choose another --output, or restore the "
                f"configuration stored beside it."
            )
        try:
            self._take(saved)
        except (ValueError, LookupError, RuntimeError, TypeError) as error:
            raise _no_state(path, error) from error
        return True

    def _take(self, saved: _Saved) -> None:
        """Raises ValueError for tensors that are not those of this network, and what torch raises for the rest."""
        own = self.network.state_dict()
        if _kinds(saved.network) != _kinds(own):
            raise ValueError("its weights are not those of this network")
        parameters = list(self.network.parameters())
        if saved.done and sorted(saved.optimiser.state) != list(range(len(parameters))):
            raise ValueError("its moments are not those of this network")
        for k, moments in saved.optimiser.state.items():
            wanted = _kinds({"step": torch.zeros(()), "exp_avg": parameters[k], "exp_avg_sq": parameters[k]})
            if _kinds(dict(moments)) != wanted:
                raise ValueError(f"the moments of parameter {k} are not of its shape")
        groups = self.optimiser.state_dict()["param_groups"]
        if [_settings(group) for group in saved.optimiser.param_groups] != [_settings(group) for group in groups]:
            raise ValueError("its optimiser has other settings")
        self.network.load_state_dict(saved.network)
        self.optimiser.load_state_dict(saved.optimiser.model_dump())
        self.scaler.load_state_dict(saved.scaler)
        self.done, self.seconds = saved.done, saved.seconds
        self.curve = [row.model_dump() for row in saved.curve]


def _kinds(tensors: dict[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    """Shape and type of each; a tensor that is not dense is like no other."""
    return {
        key: (tuple(value.shape), value.dtype)
        if value.layout == torch.strided and not value.is_nested
        else (value.layout,)
        for key, value in tensors.items()
    }


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """What a group of parameters is trained with; the rate is set anew in every iteration."""
    return {key: value for key, value in group.items() if key != "lr"}


def _no_state(path: Path, error: Exception) -> InputError:
    reason = str(error).partition(";")[0].removeprefix(f"{path} ")  # the cure of another file is not this one's
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
    return InputError(
        f"{path} is not the state of a training run ({reason.splitlines()[0]}); move it away to start afresh."
    )
