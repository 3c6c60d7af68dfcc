"""What a machine gives at most, measured with the libraries that the engines themselves run on; no data sheet.

The two lines of a roofline (Williams, Waterman, Patterson, CACM 52(4), 2009): multiply-adds of a large matrix product
in PyTorch and of wide convolutions in OpenVINO, whichever is faster, and bytes of a sum of two long vectors (STREAM's
"add": McCalpin, 1995), each the best of some rounds. Seconds in all.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from unblur.compare.timing import Ceilings, LatencyResult, Peak, Rates
from unblur.core.provenance import cpu_features
from unblur.graphs.facts import GraphFacts
from unblur.metrics.stopwatch import Protocol, Timed, measure

ROUNDS = Protocol(rounds=7, warmup_window=1, warmup_rounds_max=2, settle_ms=0)
WIDTHS = {"f32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}
"""Bytes of a number."""


@dataclass(frozen=True)
class Load:
    """How large the work is. The vectors are of numbers of 4 bytes and fit no cache."""

    side: int = 2048
    channels: int = 256
    map: int = 64
    layers: int = 8
    numbers: int = 64 * 2**20


LOADS = {"cpu": Load(), "cuda": Load(side=8192, numbers=256 * 2**20)}


def measure_ceilings(threads: int, device: str = "cpu", load: Load | None = None) -> Ceilings:
    """Of the CPU on so many threads, or of a GPU as PyTorch names it ("cuda:0"), through PyTorch alone there."""
    kind = torch.device(device).type
    load = load or LOADS[kind]
    work: dict[tuple[str, str], tuple[float, Callable[[], object]]] = {}
    began = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with _threads(threads), torch.inference_mode():
        for precision, run in _products(device, load.side):
            work[precision, "matrix product, PyTorch"] = (2.0 * load.side**3, run)
        if kind == "cpu" and importlib.util.find_spec("openvino"):
            for precision, run in _convolutions(threads, load):
                macs = load.layers * load.channels**2 * 9 * load.map**2
                work[precision, "convolution, OpenVINO"] = (2.0 * macs, run)
        one, other, total = (torch.rand(load.numbers, device=device) for _ in range(3))
        work["memory", ""] = (3.0 * 4 * load.numbers, lambda: torch.add(one, other, out=total))
        wait = torch.cuda.synchronize if kind == "cuda" else None
        timed = [Timed(" ".join(key), _ignoring(run), wait) for key, (_, run) in work.items()]
        session = measure(timed, ROUNDS)
    rates = {key: 1e3 * amount / min(session.latencies_ms(" ".join(key))) for key, (amount, _) in work.items()}
    memory = rates.pop(("memory", "")) / 1e9
    best: dict[str, Peak] = {}
    for (precision, by), rate in rates.items():
        if precision not in best or rate / 1e12 > best[precision].tera_per_s:
            best[precision] = Peak(precision=precision, tera_per_s=rate / 1e12, by=by)
    peaks = tuple(best.values())
    return Ceilings(device=device, threads=threads, peaks=peaks, memory_gb_s=memory, load=began)


def rates_of(latency: LatencyResult, facts: GraphFacts, ceilings: Ceilings) -> Rates:
    """What an engine makes of the device, by the median of `run` alone (of the device alone where that was timed)."""
    told = latency.description["precision"]
    precision = "int8" if "int8" in told else told
    seconds = (latency.on_device.best_known if latency.on_device else latency.summary).median_ms / 1e3
    peak, moved = ceilings.peak(precision), facts.elements * WIDTHS.get(precision, 4)
    tera = 2 * facts.macs / seconds / 1e12
    return Rates(
        precision=precision,
        tera_per_s=tera,
        share=tera / peak.tera_per_s if peak else None,
        gb_s=moved / seconds / 1e9,
        memory_share=moved / seconds / 1e9 / ceilings.memory_gb_s,
    )


def _ignoring(run: Callable[[], object]) -> Callable[[int], object]:
    return lambda _: run()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _products(device: str, side: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Square matrix products in every precision that the device multiplies in."""
    on_gpu = torch.device(device).type == "cuda"
    types = {"f32": torch.float32}
    types |= {"fp16": torch.float16} if on_gpu else {}
    types |= {"bf16": torch.bfloat16} if on_gpu or cpu_features().get("bfloat16") else {}
    for name, dtype in types.items():
        one, other = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
        yield name, lambda one=one, other=other: one @ other  # type: ignore[misc]
        if name == "f32" and on_gpu:
            yield "tf32", lambda one=one, other=other: _tf32(one, other)  # type: ignore[misc]
    if on_gpu:
        bytes_of = [torch.randint(-128, 128, (side, side), device=device).to(torch.int8) for _ in range(2)]
        yield "int8", lambda: torch._int_mm(*bytes_of)


def _tf32(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, True
    try:
        return one @ other
    finally:
        matmul.allow_tf32 = before


def _convolutions(threads: int, load: Load) -> Iterator[tuple[str, Callable[[], object]]]:
    """Wide convolutions in float32, bfloat16 and 8 bits, where OpenVINO's runtime model says that it runs them so."""
    from unblur.engines.openvino_runner import INTEGERS, compile_openvino, convolution_precisions

    frame = np.random.default_rng(0).random((1, load.channels, load.map, load.map), dtype=np.float32)
    for precision in ("f32", "bf16", "int8"):
        compiled = compile_openvino(
            _model(load, precision == "int8"), threads, "f32" if precision == "int8" else precision
        )
        if set(convolution_precisions(compiled)) <= (set(INTEGERS) if precision == "int8" else {precision}):
            request = compiled.create_infer_request()
            yield precision, lambda request=request: request.infer([frame])  # type: ignore[misc]


def _model(load: Load, in_8_bits: bool) -> onnx.ModelProto:
    """Convolutions of 3x3 in a row, with ReLUs; at the end one number a channel, so that no result is copied."""
    rng = np.random.default_rng(0)
    shape = (load.channels, load.channels, 3, 3)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Any] = {"scale": np.float32(0.02), "fine": np.float32(1 / 127 / load.channels)}
    constants |= {"zero": np.uint8(0), "middle": np.int8(0)}
    at = "frame"
    for k in range(load.layers):
        weights = f"weights{k}"
        if in_8_bits:
            constants[weights] = rng.integers(-127, 128, shape, dtype=np.int8)
            nodes += [
                helper.make_node("QuantizeLinear", [at, "scale", "zero"], [f"q{k}"]),
                helper.make_node("DequantizeLinear", [f"q{k}", "scale", "zero"], [f"d{k}"]),
                helper.make_node("DequantizeLinear", [weights, "fine", "middle"], [f"w{k}"]),
            ]
        else:
            constants[weights] = (rng.random(shape, dtype=np.float32) - 0.5) / math.sqrt(math.prod(shape[1:]))
        factors = [f"d{k}", f"w{k}"] if in_8_bits else [at, weights]
        nodes.append(helper.make_node("Conv", factors, [f"c{k}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k}"]))
        at = f"r{k}"
    nodes.append(helper.make_node("GlobalAveragePool", [at], ["mean"]))
    whole = (1, load.channels, load.map, load.map)
    graph = helper.make_graph(
        nodes,
        "ceiling",
        [helper.make_tensor_value_info("frame", TensorProto.FLOAT, whole)],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, (1, load.channels, 1, 1))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
