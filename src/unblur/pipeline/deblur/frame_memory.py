"""What a frame will take of memory, before it is tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unblur.core.errors import InputError
from unblur.core.memory import available_bytes, gigabytes, resident_bytes
from unblur.engines.catalogue import find_engine

if TYPE_CHECKING:
    from torch import nn

PEAKS = {"torch": 7.7, "onnxruntime": 12.1, "openvino": 15.1}
"""Peak of the resident memory of one frame, in units of the network's largest activation, by backend on a CPU.

Measured as VmHWM less the resident memory after a 64x64 frame (torch 2.13, onnxruntime 1.31, openvino 2026.4, float32,
one thread, x86-64; docs/lab-log.md has the table): a narrow network at 1.6 and 3.1 and a wide one at 1.6 megapixels
took 7.6, 6.9 and 6.6 in PyTorch; 9.4, 9.4 and 12.1 in ONNX Runtime; 15.0, 14.8 and 14.6 in OpenVINO, and the narrow one
at 12 took 15.1. Engines in bf16 and 8 bits were not measured, and are taken to be as hungry as these.
"""

_PROBE_PX = 64


@dataclass(frozen=True)
class FrameMemory:
    """An estimate for one engine and network. `held`: resident bytes of the process before the first frame; what it
    takes later is used again by the next frame.
    """

    engine: str
    activation: float
    held: int

    def bytes(self, height: int, width: int) -> float | None:
        """For a frame of that size; None for an engine that nobody has measured."""
        peak = PEAKS.get(find_engine(self.engine).backend)
        return None if peak is None else peak * self.activation * height * width

    def refuse(self, height: int, width: int) -> None:
        """Raise InputError, with the cure, where the frame cannot fit."""
        needed = self.bytes(height, width)
        free = available_bytes() + max(0, resident_bytes() - self.held)
        if needed is None or needed <= free:
            return
        least = PEAKS["torch"] * self.activation * height * width
        other = f"take --engine torch ({gigabytes(least)}), " if least < min(needed, free) else ""
        raise InputError(
            f"A picture of {height}x{width} takes about {gigabytes(needed)} of memory with {self.engine}, and "
            f"{gigabytes(free)} are free; {other}free some, or split it into parts."
        )


def largest_activation(network: nn.Module) -> float:
    """Bytes of the largest tensor between two modules, in float32, for each pixel of the frame. The network is on the
    CPU: ask before an engine takes it elsewhere.
    """
    import torch  # a folder where everything is finished needs none

    largest = 0

    def note(module: nn.Module, inputs: object, output: object) -> None:
        del module, inputs
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.numel())

    handles = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX))
    finally:
        for handle in handles:
            handle.remove()
    return 4 * largest / _PROBE_PX**2
