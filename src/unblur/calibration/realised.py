"""Which convolutions a CPU backend really runs in 8 bits, asked of the backend after it has rewritten the graph.

A pair of QuantizeLinear and DequantizeLinear that a backend does not fuse costs time and saves none: it rounds, and
the convolution runs in floating point. Neither backend says so by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from unblur.core.errors import BudgetError, InputError, MissingRuntimeError
from unblur.engines.onnxruntime_runner import integer_convolutions
from unblur.engines.openvino_runner import CONVOLUTIONS, DEVICE
from unblur.graphs.facts import read_facts
from unblur.graphs.rewrites.quantise import QuantisedGraph
from unblur.graphs.sessions import as_backend, open_session

Backend = Literal["onnxruntime", "openvino"]

INTEGERS = ("u8", "i8")


@dataclass(frozen=True)
class Realised:
    """`in_8_bits`: convolutions whose kernel reads and multiplies integers; `macs_share`: their part of all, 0 to 1.

    `emulated`: convolutions that the graph asks for in 8 bits and that run in floating point.
    """

    backend: Backend
    in_8_bits: tuple[str, ...]
    emulated: tuple[str, ...]
    macs_share: float


def realised_on_cpu(graph: QuantisedGraph, backend: Backend) -> Realised:
    """Open the graph in a backend and read what became of its convolutions.

    Raises MissingRuntimeError without the backend's package, InputError for a graph the backend refuses.
    """
    with tempfile.TemporaryDirectory(prefix="unblur-") as folder:
        path = Path(folder) / "quantised.onnx"
        onnx.save(graph.model, path)
        integer = _READERS[backend](path)
    facts = read_facts(graph.model, 0, 0)
    asked = {convolution.name for convolution in graph.convolutions}
    found = tuple(c.name for c in facts.convolutions if c.name in integer)
    share = sum(c.macs for c in facts.convolutions if c.name in integer) / facts.macs
    return Realised(backend, found, tuple(c.name for c in facts.convolutions if c.name in asked - integer), share)


def demand_8_bits(realised: Realised) -> None:
    """Raise BudgetError when a convolution that the graph asks for in 8 bits runs in floating point."""
    if realised.emulated:
        shown = "\n".join(f"  {name}" for name in realised.emulated[:10])
        more = f"\n  ... and {len(realised.emulated) - 10} more" if len(realised.emulated) > 10 else ""
        raise BudgetError(
            f"{realised.backend} would run {len(realised.emulated)} convolutions in floating point that the graph asks "
            f"for in 8 bits:\n{shown}{more}\nQuantise in the form {realised.backend!r}, or keep these convolutions."
        )


def _onnxruntime(path: Path) -> set[str]:
    """Names of the nodes that became QLinearConv, from the optimised graph that ONNX Runtime saves."""
    optimised = path.with_name("optimised.onnx")

    def saved(options: Any, onnxruntime: Any) -> None:
        as_backend(options, onnxruntime)
        options.optimized_model_filepath = str(optimised)

    open_session(onnx.load(path), adjust=saved)
    return integer_convolutions(optimised)


def _openvino(path: Path) -> set[str]:
    """Names of the nodes whose kernel has an integer precision, from OpenVINO's runtime (execution) model."""
    try:
        import openvino
    except ImportError as error:
        raise MissingRuntimeError(
            f'openvino: the package is not installed ({error}); pip install -e ".[cpu]".'
        ) from error
    settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    try:
        compiled = core.compile_model(core.read_model(path), DEVICE, settings)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(f"OpenVINO cannot open the graph ({lines[-1]}).") from error
    found: set[str] = set()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info: Mapping[str, Any] = node.get_rt_info()
        if str(info["layerType"].astype(str)) in CONVOLUTIONS and str(info["runtimePrecision"].astype(str)) in INTEGERS:
            found.update(str(info["originalLayersNames"].astype(str)).split(","))
    return found


_READERS: Mapping[Backend, Callable[[Path], set[str]]] = {"onnxruntime": _onnxruntime, "openvino": _openvino}
