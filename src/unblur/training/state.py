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
from unblur.networks.family import Recipe
from unblur.networks.recipe import kinds

NAME = "state.pt"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)


class _Row(_Strict):
    """Beside these the recipe's other losses, by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, FiniteFloat]

    iteration: int = Field(ge=1)
    lr: FiniteFloat
    loss: FiniteFloat
    seconds: FiniteFloat


class _Saved(_Strict):
    """The file's contents."""

    network: dict[str, Tensor]
    recipe: dict[str, Any]
    config_digest: str
    done: int = Field(ge=0)
    seconds: FiniteFloat = Field(ge=0)
    curve: list[_Row]


@dataclass
class State:
    """A run after `done` iterations. `curve` is a list of rows for the log."""

    network: nn.Module
    recipe: Recipe
    config_digest: str
    done: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write `folder`/state.pt atomically. Raises InputError where it cannot be written."""
        values = {
            "network": self.network.state_dict(),
            "recipe": self.recipe.state_dict(),
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
            saved = _Saved.model_validate(_as_now(read_content(path).value))
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
        if kinds(saved.network.items()) != kinds(own.items()):
            raise ValueError("its weights are not those of this network")
        self.recipe.load_state_dict(saved.recipe)
        self.network.load_state_dict(saved.network)
        self.done, self.seconds = saved.done, saved.seconds
        self.curve = [row.model_dump() for row in saved.curve]


def _as_now(values: Any) -> Any:
    """A state from before recipes held their own: the optimiser and the loss scaler beside the network."""
    if isinstance(values, dict) and {"optimiser", "scaler"} <= values.keys() and "recipe" not in values:
        inner = {key: values[key] for key in ("optimiser", "scaler")}
        return {key: value for key, value in values.items() if key not in inner} | {"recipe": inner}
    return values


def _no_state(path: Path, error: Exception) -> InputError:
    reason = str(error).partition(";")[0].removeprefix(f"{path} ")  # the cure of another file is not this one's
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
    return InputError(
        f"{path} is not the state of a training run ({reason.splitlines()[0]}); move it away to start afresh."
    )
