"""The CUDA driver through ctypes: streams, events, copies and graphs on raw handles.

PyTorch and pycuda allocate memory (cuda_memory.py); what is done with it is the same for both, and neither offers all
of it: pycuda has no graphs, PyTorch replays a graph on its current stream only. Names and values are those of cuda.h,
part of the driver's ABI. Every status is checked: a call that fails raises CrashError with its name, which costs a
comparison that engine's row and nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from typing import Any

from unblur.core.errors import CrashError
from unblur.engines.tensorrt.product import load_libcuda

_STREAM_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: no implicit order with the default stream
_EVENT_DISABLE_TIMING = 2  # CU_EVENT_DISABLE_TIMING
_EVENT_DEFAULT = 0  # CU_EVENT_DEFAULT: it keeps the time
_CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating
_POINTER_DEVICE_ORDINAL = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
_HANDLE = POINTER(c_void_p)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDevicePrimaryCtxRetain": (_HANDLE, c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxPushCurrent_v2": (c_void_p,),
    "cuCtxPopCurrent_v2": (_HANDLE,),
    "cuStreamCreate": (_HANDLE, c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cuEventCreate": (_HANDLE, c_uint),
    "cuEventDestroy_v2": (c_void_p,),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuMemcpyHtoDAsync_v2": (c_ulonglong, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_ulonglong, c_size_t, c_void_p),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, _HANDLE),
    "cuGraphInstantiateWithFlags": (_HANDLE, c_void_p, c_ulonglong),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuPointerGetAttribute": (c_void_p, c_int, c_ulonglong),
}


class CudaDriver:
    """The primary context of a device (of those in CUDA_VISIBLE_DEVICES), shared with PyTorch and TensorRT.

    Ask `probe_driver` first: this raises OSError where there is no driver.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self._functions: dict[str, Any] = {}
        library = load_libcuda()
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, c_int
            self._functions[name] = function
        self.call("cuInit", 0)
        device = c_int()
        self.call("cuDeviceGet", byref(device), number)
        self._device = device.value
        self._context = self.handle("cuDevicePrimaryCtxRetain", self._device)

    def call(self, name: str, *arguments: Any) -> None:
        """Raises CrashError with the driver's word for it unless the call succeeds."""
        status = self._functions[name](*arguments)
        if status:
            text = c_char_p()
            self._functions["cuGetErrorName"](status, byref(text))
            raise CrashError(f"The GPU fails: {name} gives {(text.value or b'error').decode()} ({status}).")

    def handle(self, name: str, *arguments: Any) -> int:
        """What a driver function writes through its first argument, a handle."""
        value = c_void_p()
        self.call(name, byref(value), *arguments)
        return value.value or 0

    @contextmanager
    def active(self) -> Iterator[None]:
        """The context is this thread's own within; whatever was current before is so again."""
        self.call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self.handle("cuCtxPopCurrent_v2")

    def device_of(self, address: int) -> int:
        """Number of the device that an address belongs to. Raises CrashError where it is no memory of CUDA."""
        ordinal = c_int(-1)
        self.call("cuPointerGetAttribute", byref(ordinal), _POINTER_DEVICE_ORDINAL, address)
        return ordinal.value

    def synchronize(self, stream: int) -> None:
        """Wait for a stream of anybody by its handle; 0 is the default stream."""
        self.call("cuStreamSynchronize", stream)

    def close(self) -> None:
        self.call("cuDevicePrimaryCtxRelease_v2", self._device)


class Event:
    """A point in a stream. Without `timing` it costs the GPU least."""

    def __init__(self, cuda: CudaDriver, *, timing: bool = False) -> None:
        self._cuda = cuda
        self.handle = cuda.handle("cuEventCreate", _EVENT_DEFAULT if timing else _EVENT_DISABLE_TIMING)

    def synchronize(self) -> None:
        """Wait until the work before the point is done."""
        self._cuda.call("cuEventSynchronize", self.handle)

    def ms_since(self, earlier: Event) -> float:
        """Milliseconds of the GPU's own clock, to half a microsecond. Both keep the time, and both have been reached:
        raises CrashError else.
        """
        ms = c_float()
        # The plain name: drivers before CUDA 12.8 have no _v2, and every later one has both.
        self._cuda.call("cuEventElapsedTime", byref(ms), earlier.handle, self.handle)
        return ms.value

    def close(self) -> None:
        self._cuda.call("cuEventDestroy_v2", self.handle)


class Stream:
    """Work of the GPU in order, never the default stream: TensorRT would synchronise more there, and cannot capture."""

    def __init__(self, cuda: CudaDriver) -> None:
        self._cuda = cuda
        self.handle = cuda.handle("cuStreamCreate", _STREAM_NON_BLOCKING)

    def upload(self, address: int, host: int, nbytes: int) -> None:
        """Copy from pinned memory at `host` to the device's `address`."""
        self._cuda.call("cuMemcpyHtoDAsync_v2", address, host, nbytes, self.handle)

    def download(self, host: int, address: int, nbytes: int) -> None:
        """Copy from the device's `address` to pinned memory at `host`."""
        self._cuda.call("cuMemcpyDtoHAsync_v2", host, address, nbytes, self.handle)

    def record(self, event: Event) -> None:
        """Set the event behind all work of now."""
        self._cuda.call("cuEventRecord", event.handle, self.handle)

    def wait(self, event: Event) -> None:
        """Later work waits until the event, as it is recorded now, is reached."""
        self._cuda.call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Wait until all work is done."""
        self._cuda.synchronize(self.handle)

    def capture(self, enqueue: Callable[[], None]) -> Graph:
        """What `enqueue` puts on this stream, as a graph; nothing of it runs now. Passes on what `enqueue` raises."""
        self._cuda.call("cuStreamBeginCapture_v2", self.handle, _CAPTURE_THREAD_LOCAL)
        try:
            enqueue()
        except BaseException:
            # The stream must leave capture mode; the driver may refuse the broken graph, and the first error counts.
            broken = c_void_p()
            self._cuda._functions["cuStreamEndCapture"](self.handle, byref(broken))
            if broken.value:
                self._cuda._functions["cuGraphDestroy"](broken.value)
            raise
        recorded = c_void_p()
        self._cuda.call("cuStreamEndCapture", self.handle, byref(recorded))
        try:
            return Graph(self._cuda, self._cuda.handle("cuGraphInstantiateWithFlags", recorded.value, 0))
        finally:
            self._cuda.call("cuGraphDestroy", recorded.value)

    def close(self) -> None:
        self._cuda.call("cuStreamDestroy_v2", self.handle)


class StreamEvents:
    """Two events of one stream around work on it. Never within a capture: what is recorded there is no time."""

    def __init__(self, cuda: CudaDriver, stream: Stream) -> None:
        self._stream = stream
        self._before, self._after = Event(cuda, timing=True), Event(cuda, timing=True)

    def around(self, work: Callable[[], Any]) -> None:
        """Queue `work` between the two."""
        self._stream.record(self._before)
        work()
        self._stream.record(self._after)

    def elapsed_ms(self) -> float:
        """Milliseconds between them. Raises CrashError where one has not been reached."""
        return self._after.ms_since(self._before)

    def close(self) -> None:
        self._before.close()
        self._after.close()


class Graph:
    """Captured work, ready to be launched as one piece."""

    def __init__(self, cuda: CudaDriver, handle: int) -> None:
        self._cuda = cuda
        self._handle = handle

    def launch(self, stream: Stream) -> None:
        self._cuda.call("cuGraphLaunch", self._handle, stream.handle)

    def close(self) -> None:
        self._cuda.call("cuGraphExecDestroy", self._handle)
