"""Deconvolution as a convolution: each output phase is a convolution of its own, woven together by DepthToSpace.

With stride s, output row s*i + a sums the kernel's rows k with k = a + pad (mod s), each over input row
i + (a + pad - k) / s (ONNX ConvTranspose). So ConvTranspose with weights (C, O, K, K) is Conv with weights
(O*s*s, C, T, T), T the span of those offsets, followed by DepthToSpace in the order of PixelShuffle (CRD). Exact: the
same products, none of them with inserted zeros but where T exceeds a phase's taps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from unblur.core.errors import InputError


def write_phases(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every ConvTranspose as Conv and DepthToSpace; the convolution keeps the node's name.

    Raises InputError for a deconvolution whose output is not `stride` times its input, with groups, dilation, unequal
    sides or weights that are not constant.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    graph = written.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made: dict[str, NDArray[Any]] = {}

    def constant(name: str, values: NDArray[Any]) -> str:
        """Once for deconvolutions that share it; apart where their strides make two of it."""
        while name in constants or not np.array_equal(made.setdefault(name, values), values, equal_nan=True):
            name += "_"
        return name

    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "ConvTranspose":
            nodes.append(node)
            continue
        stride, pad, weight = _read(node, constants)
        phases, low, high = phase_weight(weight, stride, pad)
        names = [constant(f"{node.input[1]}_phases", phases)]
        if len(node.input) > 2 and node.input[2]:
            bias = numpy_helper.to_array(constants[node.input[2]])
            names.append(constant(f"{node.input[2]}_phases", np.repeat(bias, stride * stride)))
        inner = f"{node.output[0]}_phases"
        woven = [
            helper.make_node("Conv", [node.input[0], *names], [inner], node.name, pads=[low, low, high, high]),
            helper.make_node(
                "DepthToSpace", [inner], list(node.output), f"{node.name}/DepthToSpace", blocksize=stride, mode="CRD"
            ),
        ]
        for each in woven:
            each.metadata_props.extend(node.metadata_props)
        nodes += woven
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in made.items())
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return written


def phase_weight(weight: NDArray[Any], stride: int, pad: int) -> tuple[NDArray[Any], int, int]:
    """Deconvolution weights (C, O, K, K) -> convolution weights (O*s*s, C, T, T), padding before and after."""
    kernel = weight.shape[2]
    # (phase, kernel row, offset into the input) of every product along one axis
    taps = [
        (phase, k, (phase + pad - k) // stride)
        for phase in range(stride)
        for k in range(kernel)
        if (phase + pad - k) % stride == 0
    ]
    first, last = min(offset for *_, offset in taps), max(offset for *_, offset in taps)
    span = last - first + 1
    phases = np.zeros((weight.shape[1], stride, stride, weight.shape[0], span, span), weight.dtype)
    for a, i, down in taps:
        for b, j, right in taps:
            phases[:, a, b, :, down - first, right - first] = weight[:, :, i, j].T
    return phases.reshape(-1, weight.shape[0], span, span), -first, last


def _read(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> tuple[int, int, NDArray[Any]]:
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if any(name not in constants for name in node.input[1:] if name):
        raise InputError(f"{node.name}: the deconvolution's weights are not constant; export the graph with unblur.")
    weight = numpy_helper.to_array(constants[node.input[1]])
    strides, pads = set(given.get("strides", [1, 1])), set(given.get("pads", [0, 0, 0, 0]))
    beyond = set(given.get("output_padding", [0, 0]))
    plain = (
        weight.ndim == 4
        and weight.shape[2] == weight.shape[3]
        and len(strides) == len(pads) == 1
        and given.get("group", 1) == 1
        and set(given.get("dilations", [1])) == {1}
        and len(beyond) == 1
        and "output_shape" not in given
        and given.get("auto_pad", b"NOTSET") == b"NOTSET"
    )
    if plain:
        stride, pad = strides.pop(), pads.pop()
        if weight.shape[2] - 2 * pad + beyond.pop() == stride:
            return stride, pad, weight
    raise InputError(
        f"{node.name}: a deconvolution with kernel {weight.shape[2:]}, strides {given.get('strides')} and pads "
        f"{given.get('pads')} has no phase form here (kernel - 2 pad + output padding = stride is needed); build it as "
        "FP16."
    )
