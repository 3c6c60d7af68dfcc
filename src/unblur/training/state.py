"""Where a run stands, in one file that is whole or not there; a kill at any moment costs work, never the run."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unblur.core.artefacts import atomic_path
from unblur.core.errors import InputError

NAME = "state.pt"


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
        """Write `folder`/state.pt atomically."""
        values = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "config_digest": self.config_digest,
            "done": self.done,
            "seconds": self.seconds,
            "curve": self.curve,
        }
        with atomic_path(folder / NAME) as temporary:
            torch.save(values, temporary)

    def resume(self, folder: Path) -> bool:
        """Go on from `folder`/state.pt; False when there is none.

        Raises InputError when it belongs to another configuration or cannot be read.
        """
        path = folder / NAME
        if not path.exists():
            return False
        try:
            values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            digest = values["config_digest"]
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, OSError) as error:
            raise InputError(f"{path} is not the state of a training run; move it away to start afresh.") from error
        if digest != self.config_digest:
            raise InputError(
                f"{path} belongs to a run of another configuration ({digest[:12]}, this one is "
                f"{self.config_digest[:12]}): resuming would mix two recipes. Choose another --output, or restore the "
                f"configuration stored beside it."
            )
        self.network.load_state_dict(values["network"])
        self.optimiser.load_state_dict(values["optimiser"])
        self.scaler.load_state_dict(values["scaler"])
        self.done, self.seconds, self.curve = values["done"], values["seconds"], values["curve"]
        return True
