"""Two graphs side by side: each tensor's error is that of the whole graphs, and the layer that is to blame is found."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pixels import BGR

from unblur.core.errors import InputError
from unblur.graphs.blame import GraphPair
from unblur.graphs.rewrites.casting import Narrow, cast_graph
from unblur.graphs.rewrites.emulation import widen
from unblur.graphs.sessions import WrittenGraph
from unblur.graphs.tensor_error import ROUNDING_DB, first_parting
from unblur.images.synthetic import synthetic_pair

FRAMES = [BGR.encode(synthetic_pair(seed, 48, 64, "heldout")[0]) for seed in (0, 1)]


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
@pytest.mark.parametrize("part_bytes", [1, 1 << 16, 1 << 40])
def test_errors_are_those_of_the_whole_graphs_however_they_are_cut(
    kind: str, part_bytes: int, fixed_graph: Path, dynamic_graph: Path
) -> None:
    model = onnx.load(fixed_graph if kind == "fixed" else dynamic_graph)
    wide = widen(cast_graph(model, "fp16").model, "fp16")
    pair = GraphPair(model, wide, 1, part_bytes)
    assert (len(pair._parts) == 1) == (part_bytes == 1 << 40)
    found = pair.errors(FRAMES)
    assert len(found) > 50
    whole = [[WrittenGraph(m, pair.tensors).run(x) for x in FRAMES] for m in (model, wide)]
    for error in found:
        a, b = (np.array([run[error.name] for run in runs], np.float64) for runs in whole)
        squares = ((a - b) ** 2).reshape(len(FRAMES), -1).mean(1)
        # Sums of squares are float32: observed 2e-7 of the whole.
        assert error.worst_error == pytest.approx(squares.max(), rel=1e-4)
        assert error.largest == np.abs(a).max()
        expected = math.inf if not squares.any() else 10 * np.log10((a**2).mean() / squares.mean())
        assert error.snr_db == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_rounding_alone_is_no_parting(precision: Narrow, fixed_graph: Path) -> None:
    model = onnx.load(fixed_graph)
    found = GraphPair(model, widen(cast_graph(model, precision).model, precision)).errors(FRAMES)
    assert min(error.snr_db for error in found) < ROUNDING_DB[precision] + 12
    assert first_parting(found, ROUNDING_DB[precision]) is None


def test_the_layer_that_was_changed_is_to_blame(fixed_graph: Path) -> None:
    """Negative control: in each of three places one weight of a convolution is off by a tenth of the largest."""
    model = onnx.load(fixed_graph)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in (convolutions[0], convolutions[len(convolutions) // 2], convolutions[-1]):
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        (weight,) = (tensor for tensor in changed.graph.initializer if tensor.name == node.input[1])
        values = numpy_helper.to_array(weight).copy()
        values[0, 0, 0, 0] += 0.1 * np.abs(values).max()
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        found = GraphPair(model, changed).errors(FRAMES)
        parting = first_parting(found, ROUNDING_DB["fp32"])
        assert parting is not None
        assert parting.node == node.name
        assert parting.given_db == math.inf
        before = {error.snr_db for error in found[: found.index(parting)]}
        assert before <= {math.inf}


def test_what_is_not_finite_parts_without_bound() -> None:
    first, second = (_scaled(factor) for factor in (1.0, 3e38))
    (product, output) = GraphPair(first, second).errors([np.full((1, 3, 8, 8), 10, np.float32)])
    assert (product.name, product.snr_db) == ("product", -math.inf)
    assert first_parting((product, output), ROUNDING_DB["fp32"]) == product


def test_an_overflow_of_nothing_is_no_error() -> None:
    model = _scaled(2.0)
    (product, output) = GraphPair(model, model).errors([np.ones((1, 3, 8, 8), np.float32)])
    assert (product.snr_db, output.snr_db, product.largest, product.lost_db) == (math.inf, math.inf, 2.0, 0.0)


def test_graphs_that_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="none were given"):
        GraphPair(_scaled(1.0), _scaled(2.0)).errors([])
    with pytest.raises(InputError, match="different inputs"):
        GraphPair(_scaled(1.0), _scaled(1.0, source="pixels"))
    with pytest.raises(InputError, match="no float32 tensor of one name"):
        GraphPair(_scaled(1.0), _scaled(1.0, names=("a", "b")))


def _scaled(factor: float, source: str = "input", names: tuple[str, str] = ("product", "output")) -> onnx.ModelProto:
    """Multiply by a constant, then twice that, on (1, 3, 8, 8)."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Mul", [source, "factor"], [names[0]], "multiply"),
        helper.make_node("Add", [names[0], names[0]], [names[1]], "double"),
    ]
    edges = [value(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in (source, names[1])]
    constants = [numpy_helper.from_array(np.float32(factor), "factor")]
    graph = helper.make_graph(nodes, "g", edges[:1], edges[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
