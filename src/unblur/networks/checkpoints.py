"""Read and write checkpoints. Nothing in a file is ever executed, and nothing unhealthy gets through."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unblur.core.artefacts import atomic_path, file_digest
from unblur.core.errors import InputError
from unblur.images.contract import PixelContract
from unblur.networks.registry import FAMILIES, Recognised, recognise

WRAPPERS = ("model_state", "state_dict", "params_ema", "params")
"""Keys under which training scripts put the weights, in the order they are preferred."""


@dataclass(frozen=True)
class Checkpoint:
    """A recognised checkpoint: the network in eval mode on the CPU, what it is, and the file's SHA-256."""

    path: Path
    digest: str
    recognised: Recognised
    contract: PixelContract
    network: nn.Module

    @property
    def name(self) -> str:
        return self.recognised.name


def load_network(path: str | Path) -> nn.Module:
    """The network of a checkpoint in eval mode: (B, 3, H, W) BGR in [-0.5, 0.5] -> the restored tensor.

    Raises InputError as `load_checkpoint` does.
    """
    return load_checkpoint(path).network


def load_checkpoint(path: str | Path, channel_order: Literal["bgr", "rgb"] | None = None) -> Checkpoint:
    """Load a .pth, .pt or .safetensors file and recognise its network from names and shapes.

    `channel_order` overrides the order the network was trained with: weights do not tell it.
    Raises InputError for a file that is missing, unreadable, no checkpoint, unrecognised, or holds NaN or
    infinity.
    """
    path = Path(path)
    state = _state_dict(path)
    recognised = recognise({key: tuple(value.shape) for key, value in state.items()})
    for key, value in state.items():
        bad = int((~torch.isfinite(value)).sum())
        if bad:
            raise InputError(
                f"{path}: {key} holds {bad} value(s) that are NaN or infinite; "
                "this checkpoint is damaged or its training diverged: use an earlier one."
            )
    family = FAMILIES[recognised.family]
    network = family.build(recognised.spec)
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=True)
    network.eval().requires_grad_(False)
    contract = replace(family.contract, channel_order=channel_order) if channel_order else family.contract
    return Checkpoint(path, file_digest(path), recognised, contract, network)


def save_checkpoint(network: nn.Module, path: str | Path) -> None:
    """Write the weights as safetensors, whole or not at all."""
    with atomic_path(Path(path)) as temporary:
        state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
        save_file(state, temporary)


def _state_dict(path: Path) -> dict[str, Tensor]:
    """The bare tensors of the file, without wrappers and without DataParallel's prefix."""
    loaded: Any = _read(path)
    for wrapper in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not loaded:
        raise InputError(f"{path} holds {type(loaded).__name__}, not a state dict of named tensors.")
    state = dict(loaded)
    if all(isinstance(key, str) and key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    for key, value in state.items():
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise InputError(f"{path}: entry {key!r} is {kind}, not a tensor; is this a state dict?")
        if not value.is_floating_point():
            raise InputError(f"{path}: {key} is {value.dtype}; unblur loads floating-point weights only.")
    return state


def _read(path: Path) -> Any:
    if not path.exists():
        raise InputError(f"Checkpoint {path} does not exist.")
    if path.is_dir():
        raise InputError(f"Checkpoint {path} is a directory; name the .pth, .pt or .safetensors file in it.")
    if path.stat().st_size == 0:
        raise InputError(f"Checkpoint {path} is empty (0 bytes); copy or download it again.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"{path} is not a plain checkpoint: {first} unblur never runs code from a checkpoint; "
            "save the bare state dict (torch.save(network.state_dict(), ...)) or safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError, KeyError, AttributeError,
            IndexError, TypeError, ModuleNotFoundError, ImportError) as error:  # fmt: skip
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as a checkpoint ({first}); copy or download it again.") from error
