"""Read and write checkpoints. Nothing in a file is ever executed, and nothing unhealthy gets through."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
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
from unblur.networks.pixel_form import PixelForm
from unblur.networks.registry import FAMILIES, Recognised, recognise

WRAPPERS = ("model_state", "state_dict", "params_ema", "params")
"""Keys under which training scripts put the weights, in the order they are preferred."""

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

FOREIGN_CODE = re.compile(r"nsupported (?:global: )?GLOBAL ([\w.]+)")
"""How torch's restricted unpickler names what a file wanted it to import or call."""

# Readers of damaged files fail in as many ways as there are bytes to damage; each of these was seen or is documented.
UNREADABLE = (
    *(pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError, OSError, LookupError),
    *(AttributeError, TypeError, ImportError, AssertionError, OverflowError, MemoryError, struct.error),
)


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

    def form(self, size: tuple[int, int] | None, contract: PixelContract) -> PixelForm:
        """The network's exact form at (height, width), or for every size, taking and giving pixels of `contract`.

        Float32, in eval mode; its weights are copies. `contract` is this checkpoint's own, or that one `as_uint8`.
        """
        flip = contract.channel_order != self.contract.channel_order
        form = FAMILIES[self.recognised.family].form(self.network, size, flip)
        return PixelForm(form, self.contract, contract).float().eval()


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
    try:
        recognised = recognise({key: tuple(value.shape) for key, value in state.items()})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    state = {key: _float32(path, key, value) for key, value in state.items()}
    family = FAMILIES[recognised.family]
    network = family.build(recognised.spec)
    network.load_state_dict(state, strict=True)
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
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            kind = type(value).__name__
            raise InputError(
                f"{path}: entry {key!r} is {kind}; a state dict has named tensors only. "
                f"Save network.state_dict() alone, or under one of the keys {', '.join(WRAPPERS)}."
            )
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _float32(path: Path, key: str, value: Tensor) -> Tensor:
    """One weight as dense float32. Raises InputError for another kind of number, and for NaN and infinity."""
    if value.dtype not in FLOATS or value.layout != torch.strided or value.device.type != "cpu":
        kind = f"{value.layout} {value.dtype} on {value.device.type}"
        raise InputError(
            f"{path}: {key} is {kind}; unblur loads dense {', '.join(str(d) for d in FLOATS)}: "
            "save the network's floating-point weights, not a quantised copy."
        )
    value = value.float()
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        raise InputError(
            f"{path}: {key} holds {bad} value(s) that are NaN or infinite in float32; "
            "this checkpoint is damaged or its training diverged: use an earlier one."
        )
    return value


def _read(path: Path) -> Any:
    """What the file holds, without running any of it. Raises InputError."""
    if path.is_dir():
        raise InputError(f"Checkpoint {path} is a directory; name the .pth, .pt or .safetensors file in it.")
    try:
        if not path.exists():
            raise InputError(f"Checkpoint {path} does not exist; check the name.")
        if not path.is_file():
            raise InputError(f"Checkpoint {path} is not a regular file; name the .pth, .pt or .safetensors file.")
        if path.stat().st_size == 0:
            raise InputError(f"Checkpoint {path} is empty (0 bytes); copy or download it again.")
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"Checkpoint {path} cannot be opened: {error.strerror}; check its permissions.") from error
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # torch remarks on pickle protocols; what cannot be read is an error below anyway.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if code := FOREIGN_CODE.search(str(error)):
            raise InputError(
                f"{path} asks to run code ({code[1]}), which unblur never does; "
                "save the bare state dict (torch.save(network.state_dict(), ...)) or safetensors."
            ) from error
        # The unpickler's own text advises to switch the safety off: not repeated.
        first = "" if isinstance(error, pickle.UnpicklingError) else str(error).splitlines()[:1]
        reason = f"{type(error).__name__}: {first[0]}".split(". ")[0] if first else type(error).__name__
        raise InputError(
            f"{path} is not a readable checkpoint: truncated, damaged or another kind of file ({reason}); "
            "copy or download it again, as .pth, .pt or .safetensors."
        ) from error
