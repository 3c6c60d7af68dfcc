"""Compile a strongly typed ONNX graph with TensorRT (on the GPU at hand) or TensorRT for RTX (without any).

Precision is whatever the graph says; there is no flag for it here. The compiler is asked which kernels it chose, so
that the caller can hold the engine to what was asked.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError, UnblurError
from unblur.engines.tensorrt.cache import keep_timing_cache, timing_cache_path, use_timing_cache
from unblur.engines.tensorrt.messages import build_failure, parser_refusals, sum_up
from unblur.engines.tensorrt.product import Device, Product, open_product
from unblur.engines.tensorrt.profiles import Profile
from unblur.engines.tensorrt.progress import Watch, open_monitor, run_watched
from unblur.engines.tensorrt.targets import PORTABLE, resolve_targets
from unblur.engines.xray.inspector import parse_inspector
from unblur.engines.xray.kernels import XRay, parse_builder_log

LEVELS = range(6)
"""Optimisation levels of the builder; 3 is its own choice."""


@dataclass(frozen=True)
class Attempt:
    """One of several builds: seconds it took, the engine's SHA-256 and bytes, its kernels and the bytes they move."""

    seconds: float
    sha256: str
    engine_bytes: int
    kernels: int
    bytes_moved: int


@dataclass(frozen=True)
class CompiledEngine:
    """What the compiler gave: the serialised engine, its kernels, and how it was made.

    `listed` are the engine's own kernels for each target; where it takes several sizes their shapes are open. `xrays`
    are those kernels with shapes: of one size the same, else those for `seen_at` (height, width). `device` is the GPU
    they were chosen on, None where they were chosen for families. `attempts[chosen]` became `data`.
    """

    data: bytes
    product: Product
    device: Device | None
    listed: dict[str, XRay]
    xrays: dict[str, XRay]
    seen_at: Size | None
    seconds: float
    warnings: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    chosen: int


def compile_engine(
    model: bytes,
    targets: Sequence[str] = (),
    progress: Progress = SILENT,
    *,
    product: Product | None = None,
    profiles: Sequence[Profile] = (),
    optimization_level: int | None = None,
    builds: int = 1,
    caches: Path | None = None,
) -> CompiledEngine:
    """Compile a serialised ONNX model with `product` (None: TensorRT for RTX).

    targets: GPU families; none for a portable engine, or (TensorRT) the GPU at hand. profiles: none for a graph of
    one size. builds: compile so many times and keep the engine whose kernels move least. caches: folder of TensorRT's
    timing cache, None for none.

    For several families the compiler lists the kernels of one only, so each is also compiled alone to be seen; so is,
    by TensorRT for RTX, the size `seen_at`, since kernels of open shapes tell no bytes.

    Raises InputError when the parser refuses the graph (each refusal with node, operator and reason) and for options
    that do not fit it, or when the compiler gives no engine of it, MissingRuntimeError where the product or a GPU is
    missing, KeyboardInterrupt after Ctrl-C.
    """
    if builds < 1:
        raise InputError(f"{builds} builds; build at least once.")
    if optimization_level is not None and optimization_level not in LEVELS:
        raise InputError(f"Optimisation level {optimization_level} is not one of {', '.join(map(str, LEVELS))}.")
    product = product or open_product("tensorrt-rtx")
    targets, device = resolve_targets(product, targets)
    start = time.perf_counter()
    cache = timing_cache_path(caches, product, device) if caches and device and product.name == "tensorrt" else None
    job = _Job(product, model, optimization_level, cache, progress)
    where = device.name if device else ", ".join(targets) or "any GPU from Ampere on"
    with progress.stage(f"compiling with {product.name} {product.version} for {where}"):
        built = [job.compile(targets, profiles) for _ in range(builds)]
    attempts = tuple(
        Attempt(b.seconds, hashlib.sha256(b.data).hexdigest(), len(b.data), len(b.xray.kernels), b.xray.bytes_moved)
        for b in built
    )
    chosen = min(range(builds), key=lambda k: (attempts[k].bytes_moved, attempts[k].kernels, k))
    names = targets or (PORTABLE,)
    listed = {names[0]: built[chosen].xray}
    if len(names) > 1:
        listed = {name: job.compile((name,), profiles).xray for name in names}
    seen_at = _seen_at(product, profiles)
    xrays = listed
    if seen_at is not None and product.name == "tensorrt-rtx":
        only = (Profile.only(seen_at),)
        xrays = {name: job.compile(() if name == PORTABLE else (name,), only).xray for name in names}
    warnings = sum_up([text for b in built for text in b.warnings])
    if warnings:
        progress.note("the builder warns: " + "; ".join(warnings))
    return CompiledEngine(
        built[chosen].data, product, device, listed, xrays, seen_at, time.perf_counter() - start, warnings, attempts,
        chosen,
    )  # fmt: skip


def _seen_at(product: Product, profiles: Sequence[Profile]) -> Size | None:
    """The size whose kernels are shown for an engine of several: the best one of the largest profile.

    Of TensorRT that of the first profile: its inspector sees through a context, which opens with that one.
    """
    if not profiles:
        return None
    return profiles[0].best if product.name == "tensorrt" else max(profiles, key=lambda p: p.best[0] * p.best[1]).best


@dataclass(frozen=True)
class _Built:
    data: bytes
    xray: XRay
    warnings: list[str]
    seconds: float


def settle(trt: Any) -> None:
    """Build an engine of one ReLU and forget it.

    TensorRT for RTX 1.7 spoils the one build that follows a failed one in the same process: INT8 convolutions become
    FP16 between conversions, float graphs get more kernels, and nothing is said (tests/engines/tensorrt/test_builder.py
    shows both ways). This is the build that is spoilt.
    """
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    x, y = (value(name, TensorProto.FLOAT, [1, 8, 8, 8]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "relu", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    log = _open_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    trt.OnnxParser(network, log).parse(model.SerializeToString())
    builder.build_serialized_network(network, builder.create_builder_config())


class _Job:
    """A graph to be compiled, once or several times."""

    def __init__(
        self, product: Product, model: bytes, level: int | None, cache: Path | None, progress: Progress
    ) -> None:
        self._product, self._model = product, model
        self._level, self._cache, self._progress = level, cache, progress

    def compile(self, targets: Sequence[str], profiles: Sequence[Profile]) -> _Built:
        watch = Watch()
        start = time.perf_counter()
        data, xray, warnings = run_watched(lambda: self._compile(targets, profiles, watch), watch, self._progress)
        return _Built(data, xray, warnings, time.perf_counter() - start)

    def _compile(
        self, targets: Sequence[str], profiles: Sequence[Profile], watch: Watch
    ) -> tuple[bytes, XRay, list[str]]:
        trt, name = self._product.module, self._product.name
        log = _open_log(trt)
        builder = trt.Builder(log)
        # The number of the flag differs between releases, and 10.16 is weakly typed without it.
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log)
        if not parser.parse(self._model):
            raise InputError(f"{name} refuses the graph:\n" + "\n".join(parser_refusals(parser)))
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.progress_monitor = open_monitor(trt, watch)
        if self._level is not None:
            config.builder_optimization_level = self._level
        self._add_profiles(builder, network, config, profiles)
        # On by default, it would give float32 convolutions, and the islands that are left in float32 for their digits,
        # FP16's mantissa. Precision is the graph's alone.
        config.clear_flag(trt.BuilderFlag.TF32)
        if name == "tensorrt-rtx":
            self._configure_rtx(config, targets)
        if self._cache:
            use_timing_cache(config, self._cache, self._progress)
        host = builder.build_serialized_network(network, config)
        if host is None:
            errors = list(log.errors)
            if name == "tensorrt-rtx":
                settle(trt)
            raise InputError(f"{name} gave no engine:\n{build_failure(errors)}")
        if self._cache:
            keep_timing_cache(config, self._cache, self._progress)
        data = bytes(host)
        if name == "tensorrt-rtx":
            return data, parse_builder_log(log.listing), log.warnings
        return data, self._inspect(data, log, profiles), log.warnings

    def _add_profiles(self, builder: Any, network: Any, config: Any, profiles: Sequence[Profile]) -> None:
        source = network.get_input(0)
        shape = tuple(source.shape)
        is_open = [d == -1 for d in shape]
        if not any(is_open):
            if profiles:
                raise InputError(
                    f"The graph has one size, {'x'.join(map(str, shape))}; sizes are named for a dynamic graph."
                )
            return
        if not profiles:
            raise InputError("The graph takes every size; name those it is compiled for with --shapes.")
        for profile in profiles:
            made = builder.create_optimization_profile()
            low, best, high = (_fill(shape, size) for size in (profile.least, profile.best, profile.most))
            made.set_shape(source.name, low, best, high)  # raises where it does not fit
            if config.add_optimization_profile(made) < 0:
                raise InputError(f"{self._product.name} does not take the profile {profile.to_text()} of this graph.")

    def _configure_rtx(self, config: Any, targets: Sequence[str]) -> None:
        trt = self._product.module
        # Else large frames may be allocated while they run, and then no CUDA graph is captured.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        if not targets:
            return
        config.num_compute_capabilities = len(targets)
        for k, target in enumerate(targets):
            capability = getattr(trt.ComputeCapability, target.upper(), None)
            if capability is None or not config.set_compute_capability(capability, k):
                raise InputError(f"TensorRT for RTX {self._product.version} does not compile for {target}.")

    def _inspect(self, data: bytes, log: Any, profiles: Sequence[Profile]) -> XRay:
        """The kernels of a data-centre engine: its builder logs none, its inspector tells them on the GPU."""
        trt = self._product.module
        runtime = trt.Runtime(log)
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise UnblurError(f"{self._product.name} does not open what it has built:\n{build_failure(log.errors)}")
        inspector = engine.create_engine_inspector()
        size = _seen_at(self._product, profiles)
        if size is not None:
            # Kernels of open shapes tell no bytes: look at them at one size.
            name = engine.get_tensor_name(0)
            context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
            if context is None or not context.set_input_shape(name, _fill(tuple(engine.get_tensor_shape(name)), size)):
                raise UnblurError(f"{self._product.name} does not show its kernels:\n{build_failure(log.errors)}")
            inspector.execution_context = context
        return parse_inspector(inspector.get_engine_information(trt.LayerInformationFormat.JSON)).xray


def _fill(shape: tuple[int, ...], size: Size) -> tuple[int, ...]:
    """An input's shape with its two open dimensions, height before width, put in."""
    lengths = iter(size)
    return tuple(next(lengths) if length == -1 else length for length in shape)


def _open_log(trt: Any) -> Any:
    """An ILogger that keeps errors, warnings and the listing of kernels."""

    class Log(trt.ILogger):  # type: ignore[misc]  # exists only at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.listing: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(message)
            if message.startswith(("Layers:", "Total Activation Memory")):
                self.listing.append(message)

    return Log()
