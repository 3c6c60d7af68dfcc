"""What one frame of the TensorRT runner needs on its way: pinned and device memory, an execution on it, events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from unblur.engines.tensorrt.cuda_driver import Event
from unblur.engines.tensorrt.cuda_memory import Memory, PinnedBlock
from unblur.engines.tensorrt.execution import Execution


class Slot:
    """What one frame on its way needs: memory at fixed addresses, an execution on it, and three points in time."""

    def __init__(self, execution: Execution, memory: Memory, nbytes: int, shape: tuple[int, ...], dtype: str) -> None:
        self.execution = execution
        self.source, self.target = memory.device_block(nbytes), memory.device_block(nbytes)
        self.sent, self.received = memory.pinned_block(nbytes), memory.pinned_block(nbytes)
        self.sent_at, self.received_at = self.sent.address, self.received.address
        self.input = _view(self.sent, shape, dtype)
        self.output = _view(self.received, shape, dtype)
        self.uploaded, self.computed, self.downloaded = (Event(memory.driver) for _ in range(3))
        self.busy = False
        execution.point(self.source.address, self.target.address)

    def closing(self) -> list[Callable[[], None]]:
        """What gives it back, step by step."""
        return [self.execution.close, *(event.close for event in (self.uploaded, self.computed, self.downloaded))]


def _view(block: PinnedBlock, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    return block.array.view(dtype).reshape(shape)
