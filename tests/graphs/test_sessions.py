"""Graphs in memory compute what they say, as far as they are asked to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unblur.core.errors import InputError
from unblur.graphs.sessions import WrittenGraph, as_backend, open_session


def rounding(steps: tuple[str, ...] = ("Cast", "Cast")) -> onnx.ModelProto:
    """x -> FP16 -> back, and beside it a square root that nothing needs."""
    nodes = [
        helper.make_node(steps[0], ["x"], ["half"], "down", to=TensorProto.FLOAT16),
        helper.make_node(steps[1], ["half"], ["y"], "up", to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "one"], ["more"], "more"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [2])], [value("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.float32([1]), "one")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


X = np.array([1 / 3, 4.0], np.float32)


def test_a_cast_and_its_way_back_round() -> None:
    got = WrittenGraph(rounding()).output(X)
    assert np.array_equal(got, X.astype(np.float16).astype(np.float32))
    assert not np.array_equal(got, X)


def test_inner_tensors_are_given_by_name_and_in_order() -> None:
    graph = WrittenGraph(rounding(), ["more", "half"])
    values = graph.run(X)
    assert list(values) == ["more", "half"]
    assert np.array_equal(values["more"], X + 1)
    assert values["half"].dtype == np.float16
    assert np.array_equal(graph.output(X), X + 1)


def test_what_is_not_asked_for_is_not_computed() -> None:
    model = rounding()
    model.graph.node[2].op_type = "NoSuchOperator"
    with pytest.raises(InputError, match="cannot run the graph"):
        WrittenGraph(model)
    assert np.array_equal(WrittenGraph(model, ["half"]).output(X), X.astype(np.float16))


def test_an_unknown_tensor_and_a_refused_graph_are_named() -> None:
    with pytest.raises(InputError, match="no tensor 'z'"):
        WrittenGraph(rounding(), ["z"])
    with pytest.raises(InputError, match=r"cannot run the candidate .*export it again"):
        open_session(rounding(("Cast", "Kast")), "the candidate")


def test_the_backend_may_fuse(fixed_graph: Path) -> None:
    # ONNX Runtime's blocked layout sums in another order: near, and hardly ever equal.
    model = onnx.load(fixed_graph)
    x = np.random.default_rng(0).random((1, 3, 48, 64), np.float32) - 0.5
    written, fused = WrittenGraph(model).output(x), WrittenGraph(model, adjust=as_backend).output(x)
    assert np.abs(written - fused).max() < 1e-5
    assert not np.array_equal(written, fused)
