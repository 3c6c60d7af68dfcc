"""Rules about element types, and about what a GPU family computes in."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto, TensorProto

from unblur.engines.tensorrt.lint.operators import MEASURED
from unblur.engines.tensorrt.lint.rule import Hit, LintView, Rule
from unblur.graphs.file import type_name

KNOWN = frozenset(
    getattr(TensorProto, name)
    for name in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT32", "INT64", "INT8", "UINT8", "BOOL", "INT4",
                 "FLOAT8E4M3FN", "FLOAT4E2M1", "FLOAT8E8M0", "UNDEFINED")
)  # fmt: skip
"""Element types the parser converts; UNDEFINED is what inference did not find."""

TYPES = "onnx-tensorrt docs/operators.md: supported ONNX data types"
SUPPORT = "docs.nvidia.com TensorRT support matrix: precisions by compute capability"
PRODUCTS_OF_MATRICES = ("MatMul", "Gemm", "Einsum")
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


def _tensors(view: LintView) -> Iterator[tuple[NodeProto, str, int]]:
    """Each tensor once, with the first node that makes or reads it."""
    seen: set[str] = set()
    for node in view.nodes:
        for name in (*node.input, *node.output):
            if name and name not in seen:
                seen.add(name)
                yield node, name, view.type(name)


def _element(view: LintView) -> Iterator[Hit]:
    for node, name, kind in _tensors(view):
        if kind not in KNOWN:
            yield node, f"{name!r} is {type_name(kind)}"


def _uint8(view: LintView) -> Iterator[Hit]:
    for node in view.nodes:
        if node.op_type in QUANTISERS:  # their zero points have rules of their own
            continue
        for name in node.input:
            if view.type(name) == TensorProto.UINT8 and node.op_type not in ("Cast", "Identity", "Shape"):
                yield node, f"reads {name!r} as UINT8"
        for name in node.output:
            if view.type(name) == TensorProto.UINT8 and name not in view.outputs:
                yield node, f"makes {name!r} as UINT8 inside the graph"


def _bfloat16(view: LintView) -> Iterator[Hit]:
    if view.request.sm is None or view.request.sm >= 80:
        return
    for node, name, kind in _tensors(view):
        if kind == TensorProto.BFLOAT16:
            yield node, f"{name!r} is BFLOAT16, which {view.request.target} does not compute in"
            return


def _bfloat16_deconvolution(view: LintView) -> Iterator[Hit]:
    for node in view.of("ConvTranspose"):
        if view.type(node.input[0]) == TensorProto.BFLOAT16:
            yield node, 'a BFLOAT16 ConvTranspose: the compiler "could not infer output types"'


def _fp8(view: LintView) -> Iterator[Hit]:
    if view.request.sm is None or view.request.sm >= 89:
        return
    for node, name, kind in _tensors(view):
        if kind == TensorProto.FLOAT8E4M3FN:
            yield node, f"{name!r} is FP8, which {view.request.target} does not compute in"
            return


def _turing_products(view: LintView) -> Iterator[Hit]:
    if view.request.sm != 75:
        return
    for node in view.of(*PRODUCTS_OF_MATRICES):
        if view.type(node.input[0]) == TensorProto.FLOAT:
            yield node, "a matrix product in FLOAT for sm75"


def _turing_int8(view: LintView) -> Iterator[Hit]:
    if view.request.sm != 75:
        return
    for node in view.of("Conv", "ConvTranspose"):
        made_by = view.producer.get(node.input[0])
        if made_by is None or made_by.op_type != "DequantizeLinear":
            continue
        if view.type(made_by.input[0]) == TensorProto.INT8:
            yield node, "asked in INT8, emulated in a wider type on sm75"


def _double(view: LintView) -> Iterator[Hit]:
    for node, name, kind in _tensors(view):
        if kind == TensorProto.DOUBLE:
            yield node, f"{name!r} is DOUBLE, which is computed as FLOAT"


_CAST = "cast to FLOAT, FLOAT16, BFLOAT16 or INT64"
_NARROW = "build for a newer family, or quantise to another type"

RULES = (
    Rule("element type", _element, _CAST, {"tensorrt": TYPES, "tensorrt-rtx": MEASURED}),
    Rule(
        "uint8", _uint8, "Cast right behind the input and right before the output",
        {"tensorrt": "onnx-tensorrt docs/operators.md: UINT8 only as network input or output",
         "tensorrt-rtx": MEASURED},
    ),
    Rule("double", _double, "cast to FLOAT, so that every engine rounds alike",
         {"tensorrt": "onnx-tensorrt docs/operators.md: DOUBLE is cast down to FLOAT", "tensorrt-rtx": MEASURED},
         refused=False),
    Rule("bf16 target", _bfloat16, "FP16, or a target of sm80 or later",
         {"tensorrt": SUPPORT, "tensorrt-rtx": MEASURED}),
    Rule("bf16 deconvolution", _bfloat16_deconvolution, "keep the node in FLOAT, or write it as convolutions and "
         "DepthToSpace", {"tensorrt-rtx": MEASURED}),
    Rule("fp8 target", _fp8, f"sm89 or later: {_NARROW}", {"tensorrt": SUPPORT, "tensorrt-rtx": MEASURED}),
    Rule("fp32 product on sm75", _turing_products, "FP16, or a target of sm80 or later", {"tensorrt-rtx": MEASURED}),
    Rule("int8 on sm75", _turing_int8, "FP16, or a target of sm80 or later", {"tensorrt-rtx": MEASURED}, refused=False),
)  # fmt: skip
