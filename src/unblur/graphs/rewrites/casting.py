"""Precision as a rewrite: a float32 graph becomes a strongly typed FP16 or BF16 one.

Input and output keep their types. What stays FP32 is pixel arithmetic: nodes with no convolution before them
(bytes to floats, bin matrices of a dynamic graph) or none after them (the global residual, clamp, rounding: a
half near 0.5 is a sixteenth of a byte wide), sums over a whole map (means and norms), and what the caller names.
Everything between computes in the asked precision. Q/DQ pairs take it on: DequantizeLinear gives the type of its scale
(ONNX), so the scales are cast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

from unblur.core.errors import BudgetError, InputError, nearest
from unblur.graphs.facts import CONVOLUTIONS
from unblur.graphs.metadata import PRECISION_KEY, add_properties, properties
from unblur.graphs.rewrites.norms import spell_norms
from unblur.graphs.rewrites.phases import write_phases
from unblur.graphs.shapes import Tensors, find_tensors

Narrow = Literal["fp16", "bf16"]
"""A 16-bit floating-point precision."""

NORMS = ("InstanceNormalization", "GroupNormalization", "GlobalAveragePool")
REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceL2", "ReduceSumSquare")
SUMS = "sums over a map, which 16 bits do not hold"
PLACES = "places to look at: near the edge of a map of 1000, 16 bits are a quarter of a pixel off"

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class NarrowType:
    """Facts of a 16-bit type: ONNX element type, NumPy type, largest finite value, first opset whose Conv takes it."""

    onnx_type: int
    dtype: Any
    largest: float
    opset: int


NARROW_TYPES: Mapping[Narrow, NarrowType] = {
    "fp16": NarrowType(TensorProto.FLOAT16, np.dtype(np.float16), 65504.0, 13),
    "bf16": NarrowType(TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16), 2.0**127 * (2 - 2.0**-7), 22),
}


@dataclass(frozen=True)
class CastGraph:
    """The rewritten graph and the names of the nodes that kept FP32, each with the reason."""

    model: onnx.ModelProto
    kept_fp32: tuple[tuple[str, str], ...]


def cast_graph(model: onnx.ModelProto, precision: Narrow, keep: Mapping[str, str] | None = None) -> CastGraph:
    """Rewrite a float32 graph to FP16 or BF16, strongly typed: every cast is a node, no type is implied.

    `keep` maps names of nodes that shall compute in FP32 to the reason. For BF16 the graph is first brought to opset
    22, the first whose Conv takes it, and its deconvolutions to the phase form (the TensorRT for RTX 1.7 compiler has
    no BF16 deconvolution).

    Raises InputError for a graph that is already cast, has subgraphs or no convolution, and for a name in `keep` that
    is none of its nodes; BudgetError for a weight beyond the precision's range.
    """
    kind = NARROW_TYPES[precision]
    _refuse(model)
    if precision == "bf16":
        model = write_phases(model)
    if next(entry.version for entry in model.opset_import if not entry.domain) < kind.opset:
        model = _at_opset(model, kind.opset)
    named = _named(model.graph, keep or {})
    model, norms = spell_norms(model)
    graph = model.graph
    reasons = named | _fp32_nodes(graph) | dict.fromkeys(norms, SUMS)
    writer = _Writer(graph, find_tensors(model), precision)
    for node in graph.node:
        writer.add(node, keep=node.name in reasons)
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    del rewritten.graph.node[:], rewritten.graph.initializer[:], rewritten.graph.value_info[:]
    rewritten.graph.node.extend(writer.nodes)
    rewritten.graph.initializer.extend(writer.initializers())
    add_properties(rewritten, {PRECISION_KEY: properties(model).get(PRECISION_KEY, precision)})
    onnx.checker.check_model(rewritten, full_check=True)
    kept = tuple(
        (node.name, reasons[node.name]) for node in graph.node if writer.is_float(node) and node.name in reasons
    )
    return CastGraph(rewritten, kept)


def _at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """ONNX's converter knows nothing of the metadata of nodes, which are put back."""
    stated = {node.name: node.metadata_props for node in model.graph.node}
    converted: onnx.ModelProto = version_converter.convert_version(model, opset)
    for node in converted.graph.node:
        del node.metadata_props[:]
        node.metadata_props.extend(stated.get(node.name, ()))
    return converted


def _refuse(model: onnx.ModelProto) -> None:
    said = properties(model)
    quantised = any(node.op_type in QUANTISERS for node in model.graph.node)
    if PRECISION_KEY in said and not quantised:
        raise InputError(f"The graph is already {said[PRECISION_KEY]}; cast the float32 graph it came from.")
    graph = model.graph
    if not any(node.op_type in CONVOLUTIONS for node in graph.node):
        raise InputError("The graph has no convolution; is it a deblurring network?")
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        raise InputError("The graph has subgraphs (If, Loop or Scan), which cannot be cast; export it with unblur.")
    names = [node.name for node in graph.node]
    if len(set(names)) != len(names) or "" in names:
        raise InputError("The graph has unnamed nodes or two of one name; export it with unblur.")
    wide = [t.name for t in graph.initializer if t.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16)]
    if wide:
        raise InputError(f"The graph already holds 16-bit weights ({wide[0]}); cast the float32 graph it came from.")


def _named(graph: onnx.GraphProto, keep: Mapping[str, str]) -> dict[str, str]:
    names = {node.name for node in graph.node}
    for name in keep:
        if name not in names:
            raise InputError(f"The graph has no node {name!r} to keep in FP32{nearest(name, names)}.")
    return dict(keep)


def _fp32_nodes(graph: onnx.GraphProto) -> dict[str, str]:
    """Nodes that keep FP32, with the reason. Graph order is topological, as ONNX demands."""
    after: dict[str, bool] = {}  # tensor -> a convolution lies upstream
    before: dict[str, bool] = {}  # tensor -> a convolution lies downstream
    for node in graph.node:
        # Shape reads no values: what is computed from it does not depend on a convolution.
        found = node.op_type != "Shape" and (
            node.op_type in CONVOLUTIONS or any(after.get(i, False) for i in node.input)
        )
        after.update(dict.fromkeys(node.output, found))
    for node in reversed(graph.node):
        found = node.op_type in CONVOLUTIONS or any(before.get(o, False) for o in node.output)
        for name in node.input:
            before[name] = before.get(name, False) or found
    places = _coordinates(graph)
    reasons = {}
    for node in graph.node:
        # What is dequantised is read by a convolution, weights too: a cast between the two would keep them apart.
        if node.op_type in CONVOLUTIONS or (node.op_type == "DequantizeLinear" and before.get(node.output[0], False)):
            continue
        if not any(after[o] for o in node.output):
            reasons[node.name] = "before the first convolution: pixels or constants"
        elif not any(before.get(o, False) for o in node.output):
            reasons[node.name] = "after the last convolution: residual, clamp, rounding"
        elif node.op_type in NORMS or (node.op_type in REDUCTIONS and _sums_a_map(node, graph)):
            reasons[node.name] = SUMS
        elif node.op_type == "GridSample" or any(o in places for o in node.output):
            reasons[node.name] = PLACES
    return reasons


def _coordinates(graph: onnx.GraphProto) -> set[str]:
    """Tensors between a convolution and the places that a GridSample looks at."""
    places: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type == "GridSample":
            places.add(node.input[1])
        elif node.op_type not in CONVOLUTIONS and any(o in places for o in node.output):
            places.update(node.input)
    return places


def _sums_a_map(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    """Whether a reduction goes over height or width of an nchw map; where its axes are not constant, it may."""
    axes = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "axes"), None)
    if axes is None and len(node.input) > 1:
        stored = next((t for t in graph.initializer if t.name == node.input[1]), None)
        axes = None if stored is None else [int(axis) for axis in numpy_helper.to_array(stored).flat]
    return axes is None or bool({2, 3, -1, -2}.intersection(axes))


class _Writer:
    """Emits the nodes of the typed graph, with one Cast for each tensor and type that needs one."""

    def __init__(self, graph: onnx.GraphProto, known: Tensors, precision: Narrow) -> None:
        self._precision, self._narrow = precision, NARROW_TYPES[precision]
        self._constants = {t.name: t for t in graph.initializer}
        self._stored: dict[str, onnx.TensorProto] = {}
        self._types = dict(known.types)
        self._floats = {name for name, kind in self._types.items() if kind == TensorProto.FLOAT}
        self._casts: dict[tuple[str, int], str] = {}
        self._rows = {name for node in graph.node if node.op_type == "MatMul" for name in node.input}
        self._outputs = {v.name for v in graph.output}
        self.nodes: list[onnx.NodeProto] = []

    def is_float(self, node: onnx.NodeProto) -> bool:
        return any(name in self._floats for name in (*node.input, *node.output))

    def add(self, node: onnx.NodeProto, keep: bool) -> None:
        wanted = TensorProto.FLOAT if keep else self._narrow.onnx_type
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        for k, name in enumerate(node.input):
            if name in self._floats:
                # Scales and region of a Resize are float32 in whatever it computes (ONNX).
                of_map = node.op_type != "Resize" or k == 0
                copied.input[k] = self._as(name, wanted if of_map else TensorProto.FLOAT, node)
            elif name in self._constants:
                self._stored[name] = self._constants[name]
        if node.op_type == "Cast" and node.output[0] in self._floats:  # the graph's own, of whole numbers or a mask
            next(attribute for attribute in copied.attribute if attribute.name == "to").i = wanted
        self.nodes.append(copied)
        for name in node.output:
            if name in self._floats:
                self._types[name] = wanted
                if name in self._outputs and wanted != TensorProto.FLOAT:
                    raise InputError(f"The graph's output {name} comes straight from a convolution; clamp it first.")

    def initializers(self) -> Iterable[onnx.TensorProto]:
        return self._stored.values()

    def _as(self, name: str, wanted: int, reader: onnx.NodeProto) -> str:
        if name in self._constants:
            return self._constant(name, wanted)
        if self._types[name] == wanted:
            return name
        key = (name, wanted)
        if key not in self._casts:
            kind = "fp32" if wanted == TensorProto.FLOAT else self._precision
            self._casts[key] = f"{name}_{kind}"
            cast = helper.make_node("Cast", [name], [self._casts[key]], f"{name}/Cast_{kind}", to=wanted)
            cast.metadata_props.extend(reader.metadata_props)  # it is of the block that it is made for
            self.nodes.append(cast)
        return self._casts[key]

    def _constant(self, name: str, wanted: int) -> str:
        """A float32 constant as `wanted`; where both types are needed the narrow one gets its own name."""
        if wanted == TensorProto.FLOAT:
            self._stored[name] = self._constants[name]
            return name
        narrow = f"{name}_{self._precision}"
        if narrow not in self._stored:
            values = numpy_helper.to_array(self._constants[name])
            dtype = self._narrow.dtype
            rounded = round_rows(values, dtype) if name in self._rows else _round(values, dtype)
            if values.size == 1 and values.any() and not rounded.any():  # what keeps a divisor from 0, as 1e-12
                rounded = np.copysign(np.nextafter(dtype.type(0), dtype.type(1)), values).astype(dtype)
            if not np.isfinite(rounded.astype(np.float32)).all():
                raise BudgetError(
                    f"{name} holds {float(np.abs(values).max()):.3g}, beyond {self._precision.upper()}'s "
                    f"{self._narrow.largest:.5g}; build this checkpoint in a wider precision."
                )
            self._stored[narrow] = numpy_helper.from_array(rounded, narrow)
        return narrow


def _round(values: NDArray[np.float32], dtype: Any) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # the caller reports the infinity with the weight's name
        rounded: NDArray[Any] = values.astype(dtype)
    return rounded


def round_rows(values: NDArray[np.float32], dtype: Any = np.float16) -> NDArray[Any]:
    """Round averaging rows (bins of 1/|bin|) so that each still sums to one: the error is carried along the row.

    Rounded to nearest, all weights of a bin err the same way and the mean is off by up to 2^-11 (FP16);
    carried, the sum errs by less than one weight's last bit. Other matrices are rounded to nearest.
    """
    if values.ndim != 2 or (values < 0).any() or not np.allclose(values.sum(axis=1), 1.0, atol=1e-5):
        return _round(values, dtype)
    rounded = np.zeros(values.shape, dtype)
    carried = np.zeros(len(values))
    for column in range(values.shape[1]):
        used = values[:, column] > 0
        wanted = np.where(used, values[:, column] + carried, 0.0)
        rounded[:, column] = wanted.astype(dtype)
        carried = np.where(used, wanted - rounded[:, column].astype(np.float64), carried)
    return rounded
