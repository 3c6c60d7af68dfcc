"""Repair: round each weight up or down for the sake of the convolution's result, not of the weight.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (AdaRound), ICML 2020, section 3: what to
make small is the mean of |(Ŵ - W) x|² over the patches x that a convolution reads, one channel of Ŵ at a time. It
needs of the frames only the patches' matrix of second moments, G = mean(x xᵀ). The paper relaxes the choice and trains
it; here single weights are turned over as long as one turn helps, each turn's gain known exactly from G: no learning
rate, no random start, the same weights every time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from unblur.calibration.statistics import HELD_PIXELS
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.core.heap import maps_given_back
from unblur.graphs.pieces import PiecewiseGraph
from unblur.graphs.rewrites.forms import Element
from unblur.graphs.rewrites.quantise import QuantisedConvolution, QuantisedGraph, to_element

PATCHES = 1 << 14
"""That are looked at of a map in all frames together, evenly spread; at least ten times the entries of a patch: enough
for G."""

MEMORY_BYTES = 256 << 20
"""For the matrices of convolutions that are measured in one pass over frames that cannot be held side by side."""

PASSES = 50
"""Over the weights of a convolution; it ends earlier when no turn helps, in practice after about ten."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RoundedWeights:
    """The repaired graph; `weights`: name of an 8-bit tensor -> its new values' bytes; `gains_db`: by how much the
    error that rounding a convolution's weights makes in its result became smaller, 10 log10 of the powers' ratio."""

    graph: QuantisedGraph
    weights: dict[str, NDArray[np.int8]]
    gains_db: dict[str, float]


def round_adaptively(
    original: onnx.ModelProto,
    graph: QuantisedGraph,
    inputs: Sequence[NDArray[Any]],
    *,
    threads: int = 1,
    progress: Progress = SILENT,
) -> RoundedWeights:
    """Round the weights of every quantised convolution of `graph`, which was made from `original`.

    `inputs`: frames as the pixel contract encodes them, none of them kept for scoring. Patches are those of `original`.
    Raises InputError for no frame, a transposed or a grouped convolution, and a weight that two convolutions share.
    """
    if not inputs:
        raise InputError("Adaptive rounding needs at least one calibration frame.")
    nodes = {node.name: node for node in original.graph.node}
    constants = {t.name: t for t in original.graph.initializer}
    stored = {t.name: numpy_helper.to_array(t) for t in graph.model.graph.initializer}
    patches = _patches(original, graph)
    weights, gains_db = {}, {}
    with maps_given_back():
        measured = _moments(original, graph.convolutions, patches, inputs, threads)
        for convolution, moment in progress.track(measured, "adaptive rounding", len(graph.convolutions)):
            exact = numpy_helper.to_array(constants[nodes[convolution.name].input[1]]).astype(np.float64)
            steps = np.asarray(convolution.weight_scales, np.float64).reshape(-1, 1)
            flat = exact.reshape(len(exact), -1) / steps
            before = stored[convolution.weight].astype(np.float64).reshape(flat.shape)
            rounded = choose(flat, before, moment, graph.form.weight)
            weights[convolution.weight] = to_element(rounded, graph.form.weight).view(np.int8).reshape(exact.shape)
            errors = [float(np.sum(steps[:, 0] ** 2 * _power(w - flat, moment))) for w in (before, rounded)]
            gains_db[convolution.name] = 10 * math.log10(errors[0] / errors[1]) if all(errors) else 0.0
    return RoundedWeights(with_weights(graph, weights), weights, gains_db)


def demand_roundable(original: onnx.ModelProto, graph: QuantisedGraph) -> None:
    """Raise InputError where `round_adaptively` would, once it has frames."""
    _patches(original, graph)


def _patches(original: onnx.ModelProto, graph: QuantisedGraph) -> dict[str, _Patches]:
    nodes = {node.name: node for node in original.graph.node}
    constants = {t.name: t for t in original.graph.initializer}
    if len({c.weight for c in graph.convolutions}) < len(graph.convolutions):
        raise InputError("Two convolutions of the graph share a weight, which adaptive rounding cannot suit to both.")
    return {c.name: _Patches.of(nodes[c.name], constants) for c in graph.convolutions}


def with_weights(graph: QuantisedGraph, weights: Mapping[str, NDArray[np.int8]]) -> QuantisedGraph:
    """Weights that were found on a graph of another size, in this one of the same network and form."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.ClearField("int32_data")
            tensor.raw_data = weights[tensor.name].tobytes()
    return replace(graph, model=model)


def choose(exact: Floats, start: Floats, moment: Floats, element: Element) -> Floats:
    """Values of the 8-bit type beside `exact` (channels, entries), for which d G dᵀ of each row's error d is small.

    start: a rounding of `exact`; what was clipped stays. moment: G, (entries, entries), of what the entries are
    multiplied with. Ends where turning no single entry over makes it smaller.
    """
    rounded = start.copy()
    error = rounded - exact
    step = other_neighbours(exact, rounded, element) - rounded
    gradient = error @ moment
    for _ in range(PASSES):
        turned = 0
        for k in range(exact.shape[1]):
            change = step[:, k] * (2 * gradient[:, k] + step[:, k] * moment[k, k])
            turn = change < 0
            if turn.any():
                turned += int(turn.sum())
                gradient[turn] += step[turn, k, None] * moment[k]
                rounded[turn, k] += step[turn, k]
                step[turn, k] *= -1
        if not turned:
            break
    return rounded


def other_neighbours(exact: Floats, rounded: Floats, element: Element) -> Floats:
    """Of the two values of the type around each exact one that which is not `rounded`; `rounded` itself where that is
    exact, or the end of the type."""
    grid = _grid(element)
    above = np.clip(np.searchsorted(grid, exact), 1, len(grid) - 1)
    low, high = grid[above - 1], grid[above]
    fixed = (rounded == exact) | (exact < grid[0]) | (exact > grid[-1])
    return np.where(fixed, rounded, np.where(rounded == low, high, low))


def _grid(element: Element) -> Floats:
    """Every value of the type, least first."""
    kind = helper.tensor_dtype_to_np_dtype(element.onnx_type)
    codes = np.arange(256, dtype=np.uint8).view(kind).astype(np.float64)
    grid: Floats = np.unique(codes[np.abs(codes) <= element.largest])
    return grid


def _power(error: Floats, moment: Floats) -> Floats:
    """d G dᵀ of each row d."""
    power: Floats = np.einsum("ij,ij->i", error @ moment, error)
    return power


@dataclass(frozen=True)
class _Patches:
    """What a convolution reads for one value of its result. ONNX Conv: pads are top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    length: int

    @classmethod
    def of(cls, node: NodeProto, constants: Mapping[str, onnx.TensorProto]) -> _Patches:
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type != "Conv" or given.get("group", 1) != 1 or given.get("auto_pad", b"NOTSET") != b"NOTSET":
            raise InputError(f"{node.name} is transposed, grouped or pads by itself; adaptive rounding cannot suit it.")
        shape = tuple(constants[node.input[1]].dims)
        top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
        down, across = given.get("strides", (1, 1))
        rows, columns = given.get("dilations", (1, 1))
        return cls(
            (shape[2], shape[3]), (down, across), (rows, columns), (top, left, bottom, right), math.prod(shape[1:])
        )

    def moment(self, maps: Sequence[NDArray[np.float32]], frames: int) -> Floats:
        """Mean of x xᵀ over the patches of maps of one size, which are those of some of so many frames."""
        total = np.zeros((self.length, self.length))
        for data in maps:
            patches = self.read(data, max(PATCHES, 10 * self.length) // frames)
            total += patches.T @ patches / (len(patches) * len(maps))
        return total

    def read(self, data: NDArray[np.float32], most: int) -> NDArray[np.float32]:
        """(1, C, H, W) -> (patches, C * kernel height * kernel width), `most` of them evenly spread over the map."""
        top, left, bottom, right = self.pads
        padded = np.pad(data[0], ((0, 0), (top, bottom), (left, right)))
        sides = [
            (padded.shape[k + 1] - self.dilations[k] * (self.kernel[k] - 1) - 1) // self.strides[k] + 1 for k in (0, 1)
        ]
        count = max(1, min(most, sides[0] * sides[1]))
        rows, columns = np.divmod(np.arange(count) * (sides[0] * sides[1]) // count, sides[1])
        rows, columns = rows * self.strides[0], columns * self.strides[1]
        found = [
            padded[:, rows + i * self.dilations[0], columns + j * self.dilations[1]]
            for i in range(self.kernel[0])
            for j in range(self.kernel[1])
        ]
        return np.stack(found, axis=1).reshape(self.length, count).T


def _moments(
    model: onnx.ModelProto, convolutions: Sequence[QuantisedConvolution], patches: Mapping[str, _Patches],
    inputs: Sequence[NDArray[Any]], threads: int,
) -> Iterator[tuple[QuantisedConvolution, Floats]]:  # fmt: skip
    """Each convolution with the mean of x xᵀ over frames and patches. Few frames are held side by side: the graph is
    run once, and a convolution comes as its map does."""
    if sum(tensor.size for tensor in inputs) <= 3 * HELD_PIXELS:
        for maps in PiecewiseGraph(model, [c.data for c in convolutions], threads).walk(inputs):
            for convolution in convolutions:
                if convolution.data in maps:
                    yield convolution, patches[convolution.name].moment(maps[convolution.data], len(inputs))
        return
    for chunk in _chunks(convolutions, {name: one.length for name, one in patches.items()}):
        total = {c.name: np.zeros((patches[c.name].length,) * 2) for c in chunk}
        opened = PiecewiseGraph(model, [c.data for c in chunk], threads)
        for tensor in inputs:
            for maps in opened.walk([tensor]):
                for c in chunk:
                    if c.data in maps:
                        total[c.name] += patches[c.name].moment(maps[c.data], len(inputs)) / len(inputs)
        yield from ((convolution, total[convolution.name]) for convolution in chunk)


def _chunks(
    convolutions: Sequence[QuantisedConvolution], lengths: Mapping[str, int]
) -> Iterator[list[QuantisedConvolution]]:
    """Runs of convolutions whose matrices fit into MEMORY_BYTES together; at least one each."""
    chunk: list[QuantisedConvolution] = []
    used = 0
    for convolution in convolutions:
        needed = 8 * lengths[convolution.name] ** 2
        if chunk and used + needed > MEMORY_BYTES:
            yield chunk
            chunk, used = [], 0
        chunk.append(convolution)
        used += needed
    yield chunk
