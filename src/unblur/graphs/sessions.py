"""ONNX Runtime sessions of graphs that are being worked on: in memory, any tensor visible, no pixel contract.

By default a graph runs as it is written, with graph optimisations off. Then a pair of QuantizeLinear and
DequantizeLinear rounds, a cast and its way back are two roundings, and everything else computes in float32: the numbers
are the graph's own and not those of a backend's 8-bit kernels. FP8 pairs run too: ONNX Runtime's CPU kernels round them
as OFP8 says (compared with ml_dtypes, bit for bit).
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from unblur.core.errors import InputError, MissingRuntimeError
from unblur.graphs.onnx_file import needed, reason

Adjust = Callable[[Any, Any], None]
"""Changes session options: of them and the module onnxruntime."""

WHO = "running a graph in memory"


def as_written(options: Any, onnxruntime: Any) -> None:
    """Every node computes what it says."""
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def as_backend(options: Any, onnxruntime: Any) -> None:
    """ONNX Runtime's own choice, as its runner has it: fused nodes, 8-bit kernels.

    On a CPU without VNNI these saturate in the 16-bit sums of u8 x s8.
    """
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


def open_session(
    model: onnx.ModelProto, what: str = "the graph", *, threads: int = 1, adjust: Adjust = as_written
) -> Any:
    """An InferenceSession of `model` on the CPU.

    Raises MissingRuntimeError without ONNX Runtime, InputError naming `what` for a graph that it refuses.
    """
    onnxruntime = open_onnxruntime(WHO)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # many pools at once would spin
    adjust(options, onnxruntime)
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU.name])
    except refusals() as error:
        raise InputError(f"ONNX Runtime cannot run {what} ({reason(error)}); export it again.") from error


@contextlib.contextmanager
def as_it_runs() -> Iterator[None]:
    """Some graphs open and fail only when they run (a group or a stride of 0, sizes that do not fit): InputError."""
    try:
        yield
    except refusals() as error:
        raise InputError(f"ONNX Runtime cannot run the graph ({reason(error)}); export it again.") from error


class WrittenGraph:
    """A graph of one input, ready to run: its outputs, or the inner tensors that are asked for."""

    def __init__(
        self,
        model: onnx.ModelProto,
        tensors: Sequence[str] = (),
        *,
        what: str = "the graph",
        threads: int = 1,
        adjust: Adjust = as_written,
    ) -> None:
        """`tensors`: what `run` gives; empty for the graph's own outputs. What they do not need is not computed.

        Raises InputError for a tensor that the graph does not have, and as `open_session`.
        """
        self._names = tuple(tensors) or tuple(value.name for value in model.graph.output)
        known = {o for node in model.graph.node for o in node.output} | {v.name for v in model.graph.input}
        for name in self._names:
            if name not in known:
                raise InputError(f"The graph has no tensor {name!r}; is it the graph that was planned for?")
        part = _cut(model, self._names) if tensors else model
        self._session = open_session(part, what, threads=threads, adjust=adjust)
        self._input = model.graph.input[0].name

    def run(self, tensor: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """One batch of one, as the pixel contract encodes it -> the tensors by name. Raises InputError."""
        with as_it_runs():
            values = self._session.run(list(self._names), {self._input: np.ascontiguousarray(tensor)})
        return dict(zip(self._names, values, strict=True))

    def output(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """The first of the tensors alone."""
        return self.run(tensor)[self._names[0]]


def _cut(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """The part of a graph that some of its tensors depend on, with these as its outputs."""
    nodes, wanted = needed(model.graph, tensors)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.initializer[:], part.graph.output[:], part.graph.value_info[:]
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in wanted)
    # Types are left for ONNX Runtime to infer.
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return part


@dataclass(frozen=True)
class Provider:
    """What ONNX Runtime executes with. `extra` is the extra of unblur that brings it.

    `precision`: what a float32 graph is computed in, None for exactly that.
    """

    name: str
    extra: Literal["cpu", "gpu"]
    options: tuple[tuple[str, str], ...] = ()
    precision: str | None = None


CPU = Provider("CPUExecutionProvider", "cpu")


def open_onnxruntime(who: str, extra: Literal["cpu", "gpu"] = "cpu") -> Any:
    """The module onnxruntime, which must be imported here only. Raises MissingRuntimeError with the way to get it.

    From 1.29 on it sends usage data and keeps a device id in the user's cache unless this variable is set before the
    first session; a person who wants that sets it to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingRuntimeError(
            f'{who}: the package onnxruntime is not installed ({error}); pip install -e ".[{extra}]".'
        ) from error


def refusals() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises about a graph: classes of its own, which have no common base."""
    states = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return tuple(kind for kind in vars(states).values() if isinstance(kind, type) and issubclass(kind, Exception))
