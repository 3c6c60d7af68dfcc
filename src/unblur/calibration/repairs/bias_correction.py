"""Repair: give back the mean that quantisation took from each channel of each convolution.

Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.2 in its
empirical form: the mean of the quantised output minus that of the float one is subtracted from the bias. Convolutions
are corrected in the order of the graph, each behind the corrected ones before it, so that no error is counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.graphs.facts import CONVOLUTIONS
from unblur.graphs.rewrites.quantise import QuantisedConvolution, QuantisedGraph
from unblur.graphs.sessions import WrittenGraph


@dataclass(frozen=True)
class CorrectedBiases:
    """The repaired graph; `shifts`: convolution -> what was added to the bias of each channel, in its output's unit."""

    graph: QuantisedGraph
    shifts: dict[str, NDArray[np.float64]]


def correct_biases(
    original: onnx.ModelProto,
    graph: QuantisedGraph,
    inputs: Sequence[NDArray[Any]],
    *,
    threads: int = 1,
    progress: Progress = SILENT,
) -> CorrectedBiases:
    """Correct every quantised convolution of `graph`, which was made from `original`.

    `inputs`: frames as the pixel contract encodes them, none of them kept for scoring. Memory: one frame's outputs of
    one level of the graph. Raises InputError for no frame.
    """
    if not inputs:
        raise InputError("Bias correction needs at least one calibration frame.")
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    nodes = {node.name: node for node in model.graph.node}
    levels = _levels(model, {c.name for c in graph.convolutions})
    outputs = {c.name: nodes[c.biased].output[0] for c in graph.convolutions}
    wanted = _means(original, list(outputs.values()), inputs, threads)
    corrected: dict[str, QuantisedConvolution] = {}
    shifts = {}
    for k in range(max(levels.values()) + 1):
        progress.note(f"bias correction: level {k + 1} of {max(levels.values()) + 1}")
        level = [c for c in graph.convolutions if levels[c.name] == k]
        found = _means(model, [outputs[c.name] for c in level], inputs, threads)
        for convolution in level:
            shift = wanted[outputs[convolution.name]] - found[outputs[convolution.name]]
            corrected[convolution.name] = _shift(model, nodes[convolution.biased], convolution, shift)
            shifts[convolution.name] = shift
    repaired = replace(graph, model=model, convolutions=tuple(corrected[c.name] for c in graph.convolutions))
    return CorrectedBiases(repaired, shifts)


def shift_biases(graph: QuantisedGraph, shifts: Mapping[str, NDArray[np.float64]]) -> QuantisedGraph:
    """The corrections that were found on a graph of another size, applied to this one of the same network and form."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    nodes = {node.name: node for node in model.graph.node}
    shifted = tuple(_shift(model, nodes[c.biased], c, shifts[c.name]) for c in graph.convolutions)
    return replace(graph, model=model, convolutions=shifted)


def _levels(model: onnx.ModelProto, quantised: set[str]) -> dict[str, int]:
    """Quantised convolution -> how many of them lie on the longest way to it; those of one level do not meet."""
    depth: dict[str, int] = {}
    levels = {}
    for node in model.graph.node:
        here = max((depth.get(name, 0) for name in node.input), default=0)
        if node.name in quantised:
            levels[node.name] = here
            here += 1
        depth.update(dict.fromkeys(node.output, here))
    return levels


def _means(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: Sequence[NDArray[Any]], threads: int
) -> dict[str, NDArray[np.float64]]:
    """Mean of each channel of (1, C, H, W) tensors over frames and pixels."""
    graph = WrittenGraph(model, tensors, threads=threads)
    total = {name: np.zeros(1) for name in tensors}
    for tensor in inputs:
        for name, values in graph.run(tensor).items():
            total[name] = total[name] + values.mean(axis=(0, 2, 3), dtype=np.float64)
    return {name: sums / len(inputs) for name, sums in total.items()}


def _shift(
    model: onnx.ModelProto, node: NodeProto, convolution: QuantisedConvolution, shift: NDArray[np.float64]
) -> QuantisedConvolution:
    """Add to the bias that `node` reads: in steps of its scale where it is int32, else in float32 under a new name."""
    constants = {t.name: t for t in model.graph.initializer}
    bias = constants[convolution.bias] if convolution.bias else None
    if bias is not None and bias.data_type == onnx.TensorProto.INT32:
        step = convolution.input_scale * np.asarray(convolution.weight_scales)
        values = numpy_helper.to_array(bias) + np.rint(shift / step).astype(np.int32)
        bias.CopyFrom(numpy_helper.from_array(values.astype(np.int32), bias.name))
        return convolution
    # Another node may read the same bias: leave that alone.
    name = f"{convolution.name}/bias/corrected"
    before = numpy_helper.to_array(bias).astype(np.float64) if bias is not None else np.zeros(len(shift))
    after = before + shift.reshape(before.shape)
    model.graph.initializer.append(numpy_helper.from_array(after.astype(np.float32), name))
    del node.input[2 if node.op_type in CONVOLUTIONS else 1 :]
    node.input.append(name)
    if bias is not None and not any(bias.name in other.input for other in model.graph.node):
        model.graph.initializer.remove(bias)
    return replace(convolution, bias=name)
