"""Who is to blame where two graphs of one network part: the tensor, its layer, the channel, and where in the picture.

Graphs of different precision do not name everything alike: what one node reads as a weight or a map, its namesake reads
dequantised, or cast. So each such operand gets the other's name, by an Identity: then a wrong scale is found at the
tensor that it scales, and not at what is computed from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from unblur.core.errors import InputError
from unblur.graphs.blame import GraphPair
from unblur.graphs.facts import CONVOLUTIONS
from unblur.graphs.metadata import parts_of
from unblur.graphs.shapes import find_tensors
from unblur.graphs.tensor_error import TensorError, first_parting

GRID = (8, 16)
"""Rows and columns of the map of an error."""

SHADES = " .:-=+*#%@"

LEVELS = 255
"""Steps between the ends of a range in 8 bits."""

FEWEST = 0.5
"""So large a part of the nodes that compute must have one name in both graphs, or they are of different networks."""


@dataclass(frozen=True)
class Place:
    """Where in the picture the error is: `grid`, its part of the whole in each of GRID cells, row by row; and the worst
    cell, as parts of height and width from the top left. `heat`: the error of each position, all channels together.
    """

    grid: tuple[tuple[float, ...], ...]
    top: float
    left: float
    bottom: float
    right: float
    heat: NDArray[np.float64]

    def lines(self) -> list[str]:
        """The grid as text: the darker, the more."""
        worst = max(max(row) for row in self.grid) or 1.0
        return ["".join(SHADES[round((v / worst) ** 0.5 * (len(SHADES) - 1))] for v in row) for row in self.grid]


@dataclass(frozen=True)
class Parting:
    """The first tensor that is further off than rounding explains, and what makes it.

    `block`: of the network, "" where the graph does not say. `channel`: (number, of how many, its part of the error),
    None for a tensor without channels. `why`: which operand differs, in words. `place`: None for what is no map.
    """

    error: TensorError
    operator: str
    block: str
    channel: tuple[int, int, float] | None
    why: str
    place: Place | None


@dataclass(frozen=True)
class Comparison:
    """Two graphs on some frames: all tensors that they share, in order, and the first parting if there is one."""

    errors: tuple[TensorError, ...]
    parting: Parting | None


def find_parting(
    first: onnx.ModelProto,
    second: onnx.ModelProto,
    inputs: Sequence[NDArray[Any]],
    rounding_db: float,
    threads: int | None = None,
) -> Comparison:
    """Run two graphs that are float32 between their nodes side by side and find where they part.

    `inputs`: frames as both take them. `rounding_db`: what one rounding leaves (ROUNDING_DB), of the coarser graph.
    Raises InputError for graphs of different networks, and as `GraphPair`.
    """
    _refuse_strangers(first, second)
    first, second = name_alike(first, second), name_alike(second, first)
    pair = GraphPair(first, second, threads)
    errors = pair.errors(inputs)
    found = first_parting(errors, rounding_db, _levels(errors, first, second))
    if found is None:
        return Comparison(errors, None)
    for tensor in inputs:
        a, b = (value.astype(np.float64) for value in pair.values(found.name, tensor))
        if not np.array_equal(a, b):
            break
    nodes = {name: node for node in first.graph.node for name in node.output}
    squares = np.nan_to_num(np.square(a - b), nan=np.inf, posinf=np.inf)
    squares = np.where(np.isfinite(squares), squares, np.finfo(np.float64).max / (10.0 * squares.size))
    parting = Parting(
        error=found,
        operator=nodes[found.name].op_type,
        block=parts_of(second)[found.node].block if found.node in parts_of(second) else "",
        channel=_channel(squares),
        why=_why(first, second, nodes[found.name], found),
        place=_place(squares),
    )
    return Comparison(errors, parting)


def name_alike(model: onnx.ModelProto, other: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with an Identity for each operand that the other's node of the same name makes under another name."""
    made = {name: node.name for node in other.graph.node for name in node.output}
    namesakes = {node.name: node for node in other.graph.node}
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    named = onnx.ModelProto()
    named.CopyFrom(model)
    del named.graph.node[:]
    for node in model.graph.node:
        twin = namesakes.get(node.name)
        if twin is not None and twin.op_type == node.op_type:
            # Weights whose channels are scaled behind the convolution are not those that they stand for.
            same = twin.output[0] == node.output[0] or node.op_type not in CONVOLUTIONS
            for k, (own, others) in enumerate(zip(node.input, twin.input, strict=False)):
                if k == 1 and not same:
                    continue
                if own and own != others and others in made and others not in taken:
                    taken.add(others)
                    named.graph.node.append(helper.make_node("Identity", [own], [others], made[others]))
        named.graph.node.append(node)
    return named


def _levels(errors: Sequence[TensorError], *models: onnx.ModelProto) -> dict[str, float]:
    """What integers of 8 bits leave of each tensor behind a DequantizeLinear, in dB, where its scale is right.

    Steps of 2 largest / LEVELS, symmetric and for all channels, have an error of step^2 / 12: no better than any
    scale that fits the values.
    """
    pairs = {
        node.output[0]
        for model in models
        for types in (find_tensors(model, strict=False).types,)
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and types.get(node.input[0]) in (TensorProto.INT8, TensorProto.UINT8)
    }
    return {
        error.name: 20 * math.log10(error.rms / error.largest * LEVELS / 2 * math.sqrt(12))
        for error in errors
        if error.name in pairs and error.rms > 0 and math.isfinite(error.largest)
    }


def _refuse_strangers(first: onnx.ModelProto, second: onnx.ModelProto) -> None:
    names, others = ({(n.name, n.op_type) for n in model.graph.node} for model in (first, second))
    shared, fewest = len(names & others), min(len(names), len(others))
    if shared < FEWEST * fewest:
        raise InputError(
            f"The graphs are of different networks: only {shared} of {fewest} nodes are in both. Compare a graph with "
            "one that came from it, or from the same network."
        )


def _channel(squares: NDArray[np.float64]) -> tuple[int, int, float] | None:
    """The channel with most of the error: of a map (1, C, ...) the second axis, of weights the first."""
    if squares.ndim < 2:
        return None
    axis = 1 if squares.shape[0] == 1 else 0
    sums = squares.sum(axis=tuple(k for k in range(squares.ndim) if k != axis))
    worst = int(sums.argmax())
    return worst, len(sums), float(sums[worst] / sums.sum())


def _place(squares: NDArray[np.float64]) -> Place | None:
    if squares.ndim != 4 or squares.shape[0] != 1 or min(squares.shape[2:]) < 2:
        return None
    heat = squares[0].sum(0)
    height, width = heat.shape
    rows, columns = (min(most, side) for most, side in zip(GRID, heat.shape, strict=True))
    edges = [np.linspace(0, side, n + 1).astype(int) for side, n in ((height, rows), (width, columns))]
    cells = np.add.reduceat(np.add.reduceat(heat, edges[0][:-1], axis=0), edges[1][:-1], axis=1)
    r, c = np.unravel_index(int(cells.argmax()), cells.shape)
    return Place(
        tuple(tuple(map(float, row)) for row in cells / cells.sum()),
        float(edges[0][r] / height),
        float(edges[1][c] / width),
        float(edges[0][r + 1] / height),
        float(edges[1][c + 1] / width),
        np.sqrt(heat),
    )


def _why(first: onnx.ModelProto, second: onnx.ModelProto, node: NodeProto, found: TensorError) -> str:
    """Which operand of the node differs, or that it is the node itself."""
    makers = [{name: n for n in model.graph.node for name in n.output} for model in (first, second)]
    stored, others = ({t.name: t for t in model.graph.initializer} for model in (first, second))
    for maker, constants in zip(makers, (stored, others), strict=True):
        made = maker.get(found.name)
        scale = constants.get(made.input[1]) if made is not None and made.op_type == "DequantizeLinear" else None
        if scale is not None:
            scales = numpy_helper.to_array(scale).astype(np.float64)
            text = f"{scales.item():.4g}" if scales.size == 1 else f"{scales.min():.4g} to {scales.max():.4g}"
            return f"the scale of its 8 bits is {text}, for values up to {found.largest:.4g}"
    twin = next((n for n in second.graph.node if n.name == node.name), None)
    if twin is None:
        return "the node is in one graph only"
    for own, other in zip(node.input, twin.input, strict=False):
        if own in stored and other in others:
            a, b = (numpy_helper.to_array(t).astype(np.float64) for t in (stored[own], others[other]))
            if a.shape != b.shape:
                return f"{own} is {a.shape} in one and {b.shape} in the other"
            off = np.abs(a - b)
            if off.max() > 1e-2 * max(np.abs(a).max(), np.finfo(np.float64).tiny) / 4:
                at = tuple(map(int, np.unravel_index(int(off.argmax()), off.shape)))
                return (
                    f"{own} differs at {list(at)}: {a[at]:.6g} and {b[at]:.6g} ({int((off > 0).sum())} value(s) differ)"
                )
    own_attributes, others_attributes = (
        {a.name: helper.get_attribute_value(a) for a in n.attribute} for n in (node, twin)
    )
    if own_attributes != others_attributes:
        names = sorted(
            {k for k in {*own_attributes, *others_attributes} if own_attributes.get(k) != others_attributes.get(k)}
        )
        return f"its attributes differ: {', '.join(names)}"
    return f"none of its constants differs: {node.op_type} itself loses {found.lost_db:.0f} dB"
