"""What a graph computes of its own sizes is done once, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from unblur.graphs.file import open_graph
from unblur.graphs.shapes import find_tensors
from unblur.graphs.sizes import fold_sizes
from unblur.images.contract import parse_contract


def padding(size: tuple[int | str, int | str], *, shape: bool) -> onnx.ModelProto:
    """`F.pad(x, (0, -w % 8, 0, -h % 8))` before a convolution, as PyTorch's older exporter writes it: of constants, or
    (`shape`) of the frame's own shape. The bias is in whole numbers too, and no size.
    """
    constants = {
        "h": np.array([size[0] if not shape else 0]), "w": np.array([size[1] if not shape else 0]),
        "eight": np.array([8]), "zeros": np.array([0, 0]), "rows": np.array([2]), "columns": np.array([3]),
    }  # fmt: skip
    weight = np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32)
    stored = [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in constants.items()]
    stored += [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.int32([50, -20, 7]), "whole")]
    sides = [("Shape", ["in"], "s"), ("Gather", ["s", "rows"], "high"), ("Gather", ["s", "columns"], "wide")]
    nodes = [
        *(sides if shape else []),
        *(("Neg", [("high", "wide")[k] if shape else name], f"n{k}") for k, name in enumerate("hw")),
        *(("Mod", [f"n{k}", "eight"], f"m{k}") for k in range(2)),
        ("Concat", ["zeros", "zeros", "zeros", "m0", "m1"], "pads"),
        ("Pad", ["in", "pads"], "padded"),
        ("DequantizeLinear", ["whole", "scale"], "bias"),
        ("Conv", ["padded", "weight", "bias"], "out"),
    ]
    stored.append(numpy_helper.from_array(np.float32(0.01), "scale"))
    made = [
        helper.make_node(kind, inputs, [output], name=output,
                         **({"axis": 0} if kind == "Concat" else {"pads": [1] * 4} if kind == "Conv" else {}))
        for kind, inputs, output in nodes
    ]  # fmt: skip
    values = [
        helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 3, *size]),
        helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, "H", "W"]),
    ]
    graph = helper.make_graph(made, "g", values[:1], values[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("shape", [False, True])
def test_behind_padding_to_a_multiple_every_shape_is_known(tmp_path: Path, shape: bool) -> None:
    path = tmp_path / "g.onnx"
    onnx.save(padding((10, 13), shape=shape), path)
    _, folded = open_graph(path, None, parse_contract("rgb01"))
    assert [node.op_type for node in folded.graph.node] == ["Constant", "Pad", "DequantizeLinear", "Conv"]
    assert find_tensors(folded).whole_shape("padded") == (1, 3, 16, 16)
    frame = np.random.default_rng(1).random((1, 3, 10, 13), np.float32)
    before, after = (ReferenceEvaluator(m).run(None, {"in": frame})[0] for m in (onnx.load(path), folded))
    assert np.array_equal(before, after)


def test_shapes_are_those_of_the_input_as_it_is(tmp_path: Path) -> None:
    """Whoever edits an input's size leaves the shapes between behind, which inference takes for given."""
    model = padding((10, 13), shape=True)
    model.graph.node.insert(0, helper.make_node("Relu", ["in"], ["seen"], "seen"))
    model.graph.node[1].input[0] = "seen"
    model.graph.value_info.append(helper.make_tensor_value_info("seen", TensorProto.FLOAT, [1, 3, 12, 12]))
    fold_sizes(model)
    (pads,) = (node.attribute[0].t for node in model.graph.node if node.op_type == "Constant")
    assert numpy_helper.to_array(pads).tolist() == [0, 0, 0, 0, 0, 0, 6, 3]


@pytest.mark.parametrize("ir_version", [3, 10])
def test_what_sizes_go_through_does_not_say_what_the_weights_are_in(tmp_path: Path, ir_version: int) -> None:
    """Arithmetic in float64 between; and in files of old every initializer is an input, which no constant is."""
    model = padding((10, 13), shape=True)
    model.graph.node.extend([
        helper.make_node("Cast", ["high"], ["wide high"], "cast", to=TensorProto.DOUBLE),
        helper.make_node("Sqrt", ["wide high"], ["root"], "root"),
        helper.make_node("Cast", ["root"], ["narrow"], "back", to=TensorProto.FLOAT),
        helper.make_node("Div", ["out", "narrow"], ["restored"], "divided"),
    ])  # fmt: skip
    model.graph.output[0].name = "restored"
    model.ir_version = ir_version
    if ir_version < 4:
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(model, tmp_path / "g.onnx")
    told, folded = open_graph(tmp_path / "g.onnx", None, parse_contract("rgb01"))
    assert told.precision == "f32"
    frame = np.random.default_rng(1).random((1, 3, 10, 13), np.float32)
    session = onnxruntime.InferenceSession(folded.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"in": frame})[0], ReferenceEvaluator(model).run(None, {"in": frame})[0])


def test_what_depends_on_the_frame_stays() -> None:
    model = padding(("h", "w"), shape=True)
    before = [node.name for node in model.graph.node]
    fold_sizes(model)
    assert [node.name for node in model.graph.node] == before


def test_a_graph_that_asks_for_more_than_sizes_is_given_nothing() -> None:
    """A shape of terabytes is not made, and an index that is not there is left to the backends to refuse."""
    stored = [
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in (("huge", [1 << 40]), ("i", 9))
    ]
    nodes = [
        helper.make_node("ConstantOfShape", ["huge"], ["all"]),
        helper.make_node("Gather", ["huge", "i"], ["gone"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], stored))
    fold_sizes(model)
    assert [node.op_type for node in model.graph.node] == ["ConstantOfShape", "Gather"]
