"""What a network looks at: the blur masks and attention that its paper shows, as pictures of a frame's size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.core.errors import InputError
from unblur.images.contract import Frame, PixelContract
from unblur.networks.registry import recognise

Maps = dict[str, NDArray[np.float32]]
"""Each gate of a network by name: (H, W) in [0, 1]."""


def attention_maps(network: nn.Module, frame: Frame, contract: PixelContract | None = None) -> Maps:
    """Run a network on a frame, (H, W, 3) RGB uint8, and give each gate of its family by name: (H, W) in [0, 1].

    A gate of many channels is their mean. `contract`: that of a checkpoint with another channel order than its paper's.
    Raises InputError for a network of no family, and for one whose paper shows nothing of the kind.
    """
    family = recognise({name: tuple(value.shape) for name, value in network.state_dict().items()}).family
    if family.gates is None:
        raise InputError(f"{family.title} has no masks or attention of a picture's shape to show.")
    contract = contract or family.contract
    with watched(family.gates(network), contract) as seen, torch.inference_mode():
        network(torch.from_numpy(contract.encode(frame)).to(next(network.parameters()).device))
    return seen(frame)


@contextmanager
def watched(gates: Mapping[str, nn.Module], contract: PixelContract) -> Iterator[Callable[[Frame], Maps]]:
    """Within, whoever runs the network shows its gates: the function yielded gives those of the last run, cut to the
    frame that was run, (H, W, 3).
    """
    seen: dict[str, Tensor] = {}

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] = torch.sigmoid(output.float()).mean(dim=1, keepdim=True)

        return layer.register_forward_hook(keep)

    def maps(frame: Frame) -> Maps:
        height, width = frame.shape[:2]
        size = contract.padded_size(height, width)
        return {
            name: F.interpolate(gate, size, mode="nearest")[0, 0, :height, :width].cpu().numpy()
            for name, gate in seen.items()
        }

    handles = [watch(name, layer) for name, layer in gates.items()]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def picture_of(gate: NDArray[np.float32]) -> Frame:
    """(H, W) -> (H, W, 3) uint8, grey: the least value black, the largest white; a gate of one value is grey."""
    low, high = float(gate.min()), float(gate.max())
    grey = np.full(gate.shape, 128, np.uint8)
    if high > low:
        grey = np.rint((gate - low) / (high - low) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def range_text(gate: NDArray[np.float32]) -> str:
    """What black and white of `picture_of` stand for: "0.412 to 0.630"."""
    return f"{float(gate.min()):.3f} to {float(gate.max()):.3f}"
