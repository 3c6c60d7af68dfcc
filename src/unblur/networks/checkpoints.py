"""Read and write checkpoints. Nothing in a file is ever executed, and nothing unhealthy gets through."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from unblur.core.artefacts import write_bytes
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import ChangedError, InputError
from unblur.images.contract import PixelContract
from unblur.networks.checkpoint_file import CHECKSUM_KEY, FileContent, read_content, weights_digest
from unblur.networks.family import Exactness, Family
from unblur.networks.pixel_form import PixelForm
from unblur.networks.registry import FAMILIES, Recognised, families, recognise, registered, shown

AVERAGED = ("params_ema", "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema")
"""Keys of training scripts for weights that were averaged over the training: the better ones, taken first."""

WRAPPERS = ("model_state", "model_state_dict", "state_dict", "params", "model", "generator")
"""Keys for the weights as the last step left them."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "net_g.", "netG.", "network.", "generator.")
"""What DataParallel, torch.compile, and Lightning's and other scripts' modules put before every name."""

DEEPEST = 4
"""Wrappers inside each other: a pickle may hold itself."""

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Checkpoint:
    """A recognised checkpoint: the network in eval mode on the CPU, what it is, and the file's SHA-256.

    `weights_key`: where the file has them, such as "state_dict_ema"; "" where it holds them bare. `size_bytes`: of the
    file.
    """

    path: Path
    digest: str
    recognised: Recognised
    contract: PixelContract
    network: nn.Module
    weights_key: str = ""
    size_bytes: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the name of its file, which is loaded again: another process gets the same network, or an
        InputError."""
        family = self.recognised.family
        guest = None if family in FAMILIES else family
        return _load_again, (self.path.absolute(), self.contract.channel_order, self.digest, guest)

    @property
    def name(self) -> str:
        return self.recognised.name

    @property
    def exact(self) -> Exactness[Any]:
        """How its family makes graphs of it and proves them."""
        exact: Exactness[Any] = self.recognised.family.exact
        return exact

    def form(self, size: Size | None, contract: PixelContract) -> PixelForm:
        """The network's exact form at (height, width), or for every size, taking and giving pixels of `contract`.

        Float32, in eval mode; its weights are copies. `contract` is this checkpoint's own, or that one `as_uint8`.
        """
        flip = contract.channel_order != self.contract.channel_order
        form = self.exact.form(self.network, size, flip)
        return PixelForm(form, self.contract, contract).float().eval()


def load_network(path: str | Path) -> nn.Module:
    """The network of a checkpoint in eval mode: (B, 3, H, W) in the pixels of its paper -> the restored tensor.

    Raises InputError as `load_checkpoint` does.
    """
    return load_checkpoint(path).network


def load_checkpoint(
    path: str | Path, channel_order: Literal["bgr", "rgb"] | None = None, progress: Progress = SILENT
) -> Checkpoint:
    """Load a .pth, .pt or .safetensors file and recognise its network from names and shapes.

    `channel_order` overrides the order the network was trained with: weights do not tell it. Of several sets of
    weights the averaged one is taken; `progress` is told which. The digest is that of the bytes that were loaded, also
    while another process replaces the file.
    Raises InputError for a file that is missing, unreadable, damaged, no checkpoint, unrecognised, or holds NaN or
    infinity.
    """
    path = Path(path)
    content = read_content(path)
    state, key, others = find_weights(path, content.value)
    if key:
        progress.note(f"{path}: took the weights under {key!r}" + (f", not {', '.join(others)}" if others else ""))
    _check_sizes(path, state, content)
    try:
        recognised = recognise({name: tuple(value.shape) for name, value in state.items()})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    state = {name: _float32(path, name, value) for name, value in state.items()}
    family = recognised.family
    network: nn.Module = family.build(recognised.spec)
    network.load_state_dict(state, strict=True)
    network.eval().requires_grad_(False)
    contract = replace(family.contract, channel_order=channel_order) if channel_order else family.contract
    return Checkpoint(path, content.digest, recognised, contract, network, key, content.size_bytes)


def _load_again(
    path: Path, channel_order: Literal["bgr", "rgb"], digest: str, guest: Family[Any, Any] | None
) -> Checkpoint:
    unknown = guest is not None and guest.name not in {family.name for family in families()}
    with registered(guest) if guest is not None and unknown else nullcontext():
        loaded = load_checkpoint(path, channel_order)
    if loaded.digest != digest:
        raise ChangedError(f"{path} has changed since it was loaded; run the same command again.")
    return loaded


def save_checkpoint(network: nn.Module, path: str | Path) -> None:
    """Write the weights as safetensors with a checksum, whole or not at all.

    Raises InputError where the file cannot be written.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    # Serialised in memory: safetensors' own writer hides which error the disk gave.
    write_bytes(Path(path), safetensors.torch.save(state, {CHECKSUM_KEY: weights_digest(state)}))


def find_weights(path: Path, loaded: Any) -> tuple[dict[str, Tensor], str, list[str]]:
    """The named tensors without wrappers and prefixes, the keys they are under, and the keys that were left alone."""
    taken: list[str] = []
    others: list[str] = []
    while len(taken) < DEEPEST and isinstance(loaded, dict):
        ranks = [[key for key in rank if _may_be_weights(loaded.get(key))] for rank in (AVERAGED, WRAPPERS)]
        first = next((rank for rank in ranks if rank), None)
        if first is None:
            break
        if len(first) > 1:
            raise InputError(
                f"{path} has weights under {' and under '.join(map(repr, first))}, and nothing tells which are meant; "
                "save the ones you want alone (torch.save(network.state_dict(), ...))."
            )
        others += [".".join([*taken, key]) for rank in ranks for key in rank if key != first[0]]
        taken.append(first[0])
        loaded = loaded[first[0]]
    place = f"{path}, under {'.'.join(taken)!r}" if taken else str(path)
    if not isinstance(loaded, dict) or not loaded:
        raise InputError(f"{place} holds {type(loaded).__name__}, not a state dict of named tensors.")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(
                f"{place}: entry {shown(key)!r} is {type(value).__name__}; a state dict has named tensors only. "
                f"Save network.state_dict() alone, or under one of the keys {', '.join((*AVERAGED, *WRAPPERS))}."
            )
    return _without_prefixes(loaded), ".".join(taken), others


def _may_be_weights(value: Any) -> bool:
    """A number or a flag under such a key is a setting; a list is weights in a form that is then refused by name."""
    return isinstance(value, dict | list | tuple) and len(value) > 0


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while True:
        # torch.optim.swa_utils.AveragedModel counts beside its module.
        averaged = "n_averaged" in state and all(key.startswith("module.") for key in state if key != "n_averaged")
        if averaged and len(state) > 1:
            state = {key: value for key, value in state.items() if key != "n_averaged"}
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None:
            return state
        state = {key.removeprefix(prefix): value for key, value in state.items()}


def _check_sizes(path: Path, state: dict[str, Tensor], content: FileContent) -> None:
    """Raise InputError for a tensor that is not dense, or states more than the file holds: before anything is computed
    from it, which a view that repeats one number a billion times would make memory of.
    """
    total = 0
    for key, value in state.items():
        if value.is_nested or value.layout != torch.strided or value.device.type != "cpu":
            raise _wrong_kind(path, key, value)
        total += value.numel() * value.element_size()
        if total > content.size_bytes:
            raise InputError(
                f"{path}: up to {shown(key)} its tensors state {total:,} bytes, but the file has "
                f"{content.size_bytes:,}: they repeat or share numbers. Save "
                "{name: value.clone() for name, value in network.state_dict().items()}."
            )


def _float32(path: Path, key: str, value: Tensor) -> Tensor:
    """One weight as float32. Raises InputError for another kind of number, and for NaN and infinity."""
    if value.dtype not in FLOATS:
        raise _wrong_kind(path, key, value)
    value = value.float()
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        raise InputError(
            f"{path}: {key} holds {bad} value(s) that are NaN or infinite in float32; "
            "this checkpoint is damaged or its training diverged: use an earlier one."
        )
    return value


def _wrong_kind(path: Path, key: str, value: Tensor) -> InputError:
    kind = f"{'nested ' if value.is_nested else ''}{value.layout} {value.dtype} on {value.device.type}"
    return InputError(
        f"{path}: {shown(key)} is {kind}; unblur loads dense {', '.join(str(d) for d in FLOATS)}: "
        "save the network's floating-point weights, not a quantised copy."
    )
