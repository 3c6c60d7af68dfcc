"""Rules about QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import NodeProto, TensorProto

from unblur.engines.tensorrt.lint.operators import MEASURED
from unblur.engines.tensorrt.lint.rule import Hit, LintView, Rule
from unblur.engines.tensorrt.lint.types import QUANTISERS
from unblur.engines.tensorrt.product import ProductName
from unblur.graphs.file import type_name
from unblur.graphs.view import attributes, operand

HEADER = "NVIDIA/TensorRT include/NvInfer.h, IQuantizeLayer and IDequantizeLayer"
IMPORTER = "onnx-tensorrt onnxOpImporters.cpp, QuantDequantLinearHelper"
WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1}
_BOTH: Mapping[ProductName, str] = {"tensorrt": IMPORTER, "tensorrt-rtx": MEASURED}


def _zero_point(view: LintView) -> Iterator[Hit]:
    for node in view.of(*QUANTISERS):
        zero = view.value(operand(node, 2))
        if zero is not None and np.any(zero.astype(np.float32) != 0):
            yield node, f"the zero point is {zero.astype(np.float32).ravel()[0]:g}, not 0"


def _scale(view: LintView) -> Iterator[Hit]:
    for node in view.of(*QUANTISERS):
        scale = view.value(operand(node, 1))
        if scale is not None and not np.all(scale.astype(np.float32) > 0):
            yield node, f"a scale is {scale.astype(np.float32).min():g}, not above 0"


def _scale_count(view: LintView) -> Iterator[Hit]:
    for node in view.of(*QUANTISERS):
        scale, shape = view.shape(operand(node, 1)), view.shape(node.input[0])
        if scale is None or shape is None or len(scale) != 1 or scale[0] in (1, None) or _block(node):
            continue
        channels = shape[_axis(node, len(shape))]
        if channels is not None and channels != scale[0]:
            yield node, f"{scale[0]} scales for {channels} channels"


def _unsigned(view: LintView) -> Iterator[Hit]:
    for node in view.of("QuantizeLinear"):
        zero = operand(node, 2)
        kind = view.type(zero) if zero else TensorProto.UINT8  # ONNX: uint8 where no zero point is given
        if kind == TensorProto.UINT8:
            yield node, "quantises to UINT8, which is taken for INT8: what lies above 127 is cut off"


def _bias(view: LintView) -> Iterator[Hit]:
    for node in view.of("DequantizeLinear"):
        if view.type(node.input[0]) == TensorProto.INT32:
            yield node, "an INT32 bias behind DequantizeLinear"


def _weight_axis(view: LintView) -> Iterator[Hit]:
    for node in view.of(*WEIGHT_AXIS):
        weights = view.producer.get(operand(node, 1))
        if weights is None or weights.op_type != "DequantizeLinear" or not _per_channel(view, weights):
            continue
        axis = _axis(weights, len(view.shape(weights.input[0]) or (0,) * 4))
        if axis != WEIGHT_AXIS[node.op_type]:
            yield node, f"weight scales along axis {axis}, {node.op_type} has them along {WEIGHT_AXIS[node.op_type]}"


def _map_scales(view: LintView) -> Iterator[Hit]:
    for node in view.of("QuantizeLinear"):
        if _per_channel(view, node) and not view.is_constant(node.input[0]):
            yield node, "a scale a channel on a map; only constant weights may have them"


def _scale_type(view: LintView) -> Iterator[Hit]:
    for node in view.of("QuantizeLinear"):
        scale, data = view.type(operand(node, 1)), view.type(node.input[0])
        if scale in (TensorProto.FLOAT16, TensorProto.BFLOAT16) and data not in (scale, TensorProto.UNDEFINED):
            yield node, f"a scale in {type_name(scale)} on {type_name(data)}"
    for node in view.of(*QUANTISERS):
        if view.opset < 19 and view.type(operand(node, 1)) in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            yield node, f"a 16-bit scale in opset {view.opset}; ONNX has them from 19 on"


def _groups(view: LintView) -> Iterator[Hit]:
    for node in view.of(*WEIGHT_AXIS):
        groups = attributes(node).get("group", 1)
        data, weights = view.producer.get(node.input[0]), view.shape(node.input[1])
        if groups == 1 or weights is None or data is None or data.op_type != "DequantizeLinear":
            continue
        if view.type(data.input[0]) != TensorProto.INT8 or weights[0] is None or weights[1] is None:
            continue
        into, out_of = (weights[1], weights[0] // groups)
        if into % 4 or out_of % 4:
            yield node, f"INT8 with {into} and {out_of} channels a group, which must be multiples of 4"


def _per_channel(view: LintView, node: NodeProto) -> bool:
    scale = view.shape(operand(node, 1))
    return scale is not None and len(scale) == 1 and scale[0] != 1


def _axis(node: NodeProto, rank: int) -> int:
    axis = int(attributes(node).get("axis", 1))
    return axis % rank


def _block(node: NodeProto) -> bool:
    return bool(attributes(node).get("block_size", 0))


RULES = (
    Rule("zero point", _zero_point, "quantise symmetrically: zero point 0", _BOTH),
    Rule("scale sign", _scale, "calibrate again; a map that is always 0 needs any positive scale", _BOTH),
    Rule("scale count", _scale_count, "one scale, or one a channel of the axis", _BOTH),
    Rule("unsigned", _unsigned, "INT8 with zero point 0", _BOTH, refused=False),
    Rule("integer bias", _bias, "keep the bias in floating point (QuantizeBias=False)",
         {"tensorrt": "onnx-tensorrt issue 850; NvInfer.h: no INT32 into IDequantizeLayer", "tensorrt-rtx": MEASURED}),
    Rule("weight axis", _weight_axis, "axis 0 for Conv, 1 for ConvTranspose", {"tensorrt": HEADER}),
    Rule("map scales", _map_scales, "one scale for the whole map", {"tensorrt": HEADER}),
    Rule("scale type", _scale_type, "scales in the type of the map, opset 19 or later", {"tensorrt": HEADER}),
    Rule("int8 groups", _groups, "leave the convolution in FP16",
         {"tensorrt": "NVIDIA/TensorRT include/NvInfer.h, setNbGroups of IConvolutionLayer"}),
)  # fmt: skip
