"""Precision as a rewrite: a float32 graph becomes one whose convolutions read and multiply 8 bits.

Integers follow ONNX QuantizeLinear (round half to even, saturate) and Jacob et al., CVPR 2018; 8-bit floating point
follows OFP8. Weights are stored in 8 bits behind a DequantizeLinear; activations pass a QuantizeLinear and a
DequantizeLinear, which every backend fuses into its own 8-bit kernels, or computes as written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from unblur.core.errors import InputError, nearest
from unblur.graphs.facts import CONVOLUTIONS, read_facts
from unblur.graphs.metadata import FORM_KEY, PRECISION_KEY, add_properties, properties
from unblur.graphs.rewrites.forms import Element, Form
from unblur.graphs.rewrites.keeping import kept_by_default
from unblur.graphs.rewrites.placement import Placement, place
from unblur.graphs.rewrites.ranges import Range, Ranges

QUANTISERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
LARGEST_BIAS = 2**30
"""Of an int32 bias: what is left of int32 is for the sum of products."""


@dataclass(frozen=True)
class QuantisedConvolution:
    """A convolution in 8 bits: its node, the tensor it read before, and the initialisers that hold its operands.

    `weight` is the 8-bit tensor, `bias` None where there is none. The weight scales are one a channel or one in all.
    `biased`: the node that reads the bias; the convolution itself but for forms that add it behind.
    """

    name: str
    data: str
    weight: str
    bias: str | None
    input_scale: float
    weight_scales: tuple[float, ...]
    biased: str


@dataclass(frozen=True)
class QuantisedGraph:
    """The rewritten graph; `kept` maps each convolution that stays in floating point to the reason."""

    model: onnx.ModelProto
    form: Form
    convolutions: tuple[QuantisedConvolution, ...]
    kept: dict[str, str]

    @property
    def macs_share(self) -> float:
        """Part of all multiply-accumulates, matrix products included, that the graph asks for in 8 bits, 0 to 1.

        Raises InputError for a graph of every size.
        """
        facts = read_facts(self.model, 0, 0)
        chosen = {convolution.name for convolution in self.convolutions}
        return sum(c.macs for c in facts.convolutions if c.name in chosen) / facts.macs


def tensors_to_measure(model: onnx.ModelProto, form: Form, keep: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Tensors of the float32 graph whose ranges `quantise` needs with the same arguments."""
    return place(model, form, kept_by_default(model, form) if keep is None else keep).ranges


def quantise(
    model: onnx.ModelProto, ranges: Ranges, form: Form, *, keep: Mapping[str, str] | None = None
) -> QuantisedGraph:
    """Rewrite a float32 graph for 8 bits in the given form; metadata and contract stay.

    `keep`: convolution -> reason for all that stay in floating point; None for `kept_by_default`, which needs a graph
    of one size. A tensor that is 0 throughout gets scale 1. Raises InputError for a graph that is quantised or cast
    already, an opset below the form's, an unknown name in `keep`, a tensor without a range, weights that are no finite
    float32 constants, or a scale that the form's type cannot hold.
    """
    _refuse(model, form)
    kept = kept_by_default(model, form) if keep is None else dict(keep)
    names = [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS]
    for name in kept:
        if name not in names:
            raise InputError(f"No convolution {name!r} in the graph to keep{nearest(name, names)}.")
    placement = place(model, form, kept)
    if not placement.convolutions:
        raise InputError(f"Form {form.name} leaves no convolution to quantise: all {len(names)} are kept.")
    writer = _Writer(model.graph, ranges, form, placement)
    for node in model.graph.node:
        writer.add(node)
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    del rewritten.graph.node[:], rewritten.graph.initializer[:], rewritten.graph.value_info[:]
    rewritten.graph.node.extend(writer.nodes)
    read = {name for node in writer.nodes for name in node.input}
    rewritten.graph.initializer.extend(t for t in writer.constants.values() if t.name in read)
    add_properties(rewritten, {PRECISION_KEY: form.precision, FORM_KEY: form.name})
    onnx.checker.check_model(rewritten, full_check=True)
    return QuantisedGraph(rewritten, form, tuple(writer.convolutions), kept)


def _refuse(model: onnx.ModelProto, form: Form) -> None:
    said = properties(model)
    node = next((node for node in model.graph.node if node.op_type in QUANTISERS), None)
    if PRECISION_KEY in said or node is not None:
        what = said.get(PRECISION_KEY) or f"quantised (it has the {node.op_type if node else ''})"
        raise InputError(f"The graph is already {what}; quantise the float32 graph it came from.")
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < form.smallest_opset:
        raise InputError(
            f"The graph is of opset {opset}; form {form.name} needs {form.smallest_opset}: export it with --opset 20 "
            "(torch.onnx.export: opset_version=20)."
        )


class _Writer:
    """Emits the nodes of the quantised graph; each pair right after the node that makes the tensor."""

    def __init__(self, graph: onnx.GraphProto, ranges: Ranges, form: Form, placement: Placement) -> None:
        self._form, self._placement, self._ranges = form, placement, ranges
        self._chosen = frozenset(placement.convolutions)
        self._stems = _stems(graph, self._chosen)
        self._nodes = graph.node
        self._names = {node.name for node in graph.node}
        self._scales: dict[str, float] = {}
        self._weights: dict[tuple[str, int], tuple[str, str, tuple[float, ...]]] = {}
        self._biases: dict[tuple[str, str, str], str] = {}
        self.constants = {t.name: t for t in graph.initializer}
        self.nodes: list[NodeProto] = []
        self.convolutions: list[QuantisedConvolution] = []
        for value in graph.input:
            self._pair(value.name)

    def add(self, node: NodeProto) -> None:
        copied = NodeProto()
        copied.CopyFrom(node)
        for k, name in enumerate(node.input):
            if (node.name, k) in self._placement.reads:
                copied.input[k] = f"{name}/dequantised"
        behind = self._operands(node, copied) if node.name in self._chosen else []
        self.nodes += [copied, *behind]
        for name in node.output:
            self._pair(name)

    def _pair(self, tensor: str) -> None:
        """QuantizeLinear and DequantizeLinear of a tensor, where it has a pair."""
        if tensor not in self._placement.scaled_by:
            return
        element, (scale, zero) = self._form.activation, self._step(tensor)
        self._scales[tensor] = scale
        self._constant(f"{tensor}/scale", np.array(scale, np.float32))
        self.constants[f"{tensor}/zero"] = helper.make_tensor(f"{tensor}/zero", element.onnx_type, [], [zero])
        stem, operands = self._stems[tensor], [f"{tensor}/scale", f"{tensor}/zero"]
        self._emit("QuantizeLinear", [tensor, *operands], f"{tensor}/quantised", stem)
        self._emit("DequantizeLinear", [f"{tensor}/quantised", *operands], f"{tensor}/dequantised", stem)

    def _step(self, tensor: str) -> tuple[float, int]:
        """Scale and zero point of a tensor that has a pair."""
        measured, element = [self._ranges.of(name) for name in self._placement.scaled_by[tensor]], self._form.activation
        whole = Range(min(r.low for r in measured), max(r.high for r in measured))
        scale, zero = whole.affine() if element.affine else (whole.symmetric_scale(element.largest), 0)
        return self._representable(scale, tensor), zero

    def _operands(self, node: NodeProto, copied: NodeProto) -> list[NodeProto]:
        """Weight, and in the forms that want it the bias, as 8-bit and 32-bit constants; the nodes that follow."""
        data, stem = node.input[0], _stem(node.name)
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
        axis = 0 if node.op_type == "Conv" else 1
        weight, dequantised, scales = self._weight(node, axis, stem)
        copied.input[1] = dequantised
        if bias is not None and self._form.outputs:
            bias = self._whole_bias(node, bias, scales, stem)
            copied.input[2] = f"{bias}/dequantised"
        behind: list[onnx.NodeProto] = []
        biased = node.name
        if self._form.behind:
            behind, bias = self._behind(node, copied, scales, stem)
            biased = behind[-1].name
        self.convolutions.append(
            QuantisedConvolution(node.name, data, weight, bias, self._scales[data], scales, biased)
        )
        return behind

    def _whole_bias(self, node: NodeProto, bias: str, scales: tuple[float, ...], stem: str) -> str:
        """Name of the bias in int32; one for all convolutions of the same bias, weight and data."""
        data, weight = node.input[:2]
        if (bias, weight, data) not in self._biases:
            name = f"{bias}/int32/{data}"
            name += f"/{weight}" * (name in self.constants)
            step = self._scales[data] * np.asarray(scales)
            self._constant(name, np.rint(self._floats(bias, node) / step).astype(np.int32))
            self._constant(f"{name}/scale", step.astype(np.float32) if self._form.per_channel else np.float32(step[0]))
            self._emit("DequantizeLinear", [name, f"{name}/scale"], f"{name}/dequantised", f"{stem}/bias", axis=0)
            self._biases[bias, weight, data] = name
        return self._biases[bias, weight, data]

    def _behind(
        self, node: NodeProto, copied: NodeProto, scales: tuple[float, ...], stem: str
    ) -> tuple[list[NodeProto], str]:
        """The product with the channels' ratios and the sum with the bias, 0 where there was none, and its name."""
        result, given = node.output[0], node.input[2] if len(node.input) > 2 else ""
        ratio, bias = f"{node.input[1]}/ratio", f"{given or node.name}/behind"
        added = self._floats(given, node) if given else np.zeros(len(scales))
        for name, values in ((ratio, np.array(scales) / max(scales)), (bias, added)):
            self._constant(name, values.astype(np.float32).reshape(-1, 1, 1))
        del copied.input[2:]
        copied.output[0], product = f"{result}/unscaled", f"{result}/unbiased"
        made = [
            helper.make_node("Mul", [copied.output[0], ratio], [product], self._unused(f"{stem}/Mul")),
            helper.make_node("Add", [product, bias], [result], self._unused(f"{stem}/Add")),
        ]
        for each in made:
            each.metadata_props.extend(node.metadata_props)
        return made, bias

    def _weight(self, node: NodeProto, axis: int, stem: str) -> tuple[str, str, tuple[float, ...]]:
        """Names of the 8-bit weight and of its dequantised value, and the scales; once for a weight that is shared."""
        name = node.input[1]
        if (name, axis) in self._weights:
            return self._weights[name, axis]
        values = self._floats(name, node)
        element = self._form.weight
        others = tuple(k for k in range(values.ndim) if k != axis)
        peaks = np.abs(values).max(axis=others if self._form.per_channel else None, keepdims=True)
        scales = np.array([Range(0.0, float(p)).symmetric_scale(element.largest) for p in peaks.ravel()])
        for reader in self._nodes if self._form.outputs else ():
            if reader.name in self._chosen and reader.input[1] == name and len(reader.input) > 2 and reader.input[2]:
                # A channel of tiny weights and a large bias: widen its steps until the bias of each reader fits.
                floor = np.abs(self._floats(reader.input[2], reader)) / (self._step(reader.input[0])[0] * LARGEST_BIAS)
                scales = np.maximum(scales, floor if self._form.per_channel else floor.max())
        if self._form.behind:
            # What the graph will multiply: one scale times a ratio, both of them numbers that it can hold.
            used = peaks.ravel() > 0  # the scale of nothing but zeros is 1
            largest = float(scales[used].max() if used.any() else 1.0)
            one = self._representable(largest, name)
            ratios = np.where(used & (scales < largest), scales / one, 1.0)
            scales = one * np.array([self._representable(float(ratio), name) for ratio in ratios])
        else:
            scales = np.array([self._representable(float(scale), name) for scale in scales])
        stored = f"{name}/{self._form.precision}"
        self._constant(stored, to_element(values / scales.reshape(peaks.shape), element))
        vector = self._form.per_channel and not self._form.behind
        steps = scales.astype(np.float32) if vector else np.float32(scales.max())
        self._constant(f"{stored}/scale", steps)
        self.constants[f"{stored}/zero"] = helper.make_tensor(
            f"{stored}/zero", element.onnx_type, list(np.shape(steps)), [0] * np.size(steps)
        )
        operands = [stored, f"{stored}/scale", f"{stored}/zero"]
        self._emit("DequantizeLinear", operands, f"{stored}/dequantised", f"{stem}/weight", axis=axis)
        self._weights[name, axis] = (stored, f"{stored}/dequantised", tuple(float(s) for s in scales))
        return self._weights[name, axis]

    def _floats(self, name: str, node: NodeProto) -> NDArray[np.float64]:
        constant = self.constants.get(name)
        if constant is None or constant.data_type != TensorProto.FLOAT:
            raise InputError(f"{node.name}: {name!r} is no float32 constant; export the graph with unblur, or keep it.")
        values = numpy_helper.to_array(constant).astype(np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"{node.name}: {name!r} holds NaN or infinity; check the checkpoint.")
        return values

    def _representable(self, scale: float, what: str) -> float:
        """The scale as the graph will hold it: rounded up where it is rounded, so that nothing is clipped for it."""
        kind: type[np.floating[Any]] = np.float16 if self._form.half_scales else np.float32
        with np.errstate(over="ignore"):
            rounded = kind(scale)
        if self._form.half_scales and float(rounded) < scale:
            rounded = np.nextafter(rounded, kind(np.inf))
        if not np.isfinite(rounded) or not rounded > 0:
            raise InputError(
                f"The scale of {what}, {scale:.3g}, is no positive {np.dtype(kind)}; check the ranges, or keep the "
                "convolution in floating point."
            )
        return float(rounded)

    def _constant(self, name: str, values: Any) -> None:
        self.constants[name] = numpy_helper.from_array(np.asarray(values), name)

    def _emit(self, op: str, inputs: list[str], output: str, stem: str, axis: int | None = None) -> None:
        node = helper.make_node(op, inputs, [output], self._unused(f"{stem}/{op}"))
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)

    def _unused(self, name: str) -> str:
        found, k = name, 2
        while found in self._names:
            found, k = f"{name}_{k}", k + 1
        self._names.add(found)
        return found


def to_element(values: NDArray[np.float64], element: Element) -> NDArray[Any]:
    """Values in units of the scale -> the 8-bit type: round half to even, saturate at its largest magnitude."""
    clipped = np.clip(values, -element.largest, element.largest)
    kind = helper.tensor_dtype_to_np_dtype(element.onnx_type)
    # float32 first: from float64 the 8-bit float rounds through float32 anyway.
    rounded = np.rint(clipped) if np.issubdtype(kind, np.integer) else clipped.astype(np.float32)
    result: NDArray[Any] = rounded.astype(kind)
    return result


def _stem(node: str) -> str:
    return node.rpartition("/")[0] or node


def _stems(graph: onnx.GraphProto, chosen: frozenset[str]) -> dict[str, str]:
    """Tensor -> what its pair is named after: the first 8-bit convolution that reads it, else whatever makes it."""
    stems = {value.name: value.name for value in graph.input}
    for node in graph.node:
        stems |= dict.fromkeys(node.output, _stem(node.name))
    for node in reversed(graph.node):
        if node.name in chosen:
            stems[node.input[0]] = _stem(node.name)
    return stems
