"""What depends on the size alone is the same in every backend, at every length, in every precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from unblur.core.errors import BudgetError, UnblurError
from unblur.export.axes import LENGTHS, Backend, axes_part, installed_backends, prove_axes
from unblur.graphs.rewrites.casting import Narrow, cast_graph
from unblur.graphs.rewrites.emulation import widen
from unblur.networks.banet.family import derived

BACKENDS: tuple[Backend, ...] = ("onnxruntime", "openvino")
TRAPS = (25, 49, 50, 98, 100, 123, 200, 205, 246, 287, 540, 1080)
"""Halves at which j (n (1 / L)) or exact arithmetic gives another index than PyTorch's float32."""


@pytest.mark.parametrize("backend", BACKENDS)
def test_bins_and_indices_are_pytorchs_at_every_length(backend: Backend, dynamic_graph: Path) -> None:
    assert backend in installed_backends()
    assert LENGTHS[0] == 1
    assert LENGTHS[-1] >= 2048
    prove_axes(onnx.load(dynamic_graph), derived, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_and_a_cast_changes_none(precision: Narrow, backend: Backend, dynamic_graph: Path) -> None:
    model = cast_graph(onnx.load(dynamic_graph), precision).model
    if (backend, precision) == ("onnxruntime", "bf16"):  # it gives no BF16 to NumPy
        model = widen(model, precision)
    prove_axes(model, derived, backend, TRAPS)


def test_no_index_has_ever_been_a_float(dynamic_graph: Path) -> None:
    """No compiler can round what is whole: held for the graph as it is, and for what a build is given."""
    model = onnx.load(dynamic_graph)
    for graph in (model, cast_graph(model, "fp16").model, cast_graph(model, "bf16").model):
        part = onnx.shape_inference.infer_shapes(axes_part(graph), strict_mode=True, data_prop=True).graph
        kinds = {value.name: value.type.tensor_type.elem_type for value in (*part.value_info, *part.output)}
        kinds |= {tensor.name: tensor.data_type for tensor in part.initializer}
        indices = [value.name for value in part.output if kinds[value.name] == TensorProto.INT64]
        assert len(indices) == 6
        wanted = set(indices)
        for node in reversed(part.node):
            if wanted.intersection(node.output) and node.op_type != "Shape":
                wanted.update(node.input)
                assert node.op_type != "Div"
        whole = {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
        assert {kinds[name] for name in wanted} <= whole


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_wrong_index_and_a_wrong_bin_are_found(backend: Backend, dynamic_graph: Path) -> None:
    model = onnx.load(dynamic_graph)
    (late,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("late")]
    exact = numpy_helper.to_array(late)
    late.CopyFrom(numpy_helper.from_array(np.zeros_like(exact), late.name))
    prove_axes(model, derived, backend, range(1, 123))
    with pytest.raises(BudgetError, match=f"{backend} computes other indices than PyTorch for a map of 123x8"):
        prove_axes(model, derived, backend, (123,))
    late.CopyFrom(numpy_helper.from_array(exact, late.name))
    less = next(node for node in model.graph.node if node.op_type == "Less")
    less.op_type = "LessOrEqual"
    with pytest.raises(BudgetError, match=f"{backend} computes other bins"):
        prove_axes(model, derived, backend, (15,))


def test_a_graph_of_one_size_computes_no_axes(fixed_graph: Path) -> None:
    with pytest.raises(UnblurError, match="no size"):
        axes_part(onnx.load(fixed_graph))
