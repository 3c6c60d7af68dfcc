"""The precision that is asked for, written into the graph, or found in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import onnx
from onnx import TensorProto

from unblur.core.console import Progress
from unblur.core.errors import InputError
from unblur.engines.graph_facts import CONVOLUTIONS, GraphFacts
from unblur.export.casting import cast_graph

Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_TYPES: dict[str, Precision] = {"FP8": "fp8", "Int8": "int8", "Half": "fp16", "BFloat16": "bf16", "Float": "fp32"}
"""What a convolution is asked to compute in -> the precision; of a graph with several the first here names it."""


@dataclass(frozen=True)
class PreparedGraph:
    """A graph of the asked precision, and its nodes that kept float32 with the reason."""

    model: onnx.ModelProto
    precision: Precision
    kept_fp32: tuple[tuple[str, str], ...]


def precision_of(facts: GraphFacts) -> Precision:
    """The narrowest precision that the graph's types ask of a convolution."""
    asked = {convolution.asked for convolution in facts.convolutions}
    return next(precision for kind, precision in _TYPES.items() if kind in asked)


def prepare_graph(
    model: onnx.ModelProto,
    facts: Callable[[onnx.ModelProto], GraphFacts],
    asked: Precision | None,
    origin: Any,
    progress: Progress,
) -> PreparedGraph:
    """Rewrite a graph to the precision asked for (None: the one it has).

    A float32 graph is cast to FP16 or BF16. INT8 and FP8 need ranges of every map, which a graph alone does not tell:
    such a graph must have its Q/DQ pairs already, and 16-bit types in between. Raises InputError, naming `origin`,
    for a graph that is of another precision, BudgetError as `cast_graph`.
    """
    found = precision_of(facts(model))
    if asked is None or asked == found:
        if found in ("int8", "fp8"):
            _demand_narrow_rest(model, found, origin)
        return PreparedGraph(model, found, ())
    if asked == "int8" or asked == "fp8":
        raise InputError(
            f"{origin} has no {asked} convolution (it is {found}); {asked} takes a graph with QuantizeLinear and "
            "DequantizeLinear around its convolutions, which `unblur calibrate` writes from frames. Without one, build "
            "--fp16 or --bf16."
        )
    if found != "fp32" or asked == "fp32":
        raise InputError(f"{origin} is {found} already, not float32; give the float32 graph it came from.")
    progress.note(f"rewriting the graph to {asked.upper()}")
    cast = cast_graph(model, asked)
    return PreparedGraph(cast.model, asked, cast.kept_fp32)


def _demand_narrow_rest(model: onnx.ModelProto, precision: Precision, origin: Any) -> None:
    """A DequantizeLinear gives the type of its scale: in float32 the whole rest of the network would run in it."""
    types = {t.name: t.data_type for t in model.graph.initializer}
    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        types[value.name] = value.type.tensor_type.elem_type
    wide = [
        node.name
        for node in model.graph.node
        if node.op_type in CONVOLUTIONS and types.get(node.input[0]) == TensorProto.FLOAT
    ]
    if wide:
        raise InputError(
            f"{origin} is {precision}, but {len(wide)} of its convolutions (such as {wide[0]}) stand in float32; what "
            "is not quantised must be FP16 or BF16 in the graph, scales included."
        )
