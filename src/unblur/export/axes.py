"""The part of a dynamic graph that depends on the size alone, run in every backend at every length.

A whole graph is proved at a few sizes; what may be wrong at one length and right at its neighbours is only what it
computes from the lengths: which pixels a bin averages, which bin a place reads. Those are whole numbers, so what a
backend makes of them is right or wrong.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from unblur.core.bounds import Size
from unblur.core.errors import BudgetError, UnblurError
from unblur.engines.openvino_runner import run_openvino
from unblur.graphs.sessions import WrittenGraph, as_backend

Derived = Callable[[Size], Mapping[str, Sequence[NDArray[Any]]]]
"""`unblur.networks.family.Exactness.derived`."""

Backend = Literal["onnxruntime", "openvino"]
"""Engines of float32 graphs on a CPU: what is proved here is proved of these, in those that are installed."""

LENGTHS = range(1, 2049)
"""Lengths of maps of `--prove`: of a network that halves its frames, to 4096 pixels a side."""

OTHER = 8
"""Length of the other axis meanwhile."""


def installed_backends() -> tuple[Backend, ...]:
    """Those that this environment has."""
    return tuple(name for name in get_args(Backend) if importlib.util.find_spec(name) is not None)


def axes_part(model: onnx.ModelProto) -> onnx.ModelProto:
    """What is computed from the map's size until a product or a gather takes it, as a graph of its own.

    Input: a map (1, C, h, w), of which only the shape counts. Outputs: matrices that pool and indices that stretch.
    Raises UnblurError for a graph that computes no such thing.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    shapes = [node for node in model.graph.node if node.op_type == "Shape"]
    sources = {node.input[0] for node in shapes}
    sized: set[str] = set()
    nodes = []
    outputs: dict[str, None] = {}
    for node in model.graph.node:
        given = [name for name in node.input if name and name not in constants]
        if node.op_type == "Shape" or (given and sized.issuperset(given)):
            nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
            sized.update(node.output)
        elif node.op_type in ("MatMul", "Gather"):
            outputs |= dict.fromkeys(name for name in node.input if name in sized)
    if len(sources) != 1 or not outputs:
        raise UnblurError(f"The graph computes from {sorted(sources) or 'no size'} alone; export it as dynamic.")
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "axes",
        [helper.make_tensor_value_info(sources.pop(), TensorProto.FLOAT, [1, "channels", "rows", "columns"])],
        [onnx.ValueInfoProto(name=name) for name in outputs],  # types are left for the backend to infer
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def prove_axes(model: onnx.ModelProto, derived: Derived, backend: Backend, lengths: Iterable[int] = LENGTHS) -> None:
    """Run `axes_part` of a dynamic graph at these lengths, on either axis, against what `derived` says.

    Raises BudgetError naming a length where something is not PyTorch's.
    """
    part = axes_part(model)
    run = run_openvino(part, threads=1) if backend == "openvino" else WrittenGraph(part, adjust=as_backend).run
    for length in lengths:
        for rows, columns in ((length, OTHER), (OTHER, length)):
            results = run(np.zeros((1, 1, rows, columns), np.float32))
            wrong = _wrong(results.values(), derived((rows, columns)))
            if wrong:
                raise BudgetError(
                    f"{backend} computes other {wrong} than PyTorch for a map of {rows}x{columns}; nothing was written."
                )


def _wrong(results: Iterable[NDArray[Any]], derived: Mapping[str, Sequence[NDArray[Any]]]) -> str:
    """What of the results is not as it should be; matrices are told by where they are positive: weights are rounded."""
    got = [value if value.dtype.kind in "iu" else value > 0 for value in results]
    for what, expected in derived.items():
        given = [value for value in got if value.dtype.kind == expected[0].dtype.kind]
        for one, others in ((given, expected), (expected, given)):
            if not all(any(np.array_equal(value, other) for other in others) for value in one):
                return what
    return ""
