"""Rules about operators and their attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import TensorProto

from unblur.engines.tensorrt.lint.rule import Hit, LintView, Rule, all_ones
from unblur.engines.tensorrt.product import ProductName
from unblur.graphs.file import type_name
from unblur.graphs.view import attributes, operand

TABLE = "onnx-tensorrt docs/operators.md (10.15; 11.2 says the same)"
MEASURED = "TensorRT for RTX 1.7.1: its parser and compiler, asked in the tests"
OPSETS = range(9, 26)
OPSET_GUIDE = "docs.nvidia.com TensorRT 11.x, ONNX opset guide: 9 to 25 (the 10.15 and 11.2 tables: 9 to 24)"

UNSUPPORTED = frozenset([
    "AffineGrid", "Bernoulli", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    "CenterCropPad", "Col2Im", "Compress", "ConcatFromSequence", "ConvInteger", "CumProd", "Det",
    "DynamicQuantizeLinear", "ImageDecoder", "MatMulInteger", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix",
    "Multinomial", "NegativeLogLikelihoodLoss", "Optional", "OptionalGetElement", "OptionalHasElement",
    "QLinearConv", "QLinearMatMul", "RegexFullMatch", "SequenceAt", "SequenceConstruct", "SequenceEmpty",
    "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "SoftmaxCrossEntropyLoss",
    "SplitToSequence", "StringConcat", "StringNormalizer", "StringSplit", "SwiGLU", "TfIdfVectorizer", "Unique",
])  # fmt: skip
"""What neither product has: "N" in the table, or not in it."""

RTX_LACKS = frozenset({"DFT", "DeformConv"})
"""Plugins of the data-centre product that TensorRT for RTX does not carry."""

SINCE = {"DFT": (11, 2), "Swish": (11, 0)}
"""Operators of the data-centre product -> the release that brought them."""

RESIZE_COORDINATES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
RESIZE_DIMENSIONS = {"linear": 3, "cubic": 2}
LARGEST_K = 3840
POOLS = ("AveragePool", "MaxPool", "LpPool")
REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
              "ReduceProd", "ReduceSum", "ReduceSumSquare")  # fmt: skip


def _opset(view: LintView) -> Iterator[Hit]:
    if view.opset not in OPSETS:
        yield view.nodes[0], f"the graph is of opset {view.opset}, the parser knows {OPSETS[0]} to {OPSETS[-1]}"


def _operator(view: LintView) -> Iterator[Hit]:
    for node in view.nodes:
        name = node.op_type
        if (node.domain, name) in view.functions:
            continue
        if name in UNSUPPORTED or (view.request.product == "tensorrt-rtx" and name in RTX_LACKS):
            yield node, f"{view.request.product} has no {name}"
        elif view.request.product == "tensorrt" and view.request.version < SINCE.get(name, (0, 0)):
            major, minor = SINCE[name]
            yield node, f"tensorrt has {name} only from {major}.{minor} on"


def _foreign(view: LintView) -> Iterator[Hit]:
    for node in view.nodes:
        foreign = node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in view.functions
        if foreign and not onnx.defs.has(node.op_type):
            yield node, f"{node.domain}::{node.op_type} is no ONNX operator; it would need a plugin"


def _resize(view: LintView) -> Iterator[Hit]:
    for node in view.of("Resize"):
        has = attributes(node)
        coordinates = has.get("coordinate_transformation_mode", "half_pixel")
        if coordinates not in RESIZE_COORDINATES:
            yield node, f"coordinate_transformation_mode {coordinates}"
        if has.get("antialias", 0):
            yield node, "antialias"
        if has.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            yield node, f"keep_aspect_ratio_policy {has['keep_aspect_ratio_policy']}"


def _resize_dimensions(view: LintView) -> Iterator[Hit]:
    for node in view.of("Resize"):
        mode = attributes(node).get("mode", "nearest")
        most = RESIZE_DIMENSIONS.get(mode)
        scaled = _scaled_dimensions(view, node)
        if most is not None and scaled > most:
            yield node, f"{mode} over {scaled} dimensions, at most {most}"


def _scaled_dimensions(view: LintView, node: onnx.NodeProto) -> int:
    """From the first dimension that changes to the last; 0 where that is not known."""
    scales = view.value(operand(node, 2))
    if scales is not None and scales.size:
        changed = [k for k, scale in enumerate(scales) if scale != 1]
    else:
        before, after = view.shape(node.input[0]), view.shape(node.output[0])
        if before is None or after is None:
            return 0
        changed = [k for k, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    return changed[-1] - changed[0] + 1 if changed else 0


def _pool(view: LintView) -> Iterator[Hit]:
    for node in view.of(*POOLS):
        dilations = attributes(node).get("dilations", [])
        if not all_ones(dilations):
            yield node, f"dilations {list(dilations)}"
        if node.op_type == "MaxPool" and len(node.output) > 1:
            yield node, "the output of indices"


def _reduce(view: LintView) -> Iterator[Hit]:
    for node in view.of(*REDUCTIONS):
        axes = operand(node, 1)
        if axes and not view.is_constant(axes):
            yield node, f"axes come from {axes!r}, which is not a constant"


def _scatter(view: LintView) -> Iterator[Hit]:
    for node in view.of("ScatterND"):
        if (reduction := attributes(node).get("reduction", "none")) != "none":
            yield node, f"reduction {reduction}"


def _normalisation(view: LintView) -> Iterator[Hit]:
    for node in view.of("LayerNormalization"):
        if len(node.output) > 1:
            yield node, "outputs beside Y"


def _top(view: LintView) -> Iterator[Hit]:
    for node in view.of("TopK"):
        k = view.value(operand(node, 1))
        if k is not None and int(k.flat[0]) > LARGEST_K:
            yield node, f"K is {int(k.flat[0])}, at most {LARGEST_K}"


def _top_sorted(view: LintView) -> Iterator[Hit]:
    for node in view.of("TopK"):
        if attributes(node).get("sorted", 1) != 1:
            yield node, "sorted=0"


def _grid(view: LintView) -> Iterator[Hit]:
    if view.request.version >= (11, 2):
        return
    for node in view.of("GridSample"):
        shape, kind = view.shape(node.input[0]), view.type(node.input[0])
        if shape is not None and len(shape) != 4:
            yield node, f"an input of {len(shape)} dimensions, 4 before TensorRT 11.2"
        if kind == TensorProto.BFLOAT16:
            yield node, "BFLOAT16, FLOAT and FLOAT16 before TensorRT 11.2"


def _deform(view: LintView) -> Iterator[Hit]:
    for node in view.of("DeformConv"):
        pads = list(attributes(node).get("pads", []))
        if pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
            yield node, f"pads {pads}: begin and end of each axis must be equal"
        kind = view.type(node.input[0])
        if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UNDEFINED):
            yield node, f"{type_name(kind)}, only FLOAT and FLOAT16"


_BOTH: Mapping[ProductName, str] = {"tensorrt": TABLE, "tensorrt-rtx": MEASURED}

RULES = (
    Rule("opset", _opset, "convert it (onnx.version_converter) or export it again", {"tensorrt": OPSET_GUIDE}),
    Rule("operator", _operator, "write it with other operators, or run this graph with another engine", _BOTH),
    Rule(
        "foreign operator", _foreign, "export without custom operators",
        {"tensorrt": "onnx-tensorrt: an operator that is not known is looked for among the plugins",
         "tensorrt-rtx": MEASURED},
    ),
    Rule("resize", _resize, "half_pixel, asymmetric or align_corners, stretch, without antialias", _BOTH),
    Rule(
        "resize dimensions", _resize_dimensions, "leave batch and channels as they are",
        {"tensorrt": "NVIDIA/TensorRT include/NvInfer.h, InterpolationMode", "tensorrt-rtx": MEASURED},
    ),
    Rule("pool", _pool, "no dilations and no indices: gather and reduce instead", _BOTH),
    Rule("reduce axes", _reduce, "give the axes as an initializer", _BOTH),
    Rule("scatter reduction", _scatter, "reduce before or after a plain ScatterND", _BOTH),
    Rule("layer normalisation", _normalisation, "compute mean and deviation with ReduceMean", _BOTH),
    Rule("top k", _top, f"K of at most {LARGEST_K}", _BOTH),
    Rule("top k order", _top_sorted, "sorted=1", {"tensorrt": TABLE}),
    Rule(
        "grid sample", _grid, "a 4-D input in FLOAT or FLOAT16, or TensorRT 11.2",
        {"tensorrt": "onnx-tensorrt docs/operators.md: 10.15 against 11.2"},
    ),
    Rule("deformable convolution", _deform, "equal pads, FLOAT or FLOAT16", {"tensorrt": TABLE}),
)  # fmt: skip
