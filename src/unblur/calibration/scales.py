"""Hold a quantised graph's scales to the maps they are for: too wide is coarse, too narrow cuts off.

A weight's wrong scale breaks any budget of decibels. A map's scale that is four times too wide only makes its steps
coarser, which can cost less than a budget allows (0 to 6 dB of fidelity, seen on the bundled network), so the budget
alone does not catch it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from unblur.core.errors import BudgetError, InputError
from unblur.graphs.rewrites.forms import Form
from unblur.graphs.sessions import WrittenGraph

LEAST_USE, LARGEST_USE = 0.4, 4.0
"""Largest value seen over largest value covered: frames differ by less than 2, and clipping algorithms cut off half
of a tail and more; four times too wide is 0.25, black calibration frames leave far more than 4 (all measured)."""


@dataclass(frozen=True)
class MisfitScale:
    """A tensor whose values use `use` times what its scale covers."""

    tensor: str
    use: float


def misfit_scales(model: onnx.ModelProto, form: Form, inputs: Sequence[NDArray[Any]]) -> tuple[MisfitScale, ...]:
    """Tensors whose scale does not fit them on these frames (as the contract encodes them), in the graph's order.

    `model`: a graph that was quantised in `form`. Parts of a concatenation have the whole's scale and are judged with
    it. Raises InputError for no frame.
    """
    if not inputs:
        raise InputError("Scales are checked on at least one frame.")
    nodes = model.graph.node
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    covered = {}
    for node in nodes:
        if node.op_type == "QuantizeLinear":
            scale, zero = (float(constants[name].astype(np.float64)) for name in node.input[1:3])
            low = 0 if form.activation.affine else -form.activation.largest
            covered[node.input[0]] = ((low - zero) * scale, (form.activation.largest - zero) * scale)
    whole_of = {
        name.removesuffix("/dequantised"): node.output[0]
        for node in nodes
        if node.op_type == "Concat" and node.output[0] in covered
        for name in node.input
        if name.endswith("/dequantised")
    }
    judged = [tensor for tensor in covered if tensor not in whole_of]
    running = WrittenGraph(model, judged)
    use = dict.fromkeys(judged, 0.0)
    for tensor in inputs:
        for name, values in running.run(tensor).items():
            sides = zip((float(values.min()), float(values.max())), covered[name], strict=True)
            # One side of the interval can be empty (after ReLU): what leaves it there is 0 anyway.
            use[name] = max(use[name], *(value / end for value, end in sides if end))
    # A part has the whole's scale, or is as much out of line as the two differ. Outer concatenations come later.
    for part, whole in reversed(whole_of.items()):
        use[part] = use[whole] * covered[whole][1] / covered[part][1]
    return tuple(MisfitScale(n, u) for n, u in use.items() if 0 < u < LEAST_USE or u > LARGEST_USE)


def demand_fitting_scales(misfits: Sequence[MisfitScale]) -> None:
    """Raise BudgetError naming the worst tensors."""
    if misfits:
        worst = sorted(misfits, key=lambda misfit: -abs(np.log(misfit.use)))[:5]
        shown = "\n".join(f"  {m.tensor}: the frames use {m.use:.3g} times what its scale covers" for m in worst)
        raise BudgetError(
            f"{len(misfits)} scales do not fit the maps they are for:\n{shown}\n"
            "Calibrate again, on frames like those the graph will see."
        )
