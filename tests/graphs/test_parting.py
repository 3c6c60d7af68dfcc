"""Who is to blame: a fault that was put somewhere is found there, and rounding alone is nobody's fault."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pixels import BGR

from unblur.core.errors import InputError
from unblur.graphs.parting import find_parting, name_alike
from unblur.graphs.rewrites.casting import Narrow, cast_graph
from unblur.graphs.rewrites.emulation import widen
from unblur.graphs.rewrites.forms import find_form
from unblur.graphs.rewrites.quantise import quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.graphs.sessions import WrittenGraph
from unblur.graphs.tensor_error import ROUNDING_DB
from unblur.images.synthetic import synthetic_pair

FRAMES = [BGR.encode(synthetic_pair(seed, 48, 64, "heldout")[0]) for seed in (0, 1)]


def changed(model: onnx.ModelProto, name: str, change: Callable[[NDArray[np.float32]], object]) -> onnx.ModelProto:
    """The graph with another constant."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    (tensor,) = (tensor for tensor in made.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return made


@pytest.mark.parametrize("which", [0, 0.5, 1])
def test_a_weight_that_is_off_by_a_tenth_is_found(which: float, fixed_graph: Path) -> None:
    model = onnx.load(fixed_graph)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    node = convolutions[int(which * (len(convolutions) - 1))]

    def off(values: NDArray[np.float32]) -> None:
        values[1, 0, 0, 0] += 0.1 * np.abs(values).max()

    parting = find_parting(model, changed(model, node.input[1], off), FRAMES, ROUNDING_DB["fp32"], 1).parting
    assert parting is not None
    assert (parting.error.node, parting.error.name) == (node.name, node.output[0])
    assert parting.channel is not None
    assert parting.channel[0] == 1
    assert parting.channel[2] == 1.0  # no other channel is touched
    assert parting.why.startswith(f"{node.input[1]} differs at [1, 0, 0, 0]: ")
    assert parting.place is not None
    assert len(parting.place.lines()) == 8


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_healthy_cast_has_nothing_to_blame(precision: Narrow, order: int, fixed_graph: Path) -> None:
    model = onnx.load(fixed_graph)
    first, second = [model, widen(cast_graph(model, precision).model, precision)][::order]
    found = find_parting(first, second, FRAMES, ROUNDING_DB[precision], 1)
    assert found.parting is None
    assert min(error.snr_db for error in found.errors) < 90  # it was looked at


@pytest.fixture(scope="module")
def eight(fixed_graph: Path) -> onnx.ModelProto:
    """In 8 bits, each map over the range that it has."""
    return in_8_bits(onnx.load(fixed_graph), "openvino")


@pytest.fixture(scope="module")
def rtx(fixed_graph: Path) -> onnx.ModelProto:
    return in_8_bits(onnx.load(fixed_graph), "tensorrt-rtx")


def in_8_bits(model: onnx.ModelProto, form_name: str) -> onnx.ModelProto:
    form = find_form(form_name)
    names = tensors_to_measure(model, form)
    maps = [WrittenGraph(model, names).run(frame) for frame in FRAMES]
    ranges = {
        name: Range(float(min(0.0, *(m[name].min() for m in maps))), float(max(0.0, *(m[name].max() for m in maps))))
        for name in names
    }
    return quantise(model, Ranges("test", ranges), form).model


@pytest.mark.parametrize("order", [1, -1])
def test_healthy_8_bits_have_nothing_to_blame(
    order: int, fixed_graph: Path, eight: onnx.ModelProto, rtx: onnx.ModelProto
) -> None:
    first, second = [onnx.load(fixed_graph), eight][::order]
    found = find_parting(first, second, FRAMES, ROUNDING_DB["int8"], 1)
    assert found.parting is None
    scaled_behind = find_parting(*[onnx.load(fixed_graph), rtx][::order], FRAMES, ROUNDING_DB["int8"], 1)
    assert scaled_behind.parting is None
    assert sum("dequantised" in error.name for error in found.errors) > 10


@pytest.mark.parametrize("factor", [16.0, 1 / 16])
@pytest.mark.parametrize("which", [0.2, 0.8])
def test_a_wrong_scale_is_found_at_its_tensor(
    factor: float, which: float, fixed_graph: Path, eight: onnx.ModelProto
) -> None:
    pairs = [node for node in eight.graph.node if node.op_type == "DequantizeLinear" and "weight" not in node.name]
    node = pairs[int(which * (len(pairs) - 1))]
    wrong = changed(eight, node.input[1], lambda values: np.multiply(values, np.float32(factor), out=values))
    parting = find_parting(onnx.load(fixed_graph), wrong, FRAMES, ROUNDING_DB["int8"], 1).parting
    assert parting is not None
    assert parting.error.name == node.output[0]
    assert "the scale of its 8 bits is" in parting.why


def test_a_wrong_scale_of_weights_is_found_at_the_weights(fixed_graph: Path, eight: onnx.ModelProto) -> None:
    node = next(n for n in eight.graph.node if n.op_type == "DequantizeLinear" and "weight" in n.name)

    def one_channel(scales: NDArray[np.float32]) -> None:
        scales[2] *= 3

    wrong = changed(eight, node.input[1], one_channel)
    parting = find_parting(onnx.load(fixed_graph), wrong, FRAMES, ROUNDING_DB["int8"], 1).parting
    assert parting is not None
    assert parting.error.name == node.output[0]
    assert parting.channel is not None
    assert parting.channel[0] == 2
    assert parting.place is None  # weights lie nowhere in a picture


def test_the_place_is_where_the_error_is() -> None:
    base = np.zeros((1, 2, 32, 64), np.float32)
    spoilt = base.copy()
    spoilt[0, 1, 20:24, 8:12] = 1
    frame = np.random.default_rng(0).random((1, 2, 32, 64), np.float32)
    parting = find_parting(_added(base), _added(spoilt), [frame], ROUNDING_DB["fp32"], 1).parting
    assert parting is not None
    assert parting.channel == (1, 2, 1.0)
    assert parting.place is not None
    place = parting.place
    assert (place.top, place.left, place.bottom, place.right) == (20 / 32, 8 / 64, 24 / 32, 12 / 64)
    assert place.grid[5][2] == 1.0
    assert [line.strip() for line in place.lines()] == ["", "", "", "", "", "@", "", ""]
    assert parting.error.given_db == math.inf


def test_what_is_not_finite_is_found_too() -> None:
    bad = np.zeros((1, 2, 32, 64), np.float32)
    bad[0, 0, 3, 4] = np.nan
    parting = find_parting(_added(np.zeros_like(bad)), _added(bad), [np.ones_like(bad)], 120.0, 1).parting
    assert parting is not None
    assert parting.error.snr_db == -math.inf
    assert parting.channel == (0, 2, 1.0)


def test_graphs_of_different_networks_are_refused(fixed_graph: Path) -> None:
    with pytest.raises(InputError, match=r"different networks: only \d of 2 nodes"):
        find_parting(_added(np.zeros((1, 2, 32, 64), np.float32)), onnx.load(fixed_graph), FRAMES, 120.0)


def test_names_of_operands_are_added_and_nothing_else_changes(fixed_graph: Path, eight: onnx.ModelProto) -> None:
    model = onnx.load(fixed_graph)
    named = name_alike(model, eight)
    added = [node for node in named.graph.node if node.op_type == "Identity"]
    assert {node.output[0] for node in added} == {
        node.output[0] for node in eight.graph.node if node.op_type == "DequantizeLinear"
    }
    assert [node for node in named.graph.node if node not in added] == list(model.graph.node)
    assert name_alike(model, model) == model


def _added(values: NDArray[np.float32]) -> onnx.ModelProto:
    """Add a map."""
    nodes = [
        helper.make_node("Add", ["input", "map"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["output"], "relu"),
    ]
    edges = [helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape) for name in ("input", "output")]
    graph = helper.make_graph(nodes, "g", edges[:1], edges[1:], [numpy_helper.from_array(values, "map")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
