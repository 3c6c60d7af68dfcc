"""PyTorch on an NVIDIA GPU: the ladder from eager float32 to the exact export form, compiled, in a CUDA graph.

What a person without TensorRT can have, so that a comparison on a GPU has every rival in it. On top of the ladder is
not the network as it was published but its exact form, with bytes in and out: on an H100 its pooling is two thirds of
a half-precision frame, and the form does without (docs/gpu.md).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.core.errors import CrashError, MissingRuntimeError
from unblur.engines.base import BaseRunner, out_of_memory
from unblur.engines.source import Weights
from unblur.engines.tensorrt.product import find_device
from unblur.engines.torch_runner import compilation, prepare
from unblur.images.signature import Signature

SIZES_MAX = 8
"""So many sizes keep their buffers and graphs; then the one unused for longest makes room."""

WARM_UP = 3
"""Runs before a capture, as PyTorch's notes on CUDA graphs ask: libraries settle their workspaces meanwhile."""

AMPERE = 80
"""Compute capability 8.0, the first with TF32 and bfloat16."""

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_flags_lock = threading.RLock()


@dataclass(frozen=True)
class CudaVariant:
    """A rung of the ladder. f32 is float32 without TF32; tf32 rounds the factors of products to 10 bits of mantissa.

    `form`: the exact export form, made for each size, instead of the network.
    """

    precision: Literal["f32", "tf32", "fp16", "bf16"] = "f32"
    channels_last: bool = False
    compiled: bool = False
    graph: bool = False
    form: bool = False


class TorchCudaRunner(BaseRunner):
    """A checkpoint in PyTorch on one GPU, with pinned buffers and a stream of its own; any padded size.

    fp16 and bf16: as the CPU runner's bf16, the input and the network's global residual stay float32. A form takes and
    gives RGB bytes, a quarter of what floats would have to be copied.
    """

    def __init__(self, name: str, checkpoint: Weights, variant: CudaVariant, device: str = "cuda:0") -> None:
        """`device` "cpu" is for tests of what is not CUDA. Raises MissingRuntimeError without PyTorch's CUDA build, a
        driver, a GPU that has the precision, or Triton for compilation.
        """
        self._device = torch.device(device)
        described = _demand(name, variant, self._device) if self._device.type == "cuda" else "cpu"
        contract = checkpoint.contract.as_uint8() if variant.form else checkpoint.contract
        compiled = "torch.compile" if variant.compiled else "eager"
        super().__init__(
            Signature(contract),
            {
                "backend": "torch",
                "version": torch.__version__,
                "device": described,
                "threads": "1",
                "precision": variant.precision,
                "mode": compiled + (", exact form" if variant.form else "") + (", CUDA graph" if variant.graph else ""),
                "layout": "channels_last" if variant.channels_last else "contiguous",
                "checkpoint": checkpoint.digest,
            },
        )
        self._variant = variant
        cuda: Any = torch.cuda  # its Stream has no types
        self._stream = cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._checkpoint: Weights | None = checkpoint
        self._network = None if variant.form else self._prepare(checkpoint.network)
        self._buffers: dict[tuple[int, ...], _Buffers] = {}

    def _prepare(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        variant = self._variant
        dtype = _DTYPES.get(variant.precision)
        prepared = prepare(network, dtype, variant.channels_last, variant.compiled, self._device)
        if self._stream is not None:
            # Weights were copied and cast on PyTorch's current stream; frames run on this runner's own.
            torch.cuda.synchronize(self._device)
        return prepared

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        with _told(), self._current(), torch.inference_mode(), _flags(self._variant.precision == "tf32"):
            buffers = self._find_buffers(tensor.shape)
            np.copyto(buffers.sent.numpy(), tensor)
            buffers.input.copy_(buffers.sent, non_blocking=True)
            if buffers.graph is not None:
                buffers.graph.replay()
                result = buffers.result
            else:
                result = self._forward(buffers)
            buffers.received.copy_(result, non_blocking=True)
            if self._stream is not None:
                self._stream.synchronize()
        restored: NDArray[Any] = buffers.received.numpy().copy()
        return restored

    @contextmanager
    def resident(self, shape: tuple[int, ...]) -> Iterator[Callable[[], Any]]:
        """The work of one frame of `shape` on the device alone, no copies, for whoever times it: each call queues it on
        PyTorch's current stream, which inside is this runner's, and does not wait."""
        with self._current(), torch.inference_mode(), _flags(self._variant.precision == "tf32"):
            buffers = self._find_buffers(shape)
            try:
                yield buffers.graph.replay if buffers.graph is not None else lambda: self._forward(buffers)
            finally:  # the buffers are the next frame's
                self.wait()

    def wait(self) -> None:
        """Return when all that was queued is done."""
        if self._stream is not None:
            self._stream.synchronize()

    @contextmanager
    def events(self) -> Iterator[_CudaEvents]:
        """On PyTorch's current stream, which within `resident` is this runner's."""
        yield _CudaEvents()

    @contextmanager
    def _current(self) -> Iterator[None]:
        """This runner's GPU and stream are PyTorch's current ones within."""
        if self._stream is None:
            yield
            return
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            yield

    def _forward(self, buffers: _Buffers) -> Tensor:
        dtype = _DTYPES.get(self._variant.precision)
        # Casts of weights are not cached: within a captured graph the cache would be read after it is gone.
        half = torch.autocast(self._device.type, dtype, cache_enabled=False) if dtype else nullcontext()
        with half, compilation(self._variant.compiled):
            restored = buffers.network(buffers.input)
        if self._variant.form:
            return restored
        contract = self.signature.contract
        return restored.float().clamp(contract.low, contract.high)

    def _find_buffers(self, shape: tuple[int, ...]) -> _Buffers:
        buffers = self._buffers.pop(shape, None)
        if buffers is None:
            if len(self._buffers) >= SIZES_MAX:
                self._buffers.pop(next(iter(self._buffers)))  # the latest is the last
            network = self._network
            if network is None:
                assert self._checkpoint is not None
                network = self._prepare(_Restored(self._checkpoint.form((shape[1], shape[2]), self.signature.contract)))
            buffers = _Buffers(shape, self._device, self._variant, network)
            if self._variant.graph and self._stream is not None:
                self._capture(buffers)
        self._buffers[shape] = buffers
        return buffers

    def _capture(self, buffers: _Buffers) -> None:
        for _ in range(WARM_UP):
            self._forward(buffers)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            buffers.result = self._forward(buffers)
        buffers.graph = graph

    def _release(self) -> None:
        try:
            with _told():
                self.wait()
        finally:  # after a sticky error every call fails, and the memory must be given back even so
            self._buffers, self._network, self._checkpoint = {}, None, None


class _CudaEvents:
    """Two events of PyTorch around work on its current stream; PyTorch gives them back."""

    def __init__(self) -> None:
        cuda: Any = torch.cuda  # its Event has no types
        self._before, self._after = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)

    def around(self, work: Callable[[], Any]) -> None:
        self._before.record()
        work()
        self._after.record()

    def elapsed_ms(self) -> float:
        return float(self._before.elapsed_time(self._after))


class _Restored(nn.Module):
    """The first of what a form gives: the restored pixels."""

    def __init__(self, form: nn.Module) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        restored: Tensor = self.form(x)[0]
        return restored


class _Buffers:
    """What one size needs: its network, memory pinned there and back, the input on the device, and the captured graph
    with what it writes to."""

    def __init__(
        self, shape: tuple[int, ...], device: torch.device, variant: CudaVariant, network: Callable[[Tensor], Tensor]
    ) -> None:
        self.network = network
        pinned = device.type == "cuda"
        dtype = torch.uint8 if variant.form else torch.float32
        self.sent, self.received = (torch.empty(shape, dtype=dtype, pin_memory=pinned) for _ in range(2))
        # Bytes in NHWC are channels last already.
        channels_last = variant.channels_last and not variant.form
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.input = torch.zeros(shape, dtype=dtype, device=device).contiguous(memory_format=layout)
        self.result = self.input
        self.graph: Any = None


def _demand(name: str, variant: CudaVariant, where: torch.device) -> str:
    """The GPU's name, after everything that the variant needs is found."""
    if torch.version.cuda is None:
        raise MissingRuntimeError(
            f"{name}: PyTorch {torch.__version__} is a build without CUDA; install the CUDA build (pytorch.org)."
        )
    device = find_device(where.index or 0)
    if not torch.cuda.is_available():
        raise MissingRuntimeError(
            f"{name}: PyTorch {torch.__version__} (CUDA {torch.version.cuda}) does not reach the GPU {device.name}; "
            "install a newer driver, or PyTorch for an older CUDA."
        )
    kind = {"tf32": "TF32", "bf16": "bfloat16"}.get(variant.precision)
    if kind and int(device.target.removeprefix("sm")) < AMPERE:
        raise MissingRuntimeError(f"{name}: {device.name} ({device.target}) has no {kind}; it needs Ampere or later.")
    if variant.compiled and os.name == "posix" and not any(map(shutil.which, (os.environ.get("CC", "gcc"), "clang"))):
        raise MissingRuntimeError(
            f"{name}: on a GPU torch.compile builds what launches its kernels with a C compiler, and there is neither "
            "gcc nor clang; install gcc (Debian: apt-get install gcc), or use the engine torch-cuda-form-fp16-graph."
        )
    if variant.compiled and importlib.util.find_spec("triton") is None:
        raise MissingRuntimeError(f"{name}: torch.compile needs Triton on a GPU, which is not installed.")
    return device.name


@contextmanager
def _told() -> Iterator[None]:
    """An error of CUDA in a sentence. It stays, so that every later call in this process would fail."""
    try:
        yield
    except torch.AcceleratorError as error:
        if out_of_memory(error):  # the caller says for how large a frame
            raise
        first = str(error).partition("\n")[0].rstrip(".")
        raise CrashError(f"The GPU fails: {first}. It is unusable for this process; restart it.") from error


@contextmanager
def _flags(tf32: bool) -> Iterator[None]:
    """TF32 and cuDNN's search belong to the process: set them for this run, then give them back."""
    matmul = torch.backends.cuda.matmul
    with _flags_lock:
        before = matmul.allow_tf32
        matmul.allow_tf32 = tf32
        try:
            with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
                yield
        finally:
            matmul.allow_tf32 = before
