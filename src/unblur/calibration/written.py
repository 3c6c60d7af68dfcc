"""Run a graph as it is written: ONNX Runtime with graph optimisations off, inner tensors visible.

Then a pair of QuantizeLinear and DequantizeLinear rounds and everything else computes in float32, so that the numbers
are the graph's own and not those of a backend's 8-bit kernels. FP8 pairs run too: ONNX Runtime's CPU kernels round
them as OFP8 says (compared with ml_dtypes, bit for bit).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from unblur.core.errors import InputError
from unblur.engines.onnxruntime_runner import open_onnxruntime

PROVIDER = "CPUExecutionProvider"


class WrittenGraph:
    """A graph, ready to run: its output, or the inner tensors that are asked for."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str] = (), *, threads: int = 1) -> None:
        """`tensors`: what `run` gives; empty for the graph's own outputs. What they do not need is not computed.

        Raises InputError for a tensor that the graph does not have, or a graph that ONNX Runtime refuses.
        """
        onnxruntime = open_onnxruntime("calibration")
        from onnxruntime.capi import onnxruntime_pybind11_state as states

        self._names = tuple(tensors) or tuple(value.name for value in model.graph.output)
        known = {o for node in model.graph.node for o in node.output} | {v.name for v in model.graph.input}
        for name in self._names:
            if name not in known:
                raise InputError(f"The graph has no tensor {name!r}; is it the graph that was planned for?")
        if tensors:
            model = _cut(model, self._names)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session: Any = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[PROVIDER])
        except (states.Fail, states.InvalidGraph, states.InvalidArgument, states.NotImplemented) as error:
            raise InputError(f"ONNX Runtime cannot open the graph ({str(error).splitlines()[0]}).") from error
        self._input = model.graph.input[0].name

    def run(self, tensor: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """One batch of one, as the pixel contract encodes it -> the tensors by name."""
        values = self._session.run(list(self._names), {self._input: np.ascontiguousarray(tensor)})
        return dict(zip(self._names, values, strict=True))


def _cut(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """The part of a graph that some of its tensors depend on, with these as its outputs."""
    wanted = set(tensors)
    nodes = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.initializer[:], part.graph.output[:], part.graph.value_info[:]
    part.graph.node.extend(reversed(nodes))
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in wanted)
    # Types are left for ONNX Runtime to infer.
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return part
