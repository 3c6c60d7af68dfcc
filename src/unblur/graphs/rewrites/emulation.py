"""What a 16-bit graph computes, executed in float32 on any CPU: every tensor rounded, every sum kept wide.

ONNX Runtime has no BF16 convolution on a CPU and converts FP16 ones to and fro; so the cast graph is written back in
float32 with a cast to the narrow type and back behind every node that computes. Products and sums are then float32,
as tensor cores accumulate; each tensor is rounded once, to nearest even. A compiler that fuses a convolution with its
activation rounds once where this rounds twice: the emulation errs on the pessimistic side.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from unblur.graphs.rewrites.casting import NARROW_TYPES, Narrow
from unblur.graphs.shapes import find_tensors

MOVES = frozenset(
    {"Transpose", "Reshape", "Split", "Gather", "Concat", "Slice", "Squeeze", "Unsqueeze", "Expand", "Identity", "Relu",
     "DepthToSpace"}
)  # fmt: skip
"""Operators whose results are values they were given, or zero: rounded already."""


def widen(cast: onnx.ModelProto, precision: Narrow) -> onnx.ModelProto:
    """The graph of `cast_graph` in float32 with its roundings. Tensor names stay.

    A float32 tensor of the result that was narrow in `cast` holds only values of the narrow type.
    """
    narrow = NARROW_TYPES[precision].onnx_type
    known = find_tensors(cast)
    wide = onnx.ModelProto()
    wide.CopyFrom(cast)
    del wide.graph.node[:], wide.graph.value_info[:]
    for tensor in wide.graph.initializer:
        if tensor.data_type == narrow:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in cast.graph.node:
        copied = wide.graph.node.add()
        copied.CopyFrom(node)
        results = [name for name in node.output if known.type(name) == narrow]
        if node.op_type == "Cast" and results:  # this is the rounding itself
            copied.output[0] = f"{results[0]}/narrow"
            wide.graph.node.append(_cast(copied.output[0], results[0], TensorProto.FLOAT))
        elif results and node.op_type not in MOVES:
            for k, name in enumerate(node.output):
                copied.output[k] = f"{name}/exact"
                wide.graph.node.extend(
                    [_cast(f"{name}/exact", f"{name}/narrow", narrow), _cast(f"{name}/narrow", name, TensorProto.FLOAT)]
                )
    return wide


def _cast(source: str, result: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], f"{result}/Cast", to=to)
