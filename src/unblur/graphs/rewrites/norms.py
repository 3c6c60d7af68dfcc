"""Instance normalisation spelled out: mean, mean square of what is left, and the map times one number less another.

In 16 bits these nodes stay FP32 (a sum of 57,600 squares does not fit in a half), between two casts. Of the one node
the compiler makes copies and kernels that write the map in FP32 three times; spelled out it fuses casts and arithmetic
(docs/networks.md has kernels and bytes).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPERATOR = "InstanceNormalization"


def spell_norms(model: onnx.ModelProto) -> tuple[onnx.ModelProto, frozenset[str]]:
    """The graph with every InstanceNormalization of nchw maps spelled out, and the names of the nodes that do it.

    The variance is that of what the mean leaves, as the operator's specification says; nothing is approximated. Opset
    18 or later, from which on ReduceMean takes its axes as an input; an earlier graph is given back as it is.
    """
    graph = model.graph
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    if opset < 18 or all(node.op_type != OPERATOR for node in graph.node):
        return model, frozenset()
    written = onnx.ModelProto()
    written.CopyFrom(model)
    del written.graph.node[:]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    axes = numpy_helper.from_array(np.array([2, 3], np.int64), "unblur.map_axes")
    stored = {axes.name: axes}
    spelled: set[str] = set()
    for node in graph.node:
        if node.op_type != OPERATOR:
            written.graph.node.append(node)
            continue
        x, scale, bias = node.input
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        eps = numpy_helper.from_array(np.array(given.get("epsilon", 1e-5), np.float32), f"{node.name}/epsilon")
        stored[eps.name] = eps
        out, inner = node.output[0], f"{node.name}/"
        steps = [
            ("ReduceMean", [x, axes.name], "mean"),
            ("Sub", [x, f"{inner}mean"], "left"),
            ("Mul", [f"{inner}left", f"{inner}left"], "square"),
            ("ReduceMean", [f"{inner}square", axes.name], "variance"),
            ("Add", [f"{inner}variance", eps.name], "above"),
            ("Sqrt", [f"{inner}above"], "root"),
            ("Reciprocal", [f"{inner}root"], "factor"),
            ("Mul", [f"{inner}mean", f"{inner}factor"], "shift"),
            ("Mul", [x, f"{inner}factor"], "scaled"),  # not left * factor: what is left need not be kept then
            ("Sub", [f"{inner}scaled", f"{inner}shift"], "normal"),
        ]
        for operator, name, neutral in (("Mul", scale, 1.0), ("Add", bias, 0.0)):
            value = constants.get(name)
            if value is None or (value != neutral).any():
                shaped = f"{inner}{operator}"
                shape = numpy_helper.from_array(np.array([1, -1, 1, 1], np.int64), f"{shaped}/shape")
                stored[shape.name] = shape
                steps += [("Reshape", [name, shape.name], f"{operator}/row"),
                          (operator, [f"{inner}{steps[-1][2]}", f"{shaped}/row"], operator)]  # fmt: skip
        for k, (operator, inputs, result) in enumerate(steps):
            last = k == len(steps) - 1
            made = helper.make_node(operator, inputs, [out if last else f"{inner}{result}"], f"{inner}{result}")
            made.metadata_props.extend(node.metadata_props)
            spelled.add(made.name)
            written.graph.node.append(made)
    used = {name for node in written.graph.node for name in node.input}
    kept = [tensor for tensor in (*graph.initializer, *stored.values()) if tensor.name in used]
    del written.graph.initializer[:]
    written.graph.initializer.extend(kept)
    return written, frozenset(spelled)
