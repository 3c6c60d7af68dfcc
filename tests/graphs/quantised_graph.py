"""The graphs behind the recorded logs of 8-bit engines: two convolutions of 64 channels, each with Q/DQ, in FP16."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE = 64, 32


def quantised(kind: int = TensorProto.INT8, per_channel: bool = False) -> onnx.ModelProto:
    """(1, 64, 32, 32) -> l1/Conv, ReLU, l2/Conv, ReLU; one weight scale, or one a channel."""
    rng = np.random.default_rng(0)
    count = CHANNELS if per_channel else 1
    shape = [CHANNELS] if per_channel else []
    constants = [numpy_helper.from_array(np.array(0.05, np.float16), "s"), helper.make_tensor("z", kind, [], [0])]
    nodes = []
    data = "x"
    for i in (1, 2):
        weight = rng.normal(0, 0.05, (CHANNELS, CHANNELS, 3, 3)).astype(np.float16)
        constants += [
            numpy_helper.from_array(weight, f"w{i}"),
            numpy_helper.from_array(np.full(shape, 0.01, np.float16), f"ws{i}"),
            helper.make_tensor(f"wz{i}", kind, shape, [0] * count),
        ]
        nodes += [
            helper.make_node("QuantizeLinear", [data, "s", "z"], [f"q{i}"], f"l{i}/Q"),
            helper.make_node("DequantizeLinear", [f"q{i}", "s", "z"], [f"d{i}"], f"l{i}/DQ"),
            helper.make_node("QuantizeLinear", [f"w{i}", f"ws{i}", f"wz{i}"], [f"qw{i}"], f"l{i}/wQ", axis=0),
            helper.make_node("DequantizeLinear", [f"qw{i}", f"ws{i}", f"wz{i}"], [f"dw{i}"], f"l{i}/wDQ", axis=0),
            helper.make_node("Conv", [f"d{i}", f"dw{i}"], [f"c{i}"], f"l{i}/Conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{i}"], [f"y{i}"], f"l{i}/Relu"),
        ]
        data = f"y{i}"
    edges = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, [1, CHANNELS, SIDE, SIDE]) for n in ("x", "y2")]
    graph = helper.make_graph(nodes, "quantised", edges[:1], edges[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
