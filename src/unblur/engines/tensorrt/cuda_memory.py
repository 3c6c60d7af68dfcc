"""Memory for a runner: on the device, and pinned on the host. Allocated by PyTorch, or by pycuda where it has no CUDA.

PyTorch is always installed, but often its build for the CPU; then pycuda serves. Both use the device's primary context,
so that their memory is the same process's memory, and TensorRT's.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from unblur.core.errors import MissingRuntimeError
from unblur.engines.tensorrt.cuda_driver import CudaDriver, Stream, StreamEvents


class DeviceMemoryError(Exception):
    """An allocation did not fit. Whoever asked knows what for, and says so to the person."""


@dataclass(frozen=True)
class DeviceBlock:
    """Device memory, aligned to 256 bytes at least; it lives as long as `owner`."""

    address: int
    nbytes: int
    owner: Any


@dataclass(frozen=True)
class PinnedBlock:
    """Page-locked host memory: copies to and from it run beside other work."""

    array: NDArray[np.uint8]

    @property
    def address(self) -> int:
        return int(self.array.ctypes.data)


class Memory(Protocol):
    """Where a runner's memory comes from. Dropping a block frees it: synchronise whoever uses it before.

    `active` must surround all use of the GPU; `device_block` raises DeviceMemoryError.
    """

    name: str
    driver: CudaDriver

    def device_block(self, nbytes: int) -> DeviceBlock: ...

    def pinned_block(self, nbytes: int) -> PinnedBlock: ...

    def free_bytes(self) -> int: ...

    def active(self) -> Any: ...

    def close(self) -> None: ...


@contextmanager
def events_on(memory: Memory, stream: Stream) -> Iterator[StreamEvents]:
    """Two events of a stream, given back behind it."""
    with memory.active():
        events = StreamEvents(memory.driver, stream)
        try:
            yield events
        finally:
            events.close()


class TorchMemory:
    """From PyTorch's allocators, so that a process with both asks the driver once."""

    name = "torch"

    def __init__(self, gpu: int) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._torch.cuda.init()
        self.driver = CudaDriver(gpu)

    def device_block(self, nbytes: int) -> DeviceBlock:
        try:
            tensor = self._torch.empty(nbytes, dtype=self._torch.uint8, device=f"cuda:{self.driver.number}")
        except self._torch.cuda.OutOfMemoryError as error:
            raise DeviceMemoryError(str(error)) from error
        # Out of PyTorch's pool: kernels queued on its stream before may still write there, and our streams do not wait.
        self._torch.cuda.current_stream(self.driver.number).synchronize()
        return DeviceBlock(tensor.data_ptr(), nbytes, tensor)

    def pinned_block(self, nbytes: int) -> PinnedBlock:
        return PinnedBlock(self._torch.empty(nbytes, dtype=self._torch.uint8, pin_memory=True).numpy())

    def free_bytes(self) -> int:
        cuda, gpu = self._torch.cuda, self.driver.number
        cached = cuda.memory_reserved(gpu) - cuda.memory_allocated(gpu)
        return int(cuda.mem_get_info(gpu)[0]) + int(cached)

    def active(self) -> Any:
        return self.driver.active()

    def close(self) -> None:
        self.driver.close()


class PycudaMemory:
    """From pycuda, which a person with PyTorch's CPU build may have."""

    name = "pycuda"

    def __init__(self, gpu: int) -> None:
        self._pycuda: Any = importlib.import_module("pycuda.driver")
        self._pycuda.init()
        self._context = self._pycuda.Device(gpu).retain_primary_context()
        self.driver = CudaDriver(gpu)

    def device_block(self, nbytes: int) -> DeviceBlock:
        try:
            allocation = self._pycuda.mem_alloc(nbytes)
        except self._pycuda.MemoryError as error:
            raise DeviceMemoryError(str(error)) from error
        return DeviceBlock(int(allocation), nbytes, allocation)

    def pinned_block(self, nbytes: int) -> PinnedBlock:
        return PinnedBlock(self._pycuda.pagelocked_empty(nbytes, np.uint8))

    def free_bytes(self) -> int:
        return int(self._pycuda.mem_get_info()[0])

    @contextmanager
    def active(self) -> Iterator[None]:
        self._context.push()  # pycuda keeps a stack of its own beside the driver's
        try:
            yield
        finally:
            self._pycuda.Context.pop()

    def close(self) -> None:
        self.driver.close()


def open_memory(who: str, kind: Literal["auto", "torch", "pycuda"] = "auto", gpu: int = 0) -> Memory:
    """PyTorch's memory of a GPU if its build has CUDA, else pycuda's. Call after `probe_driver`.

    Raises MissingRuntimeError, with both ways to get one, where there is neither, and where PyTorch's has no driver.
    """
    import torch

    if kind != "pycuda" and torch.version.cuda is not None:
        try:
            return TorchMemory(gpu)
        except RuntimeError as error:  # a driver that is too old for this PyTorch, though not for TensorRT
            raise MissingRuntimeError(
                f"{who}: PyTorch {torch.__version__} (CUDA {torch.version.cuda}) does not reach the GPU "
                f"({str(error).splitlines()[0]}); install a newer driver, or PyTorch for an older CUDA."
            ) from error
    if kind != "torch":
        try:
            return PycudaMemory(gpu)
        except ImportError as error:
            reason = str(error)
    else:
        reason = "pycuda was not asked for"
    raise MissingRuntimeError(
        f"{who}: PyTorch {torch.__version__} is a build without CUDA, and there is no pycuda ({reason}); install the "
        'CUDA build of PyTorch, or pip install -e ".[pycuda]".'
    )
