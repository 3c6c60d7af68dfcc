"""Memory that an ONNX Runtime session reads a frame from and writes its result to, bound once for each size.

Without it every run allocates its result, and on a GPU copies through memory that is not pinned, which the rivals of
the same comparison do not.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unblur.core.errors import InputError, UnblurError
from unblur.engines.tensorrt.cuda_driver import Stream, StreamEvents
from unblur.engines.tensorrt.cuda_memory import DeviceMemoryError, Memory, events_on, open_memory


class Buffers(Protocol):
    """The buffers of one shape, bound to a session."""

    shape: tuple[int, ...]

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """The result for a frame of `shape`, in memory of its own."""


class CpuBuffers:
    """The result is written where it was written last; frames are read where they lie."""

    def __init__(self, onnxruntime: Any, session: Any, names: tuple[str, str], like: NDArray[Any]) -> None:
        """`names`: of the input and the output. `like`: a frame."""
        self.shape = like.shape
        self._session, (self._input, output) = session, names
        self._result = np.empty(like.shape, like.dtype)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_output(output, onnxruntime.OrtValue.ortvalue_from_numpy(self._result))

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        self._binding.bind_cpu_input(self._input, np.ascontiguousarray(tensor))
        self._session.run_with_iobinding(self._binding)
        return self._result.copy()


class CudaBuffers:
    """Pinned on the host, and on the device; copies and work are one after the other on the session's stream."""

    def __init__(
        self, memory: Memory, stream: Stream, session: Any, names: tuple[str, str], like: NDArray[Any], options: Any
    ) -> None:
        """`stream`: the one that the session was opened with. `options`: of each run. Raises InputError where the
        device's memory is full.
        """
        self.shape, self._options = like.shape, options
        self._memory, self._stream, self._session = memory, stream, session
        self._nbytes = math.prod(like.shape) * like.itemsize
        try:
            self._source, self._target = memory.device_block(self._nbytes), memory.device_block(self._nbytes)
        except DeviceMemoryError as error:
            raise InputError(
                f"The GPU's memory does not hold two frames of {self._nbytes / 2**20:.0f} MiB; free some."
            ) from error
        self._sent, self._received = memory.pinned_block(self._nbytes), memory.pinned_block(self._nbytes)
        self._binding = session.io_binding()
        where = ("cuda", memory.driver.number, like.dtype.type, like.shape)
        self._binding.bind_input(names[0], *where, self._source.address)
        self._binding.bind_output(names[1], *where, self._target.address)

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        np.copyto(self._view(self._sent.array, tensor), tensor)
        try:
            self._stream.upload(self._source.address, self._sent.address, self._nbytes)
            self.enqueue()
            self._stream.download(self._received.address, self._target.address, self._nbytes)
            self._stream.synchronize()
        except BaseException:
            # What was queued before the failure still reads and writes here, and the memory may go to others next.
            with suppress(UnblurError):
                self._stream.synchronize()
            raise
        return self._view(self._received.array, tensor).copy()

    def enqueue(self) -> None:
        """Put the work on the stream; it is not done when this returns."""
        self._session.run_with_iobinding(self._binding, self._options)

    def _view(self, block: NDArray[np.uint8], like: NDArray[Any]) -> NDArray[Any]:
        view: NDArray[Any] = block.view(like.dtype).reshape(self.shape)
        return view


class CpuPlace:
    """Where a session on the CPU runs."""

    def __init__(self, onnxruntime: Any) -> None:
        self._onnxruntime = onnxruntime
        self.options: dict[str, str] = {}

    def buffers(self, session: Any, names: tuple[str, str], like: NDArray[Any]) -> Buffers:
        return CpuBuffers(self._onnxruntime, session, names, like)

    def active(self) -> Any:
        return nullcontext()

    def close(self) -> None:
        """Nothing is held."""


class CudaPlace:
    """Where a session on a GPU runs: its memory, and one stream for copies and work. Close it after the session."""

    def __init__(self, who: str, gpu: int, onnxruntime: Any) -> None:
        """Call after `find_device`. Raises MissingRuntimeError without a library that has the GPU's memory."""
        self._memory = open_memory(who, "auto", gpu)
        try:
            with self._memory.active():
                self.stream = Stream(self._memory.driver)
        except BaseException:
            self._memory.close()
            raise
        self.options = {"device_id": str(gpu), "user_compute_stream": str(self.stream.handle)}
        # Buffers and stream are ours: what is queued behind the work waits for it, and a wait in between costs time.
        self._each_run = onnxruntime.RunOptions()
        self._each_run.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def buffers(self, session: Any, names: tuple[str, str], like: NDArray[Any]) -> CudaBuffers:
        return CudaBuffers(self._memory, self.stream, session, names, like, self._each_run)

    def events(self) -> AbstractContextManager[StreamEvents]:
        """On the session's stream."""
        return events_on(self._memory, self.stream)

    def active(self) -> Any:
        return self._memory.active()

    def close(self) -> None:
        """Wait for what is under way, and give it back, each step also where the one before fails."""
        with ExitStack() as steps:
            steps.callback(self._memory.close)
            steps.enter_context(self._memory.active())
            steps.callback(self.stream.close)
            self.stream.synchronize()
