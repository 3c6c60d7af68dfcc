"""An instance norm spelled out is the operator; in 16 bits it computes in FP32, where a half would overflow."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unblur.graphs.onnx_file import infer
from unblur.graphs.rewrites.casting import SUMS, cast_graph
from unblur.graphs.rewrites.norms import OPERATOR, spell_norms
from unblur.graphs.sessions import WrittenGraph

FLOAT = TensorProto.FLOAT
Map = NDArray[np.float32]


def graph(scale: list[float], bias: list[float], size: float = 1.0, opset: int = 20, **given: float) -> onnx.ModelProto:
    """A convolution of `size`, a norm of two channels, a convolution: nothing of the norm is at an edge."""
    rng = np.random.default_rng(1)
    constants = [
        numpy_helper.from_array((size * rng.normal(size=(2, 3, 1, 1))).astype(np.float32), "first"),
        numpy_helper.from_array(rng.normal(size=(3, 2, 1, 1)).astype(np.float32), "last"),
        numpy_helper.from_array(np.array(scale, np.float32), "scale"),
        numpy_helper.from_array(np.array(bias, np.float32), "bias"),
    ]
    norm = helper.make_node(OPERATOR, ["a", "scale", "bias"], ["b"], "block/Norm", **given)
    helper.set_model_props(norm, {"unblur.block": "block"})
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], "first/Conv"),
        norm,
        helper.make_node("Conv", ["b", "last"], ["c"], "last/Conv"),
        helper.make_node("Clip", ["c"], ["y"], "Clip"),
    ]
    ends = [helper.make_tensor_value_info(name, FLOAT, [1, 3, 9, 11]) for name in "xy"]
    return helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], constants),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )


def frame() -> Map:
    return np.random.default_rng(0).random((1, 3, 9, 11), dtype=np.float32)


@pytest.mark.parametrize(
    ("scale", "bias", "given"),
    [([1, 1], [0, 0], {}), ([1, 1], [0, 0], {"epsilon": 0.5}), ([2, -3], [0, 0], {}), ([1, 1], [0.5, 2], {}),
     ([0.3, 2], [1, -1], {"epsilon": 1e-3})],
)  # fmt: skip
def test_spelled_out_it_is_the_operator(scale: list[float], bias: list[float], given: dict[str, float]) -> None:
    model = graph(scale, bias, **given)
    written, names = spell_norms(model)
    onnx.checker.check_model(written, full_check=True)
    assert OPERATOR not in {node.op_type for node in written.graph.node}
    difference = WrittenGraph(written).output(frame()) - WrittenGraph(model).output(frame())
    assert np.abs(difference).max() < 1e-5  # observed 5e-7 on outputs to 5
    made = [node for node in written.graph.node if node.name in names]
    assert len(made) == len(names) >= 10
    assert all({e.key: e.value for e in node.metadata_props} == {"unblur.block": "block"} for node in made)
    assert {node.op_type for node in model.graph.node} >= {OPERATOR}, "the graph handed in is not changed"


def test_a_graph_without_norms_is_given_back_as_it_is() -> None:
    model = graph([1, 1], [0, 0])
    model.graph.node[1].op_type = "Relu"
    del model.graph.node[1].input[1:]
    assert spell_norms(model) == (model, frozenset())


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_its_statistics_are_float32_in_16_bits(precision: str) -> None:
    cast = cast_graph(graph([1, 1], [0, 0]), precision)  # type: ignore[arg-type]
    norms = {name for name, why in cast.kept_fp32 if why == SUMS}
    types = {value.name: value.type.tensor_type.elem_type for value in infer(cast.model).graph.value_info}
    made = [node for node in cast.model.graph.node if node.name in norms]
    assert len(made) == 10
    assert {types[name] for node in made for name in node.output} == {FLOAT}


def test_squares_that_a_half_does_not_hold_are_no_matter() -> None:
    """Maps of some thousands: their squares overflow FP16, and the norm of them does not."""
    model = graph([1, 1], [0, 0], size=3000.0)
    exact = WrittenGraph(model).output(frame())
    got = WrittenGraph(cast_graph(model, "fp16").model).output(frame())
    assert np.abs(got - exact).max() < 0.005  # observed 0.0006: the rounding of the map itself
    assert np.abs(exact).max() > 1
