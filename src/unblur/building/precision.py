"""The precision that is asked for, written into the graph, or found in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import onnx
from onnx import TensorProto

from unblur.building.cast_frames import CastFrames
from unblur.building.islands import MeasuredCast, cast_measured
from unblur.core.console import Progress
from unblur.core.errors import InputError
from unblur.graphs.facts import CONVOLUTIONS, GraphFacts
from unblur.graphs.rewrites.casting import cast_graph
from unblur.graphs.shapes import find_tensors

Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_TYPES: dict[str, Precision] = {"FP8": "fp8", "Int8": "int8", "Half": "fp16", "BFloat16": "bf16", "Float": "fp32"}
"""What a convolution is asked to compute in -> the precision; of a graph with several the first here names it."""


@dataclass(frozen=True)
class PreparedGraph:
    """A graph of the asked precision, its nodes that kept float32 with the reason, and what the cast was measured to
    cost (None: it was not cast, or not measured)."""

    model: onnx.ModelProto
    precision: Precision
    kept_fp32: tuple[tuple[str, str], ...] = ()
    measured: MeasuredCast | None = None


def precision_of(facts: GraphFacts) -> Precision:
    """The narrowest precision that the graph's types ask of a convolution."""
    asked = {convolution.asked for convolution in facts.convolutions}
    return next(precision for kind, precision in _TYPES.items() if kind in asked)


def prepare_graph(
    model: onnx.ModelProto,
    facts: GraphFacts,
    asked: Precision | None,
    frames: Sequence[CastFrames],
    floor_db: float | None,
    origin: Any,
    progress: Progress,
) -> PreparedGraph:
    """Rewrite a graph to the precision asked for (None: the one it has).

    A float32 graph is cast to FP16 or BF16: on `frames`, so that what must stay in FP32 to keep `floor_db` does (None:
    FLOORS_DB), or without frames as it comes. INT8 and FP8 need ranges of every map, which a graph alone does not
    tell: such a graph must have its Q/DQ pairs already; what they leave out becomes FP16 (SM 7.5 on has it). Raises
    InputError, naming `origin`, for a graph that is of another precision, BudgetError as `cast_measured`.
    """
    found = precision_of(facts)
    if found in ("int8", "fp8") and asked in (found, None):
        wide = _wide_rest(model)
        if wide and asked is None:
            raise InputError(
                f"{origin} is {found}, but {len(wide)} of its convolutions (such as {wide[0]}) stand in float32; "
                f"build it with --{found}, which makes what is not quantised FP16."
            )
        if not wide:
            return PreparedGraph(model, found)
        progress.note("rewriting what is not quantised to FP16")
        cast = cast_graph(model, "fp16")
        return PreparedGraph(cast.model, found, cast.kept_fp32)
    if asked is None or asked == found:
        return PreparedGraph(model, found)
    if asked == "int8" or asked == "fp8":
        raise InputError(
            f"{origin} has no {asked} convolution (it is {found}); {asked} takes a graph with QuantizeLinear and "
            f"DequantizeLinear around its convolutions, which `unblur calibrate` writes from frames, or --checkpoint, "
            "which calibrates by itself. Without either, build --fp16 or --bf16."
        )
    if found != "fp32" or asked == "fp32":
        raise InputError(f"{origin} is {found} already, not float32; give the float32 graph it came from.")
    progress.note(f"rewriting the graph to {asked.upper()}")
    if not frames:
        cast = cast_graph(model, asked)
        return PreparedGraph(cast.model, asked, cast.kept_fp32)
    measured = cast_measured(model, asked, frames, floor_db, progress)
    return PreparedGraph(measured.cast.model, asked, measured.cast.kept_fp32, measured)


def _wide_rest(model: onnx.ModelProto) -> list[str]:
    """Convolutions that read float32. A DequantizeLinear gives the type of its scale: in float32 the whole rest of the
    network would run in it."""
    known = find_tensors(model, strict=False)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in CONVOLUTIONS and known.type(node.input[0]) == TensorProto.FLOAT
    ]
