"""PyTorch on the CPU: the float32 reference, and the fastest forms PyTorch itself offers."""

from __future__ import annotations

import copy
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.core.errors import InputError, MissingRuntimeError
from unblur.core.heap import keep_freed_maps
from unblur.engines.base import BaseRunner
from unblur.engines.bf16 import missing_bf16, torch_has_bf16
from unblur.engines.float32 import refuse_fast_math, strict_float32
from unblur.engines.source import Weights
from unblur.images.signature import Signature

COMPILED_SIZES_MAX = 32
"""Each frame size is compiled anew; beyond this many something else is wrong."""

_CPU = torch.device("cpu")
_threads_lock = threading.RLock()


@dataclass(frozen=True)
class TorchVariant:
    """Which form of PyTorch. All false is the reference: eager, float32, contiguous."""

    bf16: bool = False
    channels_last: bool = False
    compiled: bool = False

    @property
    def precision(self) -> str:
        return "bf16" if self.bf16 else "f32"


class TorchRunner(BaseRunner):
    """A checkpoint in PyTorch: float tensors of the checkpoint's own contract, any padded size, output clamped.

    bf16: weights are kept in bfloat16 and autocast casts the activations; the input and the network's global residual
    stay float32, or rounding the picture itself to 8 bits of mantissa would hide what the network costs.
    """

    def __init__(self, name: str, checkpoint: Weights, variant: TorchVariant, threads: int) -> None:
        """Raises MissingRuntimeError for bf16 on a CPU without it, and for compilation without a C++ compiler, and
        InputError as `refuse_fast_math`.
        """
        refuse_fast_math(name)
        if variant.bf16 and not torch_has_bf16():
            instead = "torch-compile" if variant.compiled else "torch"
            raise missing_bf16(name, instead, f"PyTorch reports {torch.backends.cpu.get_cpu_capability()}")
        if variant.compiled:
            _require_compiler(name)
        super().__init__(
            Signature(checkpoint.contract),
            {
                "backend": "torch",
                "version": torch.__version__,
                "device": "cpu",
                "threads": str(threads),
                "precision": variant.precision,
                "mode": "torch.compile" if variant.compiled else "eager",
                "layout": "channels_last" if variant.channels_last else "contiguous",
                "checkpoint": checkpoint.digest,
            },
        )
        keep_freed_maps()  # it asks malloc for every map
        self._variant = variant
        self._threads = threads
        self._network: Callable[[Tensor], Tensor] | None = prepare(
            checkpoint.network, torch.bfloat16 if variant.bf16 else None, variant.channels_last, variant.compiled
        )

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        network = self._network
        assert network is not None
        contract = self.signature.contract
        x = torch.from_numpy(np.array(tensor, order="C"))  # a copy: torch would share, and warn of read-only memory
        if self._variant.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        bf16 = torch.autocast("cpu", torch.bfloat16) if self._variant.bf16 else nullcontext()
        with (
            torch.inference_mode(),
            _threads(self._threads),
            strict_float32(),
            bf16,
            compilation(self._variant.compiled),
        ):
            y = network(x).float().clamp(contract.low, contract.high)
        restored: NDArray[Any] = y.contiguous().numpy()
        return restored

    def _release(self) -> None:
        self._network = None


def prepare(
    network: nn.Module,
    dtype: torch.dtype | None,
    channels_last: bool,
    compiled: bool,
    device: torch.device = _CPU,
) -> Callable[[Tensor], Tensor]:
    """A copy of the network with its weights in `dtype` (None: as they are) and on `device`, perhaps compiled.

    Where nothing changes it is the network itself.
    """
    if dtype is None and not channels_last and not compiled and device.type == "cpu":
        return network
    network = copy.deepcopy(network).to(device)
    if dtype is not None:
        network = network.to(dtype)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not compiled:
        return network
    # fullgraph: a graph break would run parts eagerly and still be called "compiled".
    made: Callable[[Tensor], Tensor] = torch.compile(network, fullgraph=True, dynamic=False)
    return made


def _require_compiler(name: str) -> None:
    # Both names are what torch._inductor.config.cpp.cxx and its CXX override look for.
    if not any(shutil.which(command) for command in _compilers()):
        raise MissingRuntimeError(
            f"{name}: torch.compile needs a C++ compiler and found none of {', '.join(_compilers())}; "
            "install g++ (Debian: apt-get install g++), or use the engine torch."
        )


def _compilers() -> list[str]:
    from torch._inductor import config

    wanted = config.cpp.cxx
    return [command for command in (wanted if isinstance(wanted, tuple) else (wanted,)) if command]


@contextmanager
def compilation(compiled: bool) -> Iterator[None]:
    """The limits of torch.compile for a run within. Raises InputError for too many frame sizes."""
    if not compiled:
        yield
        return
    from torch._dynamo import config
    from torch._dynamo.exc import FailOnRecompileLimitHit

    try:
        # Over the limit PyTorch would go on eagerly; with fullgraph it raises instead.
        with config.patch(recompile_limit=COMPILED_SIZES_MAX):
            yield
    except FailOnRecompileLimitHit as error:
        raise InputError(
            f"torch.compile was asked for more than {COMPILED_SIZES_MAX} frame sizes, each compiled anew; "
            "use frames of fewer sizes, or the engine torch."
        ) from error


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch's number of threads belongs to the process: set it for this run, then give it back."""
    with _threads_lock:
        before = torch.get_num_threads()
        if before == count:
            yield
            return
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)
