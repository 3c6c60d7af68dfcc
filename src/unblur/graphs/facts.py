"""What a graph asks for: each convolution with its type and its multiply-accumulates, by the ONNX file alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx
from onnx import NodeProto, TensorProto

from unblur.core.errors import InputError
from unblur.graphs.file import type_name
from unblur.graphs.metadata import PRECISION_KEY, Part, parts_of, properties
from unblur.graphs.shapes import Tensors, find_tensors
from unblur.graphs.view import label

CONVOLUTIONS = ("Conv", "ConvTranspose")
"""What rewrites for a precision look at."""

PRODUCTS = ("MatMul", "Gemm", "DeformConv")
"""Multiplies too, and is left as it is by every rewrite but a cast."""

TYPES: dict[int, str] = {
    TensorProto.FLOAT: "Float",
    TensorProto.FLOAT16: "Half",
    TensorProto.BFLOAT16: "BFloat16",
    TensorProto.INT8: "Int8",
    TensorProto.FLOAT8E4M3FN: "FP8",
}
"""ONNX element type -> the compiler's word for it."""


SMALLEST_MAP = 64
"""A map has at least this part of the frame's height and width; what is smaller is pooled to a handful of numbers."""

NARROW = 2.5
"""A strip is narrow in one side only: there it is this many times further below the frame's than in the other."""


def is_map(height: int, width: int, frame_height: int, frame_width: int) -> bool:
    """Whether a tensor of (height, width) is a map of the frame, at whatever scale, and not a strip or a few numbers.

    One number a channel is none, however small the frame. A U-Net's 1/8 map is one: it is narrow in both sides. A strip
    of 360x7 in a 720p frame is 2 and 183 times smaller.
    """
    down, across = frame_height / height, frame_width / width
    return height * width > 1 and max(down, across) <= min(SMALLEST_MAP, NARROW * min(down, across))


@dataclass(frozen=True)
class Convolution:
    """A convolution node: `asked` is the type it shall compute in, `macs` counts one frame."""

    name: str
    asked: str
    macs: int


@dataclass(frozen=True)
class GraphFacts:
    """Facts of a graph of one size; height and width are the frame's, in pixels.

    `operators` maps node name -> operator, `parts` to its place in the network; `edges` are the names of the graph's
    inputs and outputs; `declared` is the precision in the metadata ("fp16"), None where the file does not say.
    `products`: the multiply-accumulates of matrix products and deformable convolutions, by node. `elements`: numbers
    that move if each of all these reads its map and its weights once and writes its result once, and what stands
    between them is fused and moves none.
    """

    convolutions: tuple[Convolution, ...]
    operators: dict[str, str]
    parts: Mapping[str, Part]
    edges: frozenset[str]
    declared: str | None
    height: int
    width: int
    products: Mapping[str, int] = field(default_factory=dict)
    elements: int = 0

    @property
    def convolution_macs(self) -> int:
        """Multiply-accumulates of the convolutions, one frame."""
        return sum(convolution.macs for convolution in self.convolutions)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of everything that multiplies, one frame."""
        return self.convolution_macs + sum(self.products.values())


def read_facts(model: onnx.ModelProto, height: int, width: int, *, count: bool = True) -> GraphFacts:
    """Infer shapes and types and look at every convolution.

    An operand behind a DequantizeLinear asks for the quantised type. `count` False: the graph is dynamic, inference
    does not find its shapes, and all `macs` are 0. Raises InputError for a convolution without a name (the compiler's
    list could not be matched to it), without a known shape, or in a type no engine computes in.
    """
    known, graph = find_tensors(model), model.graph
    producer = {name: node for node in graph.node for name in node.output}
    convolutions, products, elements = [], {}, 0
    for node in graph.node:
        if count and node.op_type in (*PRODUCTS, *CONVOLUTIONS):
            elements += sum(map(math.prod, _shapes(node, known)))
        if count and node.op_type in PRODUCTS:
            products[label(node)] = _macs(node, known)
        if node.op_type in CONVOLUTIONS:
            if not node.name:
                raise InputError(
                    f"The {node.op_type} that makes {node.output[0]!r} has no name; export it with unblur."
                )
            convolutions.append(
                Convolution(node.name, _asked(node, known, producer), _macs(node, known) if count else 0)
            )
    if not convolutions:
        raise InputError("The graph has no convolution; is it a deblurring network?")
    declared = properties(model).get(PRECISION_KEY)
    edges = frozenset(value.name for value in (*graph.input, *graph.output))
    operators = {node.name: node.op_type for node in graph.node}
    return GraphFacts(
        tuple(convolutions), operators, parts_of(model), edges, declared, height, width, products, elements
    )


def _asked(node: NodeProto, known: Tensors, producer: dict[str, NodeProto]) -> str:
    def stored(name: str) -> int:
        source = producer.get(name)
        if source is not None and source.op_type == "DequantizeLinear":
            name = source.input[0]
        return known.type(name)

    pixels, weights = (stored(name) for name in node.input[:2])
    # Quantised weights alone save memory, not arithmetic: then the type of the map is what is asked.
    kind = pixels if pixels == weights else known.type(node.input[0])
    if kind not in TYPES:
        raise InputError(f"{node.name} computes in {type_name(kind)}, which no engine here does.")
    return TYPES[kind]


def _macs(node: NodeProto, known: Tensors) -> int:
    left, weight, made = _shapes(node, known)
    if node.op_type in ("MatMul", "Gemm"):  # every result sums as many products as the operands share
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(made) * left[-2 if transposed else -1]
    # Conv and DeformConv: weights [O, I/g, kh, kw], each output sums I/g*kh*kw products. ConvTranspose:
    # [I, O/g, kh, kw], each input is spread over O/g*kh*kw outputs.
    through = left if node.op_type == "ConvTranspose" else made
    return math.prod(through) * math.prod(weight[1:])


def _shapes(node: NodeProto, known: Tensors) -> list[tuple[int, ...]]:
    """Of the two factors and of what is made of them."""
    shapes = []
    for name in (node.input[0], node.input[1], node.output[0]):
        found = known.whole_shape(name)
        if found is None:
            raise InputError(f"{label(node)}: the shape of {name!r} is not known; export the graph for one size.")
        shapes.append(found)
    return shapes
