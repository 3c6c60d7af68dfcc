"""What a checkpoint file holds, told without running anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from unblur.networks.checkpoint_file import read_content
from unblur.networks.checkpoints import find_weights
from unblur.networks.registry import shown


@dataclass(frozen=True)
class Contents:
    """Of a file: its SHA-256 and length, where its weights are ("": bare), their number, the tensors of each type as
    they are stored, other weights beside them, and what else it holds, by name.
    """

    digest: str
    size_bytes: int
    weights_key: str
    tensors: int
    numbers: int
    types: dict[str, int]
    other_weights: list[str]
    extras: dict[str, str]


def contents_of(path: Path) -> Contents:
    """Read a checkpoint of whatever network. Raises InputError for a file that is none, or cannot be read."""
    content = read_content(path)
    state, key, others = find_weights(path, content.value)
    types = Counter(str(value.dtype).removeprefix("torch.") for value in state.values())
    extras: dict[str, str] = {}
    level, inside = content.value, ""
    for taken in key.split(".") if key else []:
        beside = {inside + str(name): value for name, value in level.items() if name != taken}
        extras |= {shown(name): _kind(value) for name, value in beside.items() if name not in others}
        level, inside = level[taken], f"{inside}{taken}."
    numbers = sum(value.numel() for value in state.values())
    return Contents(content.digest, content.size_bytes, key, len(state), numbers, dict(types), others, extras)


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"tensor {list(value.shape)}"
    if isinstance(value, dict | list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if isinstance(value, bool | int | float) and len(text) < 40 else type(value).__name__
