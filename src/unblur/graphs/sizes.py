"""Arithmetic on a graph's own sizes, done once: what is left says its shapes to whoever plans by them.

A network that pads its frame to a multiple (`F.pad(x, (0, -w % 8, 0, -h % 8))`, as NAFNet and Restormer do) is traced
by PyTorch's older exporter as arithmetic on constants, which ONNX's shape inference does not follow: behind the first
Pad no shape is known, in a graph of one size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from unblur.core.errors import InputError
from unblur.graphs.onnx_file import REFUSALS, infer, needed

Value = NDArray[Any]

LONGEST = 64
"""Numbers in a tensor of sizes; weights have more, or are not in whole numbers."""

ARITHMETIC = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Flatten", "Floor", "Gather",
    "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "ReduceProd", "Reshape", "Slice",
    "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""Of these only ConstantOfShape can make more numbers than it is given."""


def fold_sizes(model: onnx.ModelProto) -> None:
    """Make constants, in place, of what is computed from whole numbers and known shapes alone.

    The function stays: pixels and weights are not touched. They are nodes, as the exporter's own: an initializer tells
    what the weights are in, and is an input in files of old. A graph without such arithmetic stays as it is.
    """
    # What became known behind one Pad or Reshape may be asked for before the next.
    while _fold(model):
        pass


def _fold(model: onnx.ModelProto) -> bool:
    graph = model.graph
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    numbers = _constants(model)
    sizes = {name for name, value in numbers.items() if value.dtype.kind in "iub"}
    fixed = all(_sides(value) is not None for value in graph.input)
    shapes = _shapes(model) if fixed and any(node.op_type == "Shape" for node in graph.node) else {}
    outputs = {value.name for value in graph.output}
    folded: dict[int, dict[str, Value]] = {}
    for k, node in enumerate(graph.node):
        if node.domain or outputs.intersection(node.output):
            continue
        inputs = [name for name in node.input if name]
        if node.op_type == "Shape" and node.input[0] in shapes:
            feeds: dict[str, Value] = {node.input[0]: np.broadcast_to(np.float32(0), shapes[node.input[0]])}
        elif node.op_type in ARITHMETIC and numbers.keys() >= set(inputs) and sizes.intersection(inputs):
            feeds = {name: numbers[name] for name in inputs}
        else:
            continue
        made = _run(node, feeds, opsets)
        if made is not None:
            numbers |= made
            sizes |= made.keys()
            folded[k] = made
    if folded:
        nodes = [new for k, node in enumerate(graph.node) for new in _written(node, folded.get(k))]
        del graph.node[:]
        graph.node.extend(nodes)
        read, _ = needed(graph, outputs)  # of arithmetic in between nothing is left to read
        nodes = [NodeProto.FromString(node.SerializeToString()) for node in read]
        del graph.node[:]
        graph.node.extend(nodes)
    return bool(folded)


def _written(node: NodeProto, made: Mapping[str, Value] | None) -> Iterator[NodeProto]:
    """The node itself, or constants of what it made, of which the first has its name."""
    if made is None:
        yield NodeProto.FromString(node.SerializeToString())
        return
    names = [node.name, *(f"{node.name}/{result}" for result in made)]
    for name, (result, value) in zip(names, made.items(), strict=False):
        yield helper.make_node("Constant", [], [result], name, value=numpy_helper.from_array(value, result))


def _constants(model: onnx.ModelProto) -> dict[str, Value]:
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            stored[node.output[0]] = node.attribute[0].t
    few = {name: tensor for name, tensor in stored.items() if np.prod(tensor.dims, dtype=np.int64) <= LONGEST}
    return {name: numpy_helper.to_array(tensor) for name, tensor in few.items()}


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]  # of another size, perhaps, where somebody edited the input's
    try:
        graph = infer(bare, strict=False).graph
    except InputError:  # whoever needs the shapes asks again, and tells
        return {}
    found = ((value.name, _sides(value)) for value in (*graph.input, *graph.value_info))
    return {name: sides for name, sides in found if sides is not None}


def _sides(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    kind = value.type.tensor_type
    whole = kind.HasField("shape") and all(side.HasField("dim_value") for side in kind.shape.dim)
    return tuple(side.dim_value for side in kind.shape.dim) if whole else None


def _run(node: NodeProto, feeds: dict[str, Value], opsets: dict[str, int]) -> dict[str, Value] | None:
    """The node's results; None where they are no sizes, or the node cannot be run: it is left to the backends."""
    if node.op_type == "ConstantOfShape" and np.prod(feeds[node.input[0]], dtype=np.float64) > LONGEST:
        return None
    try:
        results = ReferenceEvaluator(node, opsets=opsets).run(None, feeds)
    except (*REFUSALS, AttributeError, AssertionError):
        return None
    made = {name: np.asarray(value) for name, value in zip(node.output, results, strict=True) if name}
    return made if all(value.size <= LONGEST and value.dtype.kind in "iubf" for value in made.values()) else None
