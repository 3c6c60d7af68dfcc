"""OpenVINO on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unblur.engines.backends.onnx_runtime import demand_quantised
from unblur.engines.engine import Engine, Opening, Precision

if TYPE_CHECKING:
    from unblur.engines.runner import Runner

PACKAGES = frozenset({"openvino"})
FORM = "openvino"
"""How a graph in 8 bits is written for it."""


def _engine(name: str, precision: Precision, text: str, *, rest: Literal["f32", "bf16"] = "f32") -> Engine:
    """`rest`: what computes in floating point is computed in that."""
    form = FORM if precision == "int8" else ""

    def open_it(opening: Opening) -> Runner:
        from unblur.engines.openvino_runner import OpenVinoRunner

        if form:
            demand_quantised(opening, form)
        return OpenVinoRunner(opening.name, opening.graph, rest, opening.threads)

    asked = _realised if form else None
    return Engine(
        name, "openvino", precision, "graph", "cpu", PACKAGES, "openvino", open_it, text, form, realised=asked
    )


def _realised(graph: Path) -> frozenset[str]:
    from unblur.engines.openvino_runner import realised

    return realised(graph)


ENGINES = (
    _engine("openvino", "fp32", "OpenVINO, float32"),
    _engine("openvino-bf16", "bf16", "OpenVINO, bfloat16", rest="bf16"),
    _engine("openvino-int8", "int8", "OpenVINO, u8 x s8"),
    _engine("openvino-int8-bf16", "int8", "OpenVINO, u8 x s8, all else in bfloat16", rest="bf16"),
)
