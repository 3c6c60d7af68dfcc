"""What a network looks at: the blur masks and attention that its paper shows, as pictures of a frame's size."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.core.errors import InputError
from unblur.images.contract import Frame, PixelContract
from unblur.networks.registry import recognise


def attention_maps(
    network: nn.Module, frame: Frame, contract: PixelContract | None = None
) -> dict[str, NDArray[np.float32]]:
    """Run a network on a frame, (H, W, 3) RGB uint8, and give each gate of its family by name: (H, W) in [0, 1].

    A gate of many channels is their mean. `contract`: that of a checkpoint with another channel order than its paper's.
    Raises InputError for a network of no family, and for one whose paper shows nothing of the kind.
    """
    family = recognise({name: tuple(value.shape) for name, value in network.state_dict().items()}).family
    if family.gates is None:
        raise InputError(f"{family.title} has no masks or attention of a picture's shape to show.")
    contract = contract or family.contract
    height, width = frame.shape[:2]
    seen: dict[str, Tensor] = {}

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] = torch.sigmoid(output.float()).mean(dim=1, keepdim=True)

        return layer.register_forward_hook(keep)

    handles = [watch(name, layer) for name, layer in family.gates(network).items()]
    try:
        with torch.inference_mode():
            network(torch.from_numpy(contract.encode(frame)).to(next(network.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    size = contract.padded_size(height, width)
    return {
        name: F.interpolate(gate, size, mode="nearest")[0, 0, :height, :width].cpu().numpy()
        for name, gate in seen.items()
    }
