"""Repair: round each weight up or down for the sake of the convolution's result, not of the weight.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (AdaRound), ICML 2020, section 3: what to
make small is the mean of |(Ŵ - W) x|² over the patches x that a convolution reads, one channel of Ŵ at a time. It
needs of the frames only the patches' matrix of second moments, G = mean(x xᵀ): one for each group of a convolution,
and of a weight that is shared the sum over its readers. The paper relaxes the choice and trains it; here single weights
are turned over as long as one turn helps, each turn's gain known exactly from G: no learning rate, no random start, the
same weights every time.
"""

from __future__ import annotations

import math
from collections import Counter
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
    Those of `unsuited` stay as they are. Raises InputError for no frame, and as `demand_roundable`.
    """
    if not inputs:
        raise InputError("Adaptive rounding needs at least one calibration frame.")
    demand_roundable(original, graph)
    nodes = {node.name: node for node in original.graph.node}
    constants = {t.name: t for t in original.graph.initializer}
    stored = {t.name: numpy_helper.to_array(t) for t in graph.model.graph.initializer}
    left = unsuited(original, graph)
    if left:
        why = next(iter(left.values()))
        progress.note(
            f"adaptive rounding leaves {len(left)} of {len(graph.convolutions)} convolutions as they are: {why}"
        )
    suited = [c for c in graph.convolutions if c.name not in left]
    patches = {c.name: _Patches.of(nodes[c.name], constants) for c in suited}
    readers: dict[str, list[str]] = {}
    for convolution in suited:
        readers.setdefault(convolution.weight, []).append(convolution.name)
    weights: dict[str, NDArray[np.int8]] = {}
    gains_db: dict[str, float] = {}
    sums: dict[str, Floats] = {}
    seen: Counter[str] = Counter()
    with maps_given_back():
        measured = _moments(original, suited, patches, inputs, threads)
        for convolution, moments in progress.track(measured, "adaptive rounding", len(suited)):
            weight = convolution.weight
            seen[weight] += 1
            sums[weight] = sums.get(weight, 0.0) + moments
            if seen[weight] < len(readers[weight]):
                continue
            moments = sums.pop(weight)
            exact = numpy_helper.to_array(constants[nodes[convolution.name].input[1]]).astype(np.float64)
            steps = np.asarray(convolution.weight_scales, np.float64).reshape(-1, 1)
            flat = exact.reshape(len(exact), -1) / steps
            before = stored[weight].astype(np.float64).reshape(flat.shape)
            parts = zip(np.split(flat, len(moments)), np.split(before, len(moments)), moments, strict=True)
            rounded = np.concatenate([choose(rows, start, moment, graph.form.weight) for rows, start, moment in parts])
            weights[weight] = to_element(rounded, graph.form.weight).view(np.int8).reshape(exact.shape)
            errors = [float(np.sum(steps[:, 0] ** 2 * _power(w - flat, moments))) for w in (before, rounded)]
            gain = 10 * math.log10(errors[0] / errors[1]) if all(errors) else 0.0
            gains_db |= dict.fromkeys(readers[weight], gain)
    return RoundedWeights(with_weights(graph, weights), weights, gains_db)


def unsuited(original: onnx.ModelProto, graph: QuantisedGraph) -> dict[str, str]:
    """Quantised convolutions whose weights `round_adaptively` leaves as they are -> why; also what shares theirs."""
    nodes = {node.name: node for node in original.graph.node}
    barred: dict[str, str] = {}
    groups: dict[str, int] = {}
    for c in graph.convolutions:
        given = _attributes(nodes[c.name])
        here = given.get("group", 1)
        if here > 1 and groups.setdefault(c.weight, here) != here:
            barred[c.weight] = f"{c.name} has other groups than another convolution of its weight"
        if nodes[c.name].op_type != "Conv" or given.get("auto_pad", b"NOTSET") != b"NOTSET":
            barred[c.weight] = f"{c.name} is transposed or pads by itself"
    return {c.name: barred[c.weight] for c in graph.convolutions if c.weight in barred}


def demand_roundable(original: onnx.ModelProto, graph: QuantisedGraph) -> None:
    """Raise InputError where there is no convolution that `round_adaptively` suits."""
    left = unsuited(original, graph)
    if left and len(left) == len(graph.convolutions):
        raise InputError(f"Adaptive rounding suits no convolution of the graph: {next(iter(left.values()))}.")


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


def _power(error: Floats, moments: Floats) -> Floats:
    """d G dᵀ of each row d, with the G of its group."""
    rows = error.reshape(len(moments), -1, error.shape[1])
    power: Floats = np.einsum("gij,gij->gi", rows @ moments, rows)
    return power.ravel()


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


@dataclass(frozen=True)
class _Patches:
    """What a convolution reads for one value of its result: `length` values, others in each of its groups. ONNX Conv:
    pads are top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    length: int
    groups: int

    @classmethod
    def of(cls, node: NodeProto, constants: Mapping[str, onnx.TensorProto]) -> _Patches:
        given, shape = _attributes(node), tuple(constants[node.input[1]].dims)
        top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
        down, across = given.get("strides", (1, 1))
        rows, columns = given.get("dilations", (1, 1))
        return cls(
            (shape[2], shape[3]), (down, across), (rows, columns), (top, left, bottom, right), math.prod(shape[1:]),
            given.get("group", 1),
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of `moments`."""
        return self.groups, self.length, self.length

    def moments(self, maps: Sequence[NDArray[np.float32]], frames: int) -> Floats:
        """(groups, length, length): mean of x xᵀ over the patches of maps of one size, which are those of some of so
        many frames."""
        total = np.zeros(self.shape)
        for data in maps:
            patches = self.read(data, max(PATCHES, 10 * self.length) // frames)
            total += patches @ patches.transpose(0, 2, 1) / (patches.shape[2] * len(maps))
        return total

    def read(self, data: NDArray[np.float32], most: int) -> NDArray[np.float32]:
        """(1, C, H, W) -> (groups, length, patches), `most` of them evenly spread over the map; length: C / groups *
        kernel height * kernel width."""
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
        return np.stack(found, axis=1).reshape(self.groups, self.length, count)


def _moments(
    model: onnx.ModelProto, convolutions: Sequence[QuantisedConvolution], patches: Mapping[str, _Patches],
    inputs: Sequence[NDArray[Any]], threads: int,
) -> Iterator[tuple[QuantisedConvolution, Floats]]:  # fmt: skip
    """Each convolution with the means of x xᵀ over frames and patches. Few frames are held side by side: the graph is
    run once, and a convolution comes as its map does."""
    if sum(tensor.size for tensor in inputs) <= 3 * HELD_PIXELS:
        for maps in PiecewiseGraph(model, [c.data for c in convolutions], threads).walk(inputs):
            for convolution in convolutions:
                if convolution.data in maps:
                    yield convolution, patches[convolution.name].moments(maps[convolution.data], len(inputs))
        return
    for chunk in _chunks(convolutions, patches):
        total = {c.name: np.zeros(patches[c.name].shape) for c in chunk}
        opened = PiecewiseGraph(model, [c.data for c in chunk], threads)
        for tensor in inputs:
            for maps in opened.walk([tensor]):
                for c in chunk:
                    if c.data in maps:
                        total[c.name] += patches[c.name].moments(maps[c.data], len(inputs)) / len(inputs)
        yield from ((convolution, total[convolution.name]) for convolution in chunk)


def _chunks(
    convolutions: Sequence[QuantisedConvolution], patches: Mapping[str, _Patches]
) -> Iterator[list[QuantisedConvolution]]:
    """Runs of convolutions whose matrices fit into MEMORY_BYTES together; at least one each."""
    chunk: list[QuantisedConvolution] = []
    used = 0
    for convolution in convolutions:
        needed = 8 * math.prod(patches[convolution.name].shape)
        if chunk and used + needed > MEMORY_BYTES:
            yield chunk
            chunk, used = [], 0
        chunk.append(convolution)
        used += needed
    yield chunk
