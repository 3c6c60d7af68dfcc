"""Repair before quantisation: scale channels so that one 8-bit scale fits all channels of a map.

Xiao et al., "SmoothQuant", ICML 2023 (maps against weights, alpha 1/2), over classes of channels instead of pairs of
layers. Factors are powers of two: then every product and sum of the float32 graph has the
same bits as before, and the graph computes the very same thing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from unblur.calibration.repairs.channels import FIXED, OUT_AXIS, Side, channel_classes
from unblur.core.errors import InputError, UnblurError
from unblur.graphs.sessions import WrittenGraph

Floats = NDArray[np.float64]

ROUNDS = 20
"""Of setting each factor from the others; it converges in fewer."""

LARGEST = 2.0**6
"""A factor, and one over it, are at most this, so that weights and maps stay well inside FP16."""


@dataclass(frozen=True)
class EqualisedGraph:
    """The same function with other scales inside; `scaled` of `channels` classes got a factor other than 1."""

    model: onnx.ModelProto
    scaled: int
    channels: int


def equalise(
    model: onnx.ModelProto,
    inputs: Sequence[NDArray[Any]],
    keep: Collection[str] = (),
) -> EqualisedGraph:
    """Equalise the channels of a float32 graph of one size: a map's channels against the weights that read them.

    `inputs`: calibration frames as the contract encodes them; the first one must come out bit for bit as before.
    `keep`: convolutions that stay in floating point; they follow, and have no say. Raises InputError for no frame and
    as `channel_classes`, UnblurError where the graph no longer computes the same.
    """
    if not inputs:
        raise InputError("Equalisation needs at least one calibration frame.")
    sides = channel_classes(model)
    constants = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    weights = {name: _rows(constants[side.node.input[1]], side) for name, side in sides.items()}
    deciding = {name: side for name, side in sides.items() if name not in keep}
    peaks = _peaks(model, deciding, inputs)
    count = 1 + max(int(max(s.written.max(), s.read.max())) for s in sides.values())
    exponents = np.zeros(count)
    for _ in range(ROUNDS):
        factors = np.exp2(exponents)
        large, small = np.zeros(count), np.zeros(count)
        for name, side in deciding.items():
            weight = weights[name] / factors[side.written][:, None] * factors[side.read][None, :]
            _raise(large, side.read, _relative(peaks[name] / factors[side.read]))
            by_row = weight.max(axis=1, keepdims=True)
            _raise(small, side.read, np.divide(weight, by_row, where=by_row > 0, out=np.zeros_like(weight)).max(0))
        usable = (large > 0) & (small > 0)
        usable[FIXED] = False
        step = np.zeros(count)
        step[usable] = 0.5 * np.log2(large[usable] / small[usable])
        exponents = np.clip(exponents + step, -np.log2(LARGEST), np.log2(LARGEST))
        if np.abs(step).max() < 0.05:
            break
    exponents = np.rint(exponents)
    used = np.unique(np.concatenate([side.written for side in sides.values()]))
    used = used[used != FIXED]
    scaled = _scaled(model, sides, np.exp2(exponents))
    _demand_same(model, scaled, inputs[:1])
    return EqualisedGraph(scaled, int(np.count_nonzero(exponents[used])), len(used))


def _demand_same(model: onnx.ModelProto, scaled: onnx.ModelProto, inputs: Sequence[NDArray[Any]]) -> None:
    for tensor in inputs:
        (before,), (after,) = (WrittenGraph(graph).run(tensor).values() for graph in (model, scaled))
        if not np.array_equal(before, after):
            raise UnblurError(
                f"The equalised graph differs from the float graph by {np.abs(after - before).max():.2e}; "
                "it must not differ at all. Calibrate without equalisation and report the network."
            )


def _rows(weight: Floats, side: Side) -> Floats:
    """Largest magnitude of each kernel, [output channels, input channels]."""
    out = OUT_AXIS[side.node.op_type]
    largest: Floats = np.abs(weight).max(axis=tuple(range(2, weight.ndim)))
    return largest if out == 0 else largest.T


def _peaks(model: onnx.ModelProto, sides: Mapping[str, Side], inputs: Sequence[NDArray[Any]]) -> dict[str, Floats]:
    """Convolution -> largest magnitude of each channel it reads."""
    read = {name: side.node.input[0] for name, side in sides.items()}
    graph = WrittenGraph(model, tuple(dict.fromkeys(read.values())))
    peaks: dict[str, Floats] = {}
    for tensor in inputs:
        for name, values in graph.run(tensor).items():
            found = np.abs(values).max(axis=(0, 2, 3)).astype(np.float64)
            peaks[name] = np.maximum(peaks.get(name, 0.0), found)
    return {name: peaks[tensor] for name, tensor in read.items()}


def _relative(values: Floats) -> Floats:
    largest = values.max()
    return values / largest if largest > 0 else values


def _raise(totals: Floats, classes: NDArray[np.int64], values: Floats) -> None:
    np.maximum.at(totals, classes, values)


def _scaled(model: onnx.ModelProto, sides: Mapping[str, Side], factors: Floats) -> onnx.ModelProto:
    """Divide what writes a channel by its factor, multiply what reads it; shared constants once."""
    scaled = onnx.ModelProto()
    scaled.CopyFrom(model)
    constants = {t.name: t for t in scaled.graph.initializer}
    done: set[str] = set()
    for side in sides.values():
        weight, *bias = (name for name in side.node.input[1:] if name)
        written, read = 1 / factors[side.written], factors[side.read]
        matrix = np.outer(written, read) if OUT_AXIS[side.node.op_type] == 0 else np.outer(read, written)
        for name, factor in ((weight, matrix[:, :, None, None]), *((b, written) for b in bias)):
            if name not in done:
                done.add(name)
                values = numpy_helper.to_array(constants[name])
                constants[name].CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), name))
    return scaled
