"""Graphs of one operator, and the real TensorRT for RTX asked whether it takes them. Needs no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from unblur.engines.tensorrt.builder import settle

Value = tuple[str, int, list[int] | None]
"""Name, element type, shape (None: left to the checker)."""

FLOAT, HALF, BF16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
MAP: list[int] = [1, 8, 16, 16]
WEIGHT = np.random.default_rng(0).normal(size=(8, 8, 3, 3)).astype(np.float32)


def constant(name: str, values: Any, kind: int = FLOAT) -> onnx.TensorProto:
    """Floats in any ONNX type, or integers as they are."""
    values = np.asarray(values)
    if values.dtype.kind == "f":
        return helper.make_tensor(name, kind, list(values.shape), values.ravel().tolist())
    return numpy_helper.from_array(values, name)


def graph(
    nodes: Sequence[NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    constants: Sequence[onnx.TensorProto] = (),
    opset: int = 20,
) -> onnx.ModelProto:
    def infos(values: Sequence[Value]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(*value) for value in values]

    made = helper.make_graph(list(nodes), "one", infos(inputs), infos(outputs), list(constants))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("example", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def one(
    operator: str,
    operands: Sequence[str] = ("x",),
    constants: Sequence[onnx.TensorProto] = (),
    *,
    shape: Sequence[int] = MAP,
    kind: int = FLOAT,
    results: int = 1,
    opset: int = 20,
    **attributes: Any,
) -> onnx.ModelProto:
    """x -> one node called "node" -> y0, y1, ..."""
    names = [f"y{k}" for k in range(results)]
    node = helper.make_node(operator, list(operands), names, name="node", **attributes)
    kinds = [kind, TensorProto.INT64 if operator in ("MaxPool", "TopK") else kind]
    outputs: list[Value] = [(name, kinds[k], None) for k, name in enumerate(names)]
    return graph([node], [("x", kind, list(shape))], outputs, constants, opset)


def convolution(kind: int, operator: str = "Conv", **attributes: Any) -> onnx.ModelProto:
    return one(operator, ("x", "w"), [constant("w", WEIGHT, kind)], kind=kind, **attributes)


def product(kind: int, operator: str = "MatMul", **attributes: Any) -> onnx.ModelProto:
    matrix = constant("m", np.full((16, 16), 0.25, np.float32), kind)
    shape = [16, 16] if operator == "Gemm" else MAP
    return one(operator, ("x", "m"), [matrix], kind=kind, shape=shape, **attributes)


def casts(kinds: Sequence[int], start: int = FLOAT, between: str | None = None) -> onnx.ModelProto:
    """x -> Cast -> Cast ..., with an operator after the first where one is named."""
    nodes, name = [], "x"
    for k, kind in enumerate(kinds):
        nodes.append(helper.make_node("Cast", [name], [f"c{k}"], f"cast{k}", to=kind))
        name = f"c{k}"
        if between and k == 0:
            nodes.append(helper.make_node(between, [name], ["between"], "node"))
            name = "between"
    return graph(nodes, [("x", start, [1, 16, 16, 3])], [(name, kinds[-1], None)])


def quantised(
    stored: int = TensorProto.INT8,
    *,
    operator: str = "Conv",
    zero: int = 0,
    scale: float = 0.05,
    weight_scales: Sequence[float] | None = None,
    axis: int = 0,
    integer_bias: bool = False,
    scale_kind: int = FLOAT,
    kind: int = FLOAT,
    group: int = 1,
    opset: int = 20,
) -> onnx.ModelProto:
    """x -> Q -> DQ -> convolution "node", its weights behind Q and DQ as well."""
    many = [] if weight_scales is None else [len(weight_scales)]
    along = {} if weight_scales is None else {"axis": axis}
    values = np.asarray(0.01 if weight_scales is None else weight_scales, np.float32)
    constants = [
        constant("s", np.float32(scale), scale_kind),
        helper.make_tensor("z", stored, [], [zero]),
        constant("w", WEIGHT[:, : 8 // group], kind),
        constant("ws", values, scale_kind),
        helper.make_tensor("wz", stored, many, [0] * values.size),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "Q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "DQ"),
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["qw"], "wQ", **along),
        helper.make_node("DequantizeLinear", ["qw", "ws", "wz"], ["dw"], "wDQ", **along),
    ]
    operands = ["d", "dw"]
    if integer_bias:
        constants += [
            helper.make_tensor("b", TensorProto.INT32, [8], [1] * 8),
            constant("bs", np.full(8, 0.001, np.float32)),
            helper.make_tensor("bz", TensorProto.INT32, [8], [0] * 8),
        ]
        nodes.append(helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bias"], "bDQ", axis=0))
        operands.append("bias")
    nodes.append(helper.make_node(operator, operands, ["y"], "node", pads=[1] * 4, group=group))
    return graph(nodes, [("x", kind, MAP)], [("y", scale_kind, None)], constants, opset)


def refusal(model: onnx.ModelProto, target: str = "portable") -> str:
    """Why TensorRT for RTX gives no engine; "" where it gives one."""
    import tensorrt_rtx as trt

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        return f"parser: {parser.get_error(0).desc()}"
    config = builder.create_builder_config()
    if target != "portable":
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), 0)
    if builder.build_serialized_network(network, config) is None:
        settle(trt)  # or the next build of this process would be spoilt
        return f"compiler: {logger.errors[-1] if logger.errors else 'no reason given'}"
    return ""
