"""Open an engine file with TensorRT, either product: every refusal is a sentence, every returned bool is looked at."""

from __future__ import annotations

import warnings
from collections import deque
from math import prod
from pathlib import Path
from typing import Any

from unblur.core.artefacts import write_bytes
from unblur.core.errors import CrashError, InputError, MissingRuntimeError
from unblur.engines.tensorrt.file import EngineFile
from unblur.engines.tensorrt.product import Product
from unblur.engines.tensorrt.profiles import Profile

LOGGED = 3
"""So many of the last errors that TensorRT logged are told when it gives up."""


class Plan:
    """A deserialised engine with one input and one output, and what its contexts are made of.

    The driver must have been probed and its context be active: libnvinfer's Runtime ends the process otherwise.
    Raises InputError for a file that this TensorRT or GPU refuses, MissingRuntimeError for a driver that is too old.
    """

    def __init__(self, product: Product, file: EngineFile, kept: Path, cuda_graph: bool = True) -> None:
        """`kept`: where TensorRT for RTX keeps the kernels that it makes for this GPU."""
        trt = product.module
        self.is_rtx = product.name == "tensorrt-rtx"
        self._trt = trt
        self._file = file
        self._log = _new_log(trt)
        self._runtime_config: Any = None
        self._runtime_cache: Any = None
        self._kept = kept
        self.found = ""
        """Of TensorRT for RTX: whether those kernels were there."""
        self.suboptimal = False
        """TensorRT for RTX runs the engine here, and would run one built for this GPU faster."""
        data = file.path.read_bytes()
        self._runtime: Any = trt.Runtime(self._log)
        if self.is_rtx:
            self._demand_valid_rtx(data)
        self._cuda_engine: Any = self._runtime.deserialize_cuda_engine(data)
        if self._cuda_engine is None:
            raise InputError(f"{product.name} {product.version} cannot open {file.path}{self.reason()}; {self._cure()}")
        try:
            self.source, self.target = self._tensors()
            self.profiles = tuple(self._profile(k) for k in range(self._cuda_engine.num_optimization_profiles))
            if self.is_rtx:
                self._configure_rtx(cuda_graph)
        except BaseException:
            # While the GPU's context is there: a traceback may hold the plan for longer, so nobody else may the engine.
            self._runtime_config = self._cuda_engine = self._runtime = None
            raise

    @property
    def scratch_bytes(self) -> int:
        """Device memory that an execution needs beside its input and output, for the largest size."""
        return int(self._cuda_engine.device_memory_size_v2)

    def shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """The tensor's shape for a frame of (height, width)."""
        return (1, 3, *size) if self._file.contract.layout == "nchw" else (1, *size, 3)

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The inverse of `shape`."""
        height, width = shape[2:] if self._file.contract.layout == "nchw" else shape[1:3]
        return int(height), int(width)

    def tensor_bytes(self, size: tuple[int, int]) -> int:
        """Bytes of the input, and of the output, for a frame of (height, width)."""
        return prod(self.shape(size)) * (4 if self._file.contract.dtype == "float32" else 1)

    @property
    def multiple(self) -> int:
        """Height and width are multiples of it."""
        return self._file.contract.multiple

    def new_context(self) -> Any:
        """An IExecutionContext whose device memory the caller sets. Raises CrashError where TensorRT gives none."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        how = self._runtime_config if self.is_rtx else strategy
        context = self._cuda_engine.create_execution_context(how)
        if context is None:
            raise CrashError(f"TensorRT gives no execution context for {self._file.path.name}{self.reason()}.")
        return context

    def demand(self, done: bool, call: str, tensor: str = "") -> None:
        """Raise CrashError, with what TensorRT logged, unless the call returned True."""
        if done is not True:
            raise CrashError(f"TensorRT refuses {call}({tensor}) of {self._file.path.name}{self.reason()}.")

    def reason(self) -> str:
        """ ": the last errors that TensorRT logged", or nothing."""
        lines, self._log.errors = list(self._log.errors), deque(maxlen=LOGGED)
        return f": {'; '.join(line.strip().rstrip('.') for line in lines)}" if lines else ""

    def close(self) -> None:
        """Keep the kernels that were made for this GPU, and drop the engine. Its contexts must be gone."""
        self.keep_kernels()
        self._runtime_config = self._runtime_cache = None
        self._cuda_engine = None
        self._runtime = None

    def _tensors(self) -> tuple[str, str]:
        trt = self._trt
        names = [self._cuda_engine.get_tensor_name(k) for k in range(self._cuda_engine.num_io_tensors)]
        sources = [name for name in names if self._cuda_engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        targets = [name for name in names if self._cuda_engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
        if len(sources) != 1 or len(targets) != 1:
            raise InputError(f"{self._file.path} has inputs {sources} and outputs {targets}; unblur runs one of each.")
        dtype = self._file.contract.dtype
        wanted = trt.DataType.FLOAT if dtype == "float32" else trt.DataType.UINT8
        for name in (*sources, *targets):
            found = self._cuda_engine.get_tensor_dtype(name)
            if found != wanted:
                raise InputError(f"{self._file.path}: {name!r} is {found}, its manifest says {dtype}; {self._cure()}")
        return sources[0], targets[0]

    def _profile(self, k: int) -> Profile:
        fixed = tuple(self._cuda_engine.get_tensor_shape(self.source))
        if -1 not in fixed:
            return Profile.only(self.size(fixed))
        least, best, most = (self.size(tuple(s)) for s in self._cuda_engine.get_tensor_profile_shape(self.source, k))
        return Profile(least, best, most)

    def _cure(self) -> str:
        return f"build it again with `unblur build --rebuild {self._file.path}`."

    def _demand_valid_rtx(self, data: bytes) -> None:
        trt, path = self._trt, self._file.path
        validity, diagnostics = self._runtime.get_engine_validity(data)
        self.suboptimal = validity == trt.EngineValidity.SUBOPTIMAL
        if validity != trt.EngineValidity.INVALID:
            return
        found = int(diagnostics)
        if found & int(trt.EngineInvalidityDiagnostics.OLD_CUDA_DRIVER):
            raise MissingRuntimeError(f"The NVIDIA driver is too old for {path}; install a newer driver.")
        if found & int(trt.EngineInvalidityDiagnostics.INSUFFICIENT_GPU_MEMORY):
            raise InputError(f"{path} needs more memory than this GPU has; build it for smaller frames with --shapes.")
        sentences = {
            int(trt.EngineInvalidityDiagnostics.VERSION_MISMATCH): "was built with another version",
            int(trt.EngineInvalidityDiagnostics.UNSUPPORTED_CC): "was not built for this kind of GPU (see --target)",
            int(trt.EngineInvalidityDiagnostics.OLD_CUDA_RUNTIME): "needs a newer CUDA runtime",
            int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE): "is truncated or no engine",
            int(trt.EngineInvalidityDiagnostics.CUDA_ERROR): "meets an error of CUDA",
        }
        told = " and ".join(text for flag, text in sentences.items() if found & flag) or "is refused without a reason"
        raise InputError(f"{path} {told}{self.reason()}; {self._cure()}")

    def _configure_rtx(self, cuda_graph: bool) -> None:
        """The product captures its own CUDA graphs, and keeps the kernels that it makes for the GPU at hand."""
        trt = self._trt
        self._runtime_config = self._cuda_engine.create_runtime_config()
        whole, disabled = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE, trt.CudaGraphStrategy.DISABLED
        self._runtime_config.cuda_graph_strategy = whole if cuda_graph else disabled
        # Lazily, kernels would change while somebody measures.
        specialise = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self._runtime_config.dynamic_shapes_kernel_specialization_strategy = specialise
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._runtime_config.set_execution_context_allocation_strategy(strategy)
        runtime_cache = self._runtime_config.create_runtime_cache()
        self._cached = self._kept.read_bytes() if self._kept.is_file() else b""
        self.found = "kept from before" if self._cached else "made anew"
        if self._cached and not runtime_cache.deserialize(self._cached):
            self._cached, self.found = b"", f"made anew: {self._kept.name} is damaged, or of another GPU or version"
            warnings.warn(f"The kernels are {self.found}; this start takes as long as the first.", stacklevel=2)
        self.demand(self._runtime_config.set_runtime_cache(runtime_cache), "set_runtime_cache")
        self._runtime_cache = runtime_cache

    def keep_kernels(self) -> None:
        """Write what TensorRT for RTX made for this GPU, where it is more than the file has. Warns where it cannot."""
        if self._runtime_cache is not None:
            self._save_rtx()

    def _save_rtx(self) -> None:
        serialized = self._runtime_cache.serialize()
        if serialized is None:
            lost = f"TensorRT does not give the kernels made for this GPU{self.reason()}; the next start takes as long."
            warnings.warn(lost, stacklevel=2)
            return
        blob = bytes(serialized)
        if blob == self._cached:
            return
        self._cached = blob
        try:
            write_bytes(self._kept, blob)
        except InputError as error:  # a folder of somebody else's: the engine runs all the same
            warnings.warn(
                f"The kernels made for this GPU are not kept, the next start takes as long: {error}", stacklevel=2
            )


def _new_log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]  # exists only at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=LOGGED)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

    return Log()
