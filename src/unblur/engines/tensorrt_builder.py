"""Compile a strongly typed ONNX graph ahead of time with TensorRT for RTX. Needs no GPU and no driver.

Precision is whatever the graph says; there is no flag for it here. The builder's detailed log tells which
kernels it chose, so that the caller can hold the engine to what was asked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError, UnblurError, nearest
from unblur.engines.tensorrt_product import ProductName, open_product
from unblur.engines.xray import XRay, parse_builder_log

PORTABLE = "portable"
"""Name of the target when none is asked: any GPU from Ampere on."""

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""GPU families that TensorRT for RTX 1.7 compiles for ahead of time."""


@dataclass(frozen=True)
class CompiledEngine:
    """What the compiler gave: the serialised engine, its kernels for each target, and how it was made."""

    data: bytes
    product: ProductName
    version: str
    xrays: dict[str, XRay]
    seconds: float
    warnings: tuple[str, ...]


def parse_targets(text: str | None) -> tuple[str, ...]:
    """ "sm89,sm120" -> ("sm89", "sm120"); None -> (): a portable engine for Ampere and later.

    Raises InputError for an unknown family, naming the nearest.
    """
    if text is None:
        return ()
    targets = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",")))
    for target in targets:
        if target not in TARGETS:
            raise InputError(f"Unknown target {target!r}{nearest(target, TARGETS)}; known: {', '.join(TARGETS)}.")
    return targets


def compile_engine(model: bytes, targets: Sequence[str] = (), progress: Progress = SILENT) -> CompiledEngine:
    """Compile a serialised ONNX model for GPU families (none: portable).

    For several families the compiler lists the kernels of one only, so each is also compiled alone to be seen.

    Raises MissingRuntimeError without the package, InputError when the parser refuses the graph (each refusal
    with node, operator and reason), UnblurError when the compiler gives no engine.
    """
    product = open_product("tensorrt-rtx")
    trt = product.module
    start = time.perf_counter()
    name = ", ".join(targets) or "any GPU from Ampere on"
    progress.note(f"compiling with TensorRT for RTX {product.version} for {name}")
    data, xray, complaints = _compile(trt, model, targets)
    if len(targets) > 1:
        xrays = {target: _compile(trt, model, [target])[1] for target in targets}
    else:
        xrays = {targets[0] if targets else PORTABLE: xray}
    return CompiledEngine(
        data, product.name, product.version, xrays, time.perf_counter() - start, tuple(dict.fromkeys(complaints))
    )


def _compile(trt: Any, model: bytes, targets: Sequence[str]) -> tuple[bytes, XRay, list[str]]:
    messages: list[str] = []
    complaints: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc]  # exists only at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING):
                complaints.append(message)
            if message.startswith(("Layers:", "Total Activation Memory")):
                messages.append(message)

    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise InputError("TensorRT for RTX refuses the graph:\n" + "\n".join(_refusals(parser)))
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if targets:
        config.num_compute_capabilities = len(targets)
        for k, target in enumerate(targets):
            if not config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), k):
                raise InputError(f"This TensorRT for RTX does not compile for {target}; known: {', '.join(TARGETS)}.")
    host = builder.build_serialized_network(network, config)
    if host is None:
        reasons = "\n".join(complaints[-5:]) or "it logged no reason"
        raise UnblurError(f"TensorRT for RTX gave no engine:\n{reasons}")
    return bytes(host), parse_builder_log(messages), complaints


def _refusals(parser: Any) -> list[str]:
    lines = []
    for k in range(parser.num_errors):
        error = parser.get_error(k)
        lines.append(f"  node {error.node_name() or error.node()!r} ({error.node_operator()}): {error.desc()}")
    return lines or ["  the parser named no node; is the file a complete ONNX model?"]
