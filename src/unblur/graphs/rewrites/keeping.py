"""Which convolutions stay in floating point when nobody says otherwise, each with the reason."""

from __future__ import annotations

import math

import onnx
from onnx import NodeProto

from unblur.core.errors import InputError
from unblur.graphs.facts import CONVOLUTIONS, is_map
from unblur.graphs.rewrites.forms import Form
from unblur.graphs.shapes import find_tensors

FIRST, LAST = "first: reads the frame", "last: writes the frame"


def kept_by_default(model: onnx.ModelProto, form: Form) -> dict[str, str]:
    """Convolution -> why it stays in floating point: the first, the last, those of strips, what the form leaves out.

    Raises InputError for a graph whose shapes are not known.
    """
    graph, known = model.graph, find_tensors(model, strict=False)
    given = known.whole_shape(graph.input[0].name) or (1, 3, 0, 0)
    frame = given[2:] if given[1] == 3 else given[1:3]  # (height, width) of NCHW or NHWC
    after, before = _reached(graph)
    kept = {}
    for node in graph.node:
        if node.op_type in CONVOLUTIONS:
            weight, data = known.whole_shape(node.input[1]) or (), known.whole_shape(node.input[0]) or ()
            if len(weight) != 4 or len(data) != 4 or not all((*weight, *data)):
                raise InputError(
                    f"{node.name}: the shapes of its operands are not known; export the graph for one size "
                    "(--height and --width) to quantise it."
                )
            reason = _reason(node, weight, data, frame, form)
            if not any(after.get(i, False) for i in node.input):
                reason = FIRST
            elif not any(before.get(o, False) for o in node.output):
                reason = LAST
            if reason:
                kept[node.name] = reason
    return kept


def _reason(
    node: NodeProto, weight: tuple[int, ...], data: tuple[int, ...], frame: tuple[int, ...], form: Form
) -> str | None:
    transposed = node.op_type == "ConvTranspose"
    if transposed and not form.transposed:
        return f"transposed: form {form.name} leaves it out"
    if not is_map(data[2], data[3], frame[0], frame[1]):
        return "reads a strip, not a map: too little to gain"
    into, out = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
    if min(into, out) < form.narrowest:
        return f"{into} to {out} channels: form {form.name} wants at least {form.narrowest}"
    area = math.prod(weight[2:])
    if form.largest_kernel is not None and area > form.largest_kernel:
        return f"kernel of {area} elements: form {form.name} takes {form.largest_kernel}"
    return None


def _reached(graph: onnx.GraphProto) -> tuple[dict[str, bool], dict[str, bool]]:
    """Tensor -> whether a convolution lies upstream; tensor -> whether one lies downstream. By data, not by shape."""
    after: dict[str, bool] = {}
    before: dict[str, bool] = {}
    for node in graph.node:  # topological, as ONNX demands
        found = node.op_type in CONVOLUTIONS or any(after.get(i, False) for i in node.input)
        after.update(dict.fromkeys(node.output, found))
    for node in reversed(graph.node):
        found = node.op_type in CONVOLUTIONS or any(before.get(o, False) for o in node.output)
        for name in node.input:
            before[name] = before.get(name, False) or found
    return after, before
