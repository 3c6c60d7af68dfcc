"""FP16 as a rewrite: typed everywhere, FP32 where it must be, and close to the graph it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from unblur.core.errors import BudgetError, InputError
from unblur.graphs.rewrites.casting import Narrow, cast_graph, round_rows
from unblur.graphs.sessions import open_onnxruntime
from unblur.networks.banet.strips import pool_matrix


def run(model: onnx.ModelProto, tensor: np.ndarray) -> np.ndarray:
    session = open_onnxruntime("test").InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": tensor})[0]


def with_pairs(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The graph with one convolution quantised: its map through Q/DQ, its weights stored as bytes behind a DQ."""
    graph = model.graph
    (index,) = [k for k, node in enumerate(graph.node) if node.name == name]
    node = graph.node[index]
    weight = next(t for t in graph.initializer if t.name == node.input[1])
    stored = np.clip(np.round(numpy_helper.to_array(weight) * 100), -127, 127).astype(np.int8)
    weight.CopyFrom(numpy_helper.from_array(stored, weight.name))
    for key, value in {"s": np.float32(0.01), "z": np.int8(0)}.items():
        graph.initializer.append(numpy_helper.from_array(value, key))
    pairs = [
        onnx.helper.make_node("QuantizeLinear", [node.input[0], "s", "z"], ["q"], "q"),
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"], "dq"),
        onnx.helper.make_node("DequantizeLinear", [weight.name, "s", "z"], ["w"], "dqw"),
    ]
    node.input[0], node.input[1] = "dq", "w"
    nodes = [*graph.node[:index], *pairs, *graph.node[index:]]
    kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    onnx.helper.set_model_props(model, {**{e.key: e.value for e in model.metadata_props}, "unblur.precision": "int8"})
    return model


def types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    values = [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
    return {v.name: v.type.tensor_type.elem_type for v in values} | {
        t.name: t.data_type for t in inferred.graph.initializer
    }


@pytest.mark.parametrize("graph", ["fixed_graph", "dynamic_graph"])
@pytest.mark.parametrize(("precision", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_every_convolution_is_narrow_and_the_ends_stay_fp32(
    graph: str, precision: Narrow, kind: int, request: pytest.FixtureRequest
) -> None:
    cast = cast_graph(onnx.load(request.getfixturevalue(graph)), precision)
    kinds = types(cast.model)
    for node in cast.model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "MatMul"):
            assert {kinds[name] for name in (*node.input, *node.output)} == {kind}, node.name
    assert kinds["input"] == kinds["restored"] == TensorProto.FLOAT
    last = [name for name, reason in cast.kept_fp32 if reason.startswith("after the last")]
    assert [name.rpartition("/")[2].partition("_")[0] for name in last] == ["Add", "Clip"]
    # BF16 has no deconvolution in the compiler, FP16 needs no other form of it.
    assert any(node.op_type == "ConvTranspose" for node in cast.model.graph.node) == (precision == "fp16")


def test_named_nodes_keep_fp32_and_an_unknown_name_is_refused(fixed_graph: Path) -> None:
    model = onnx.load(fixed_graph)
    name = next(node.name for node in model.graph.node if node.op_type == "Sigmoid")
    cast = cast_graph(model, "fp16", {name: "asked for"})
    (node,) = [node for node in cast.model.graph.node if node.name == name]
    assert types(cast.model)[node.output[0]] == TensorProto.FLOAT
    assert (name, "asked for") in cast.kept_fp32
    with pytest.raises(InputError, match=r"no node 'BAM_1.BA/Sigmoit'.*Sigmoid"):
        cast_graph(model, "fp16", {"BAM_1.BA/Sigmoit": "a slip"})


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_quantised_convolutions_take_their_operands_without_a_cast_between(
    precision: Narrow, fixed_graph: Path
) -> None:
    quantised = with_pairs(onnx.load(fixed_graph), "de_layer2.0/Conv")
    cast = cast_graph(quantised, precision).model
    producer = {name: node for node in cast.graph.node for name in node.output}
    (convolution,) = [node for node in cast.graph.node if node.name == "de_layer2.0/Conv"]
    assert [producer[name].op_type for name in convolution.input[:2]] == ["DequantizeLinear"] * 2
    wanted = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    assert {types(cast)[name] for name in convolution.input} == {wanted}
    assert {entry.key: entry.value for entry in cast.metadata_props}["unblur.precision"] == "int8"


def test_decibels_against_the_float32_graph(fixed_graph: Path) -> None:
    model = onnx.load(fixed_graph)
    x = np.random.default_rng(2).random((1, 3, 48, 64), dtype=np.float32) - np.float32(0.5)
    error = run(cast_graph(model, "fp16").model, x).astype(np.float64) - run(model, x)
    psnr_db = -10 * np.log10(np.mean(error**2))
    assert 60 < psnr_db < 100  # observed 71; 100 would mean that nothing was cast


def test_weights_beyond_fp16_are_refused_by_name(fixed_graph: Path) -> None:
    model = onnx.load(fixed_graph)
    weight = next(t for t in model.graph.initializer if t.name == "de_layer2.0.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e6), weight.name))
    with pytest.raises(BudgetError, match=r"de_layer2.0.weight holds .* 65504"):
        cast_graph(model, "fp16")


def test_a_cast_graph_is_not_cast_again(fixed_graph: Path) -> None:
    with pytest.raises(InputError, match="already fp16"):
        cast_graph(cast_graph(onnx.load(fixed_graph), "fp16").model, "fp16")


@pytest.mark.parametrize("length", [45, 128, 360, 640])
def test_rounded_bins_still_average(length: int) -> None:
    exact = pool_matrix(length).astype(np.float32)
    carried = np.abs(round_rows(exact).astype(np.float64).sum(axis=1) - 1)
    nearest = np.abs(exact.astype(np.float16).astype(np.float64).sum(axis=1) - 1)
    assert carried.max() <= 2.0**-11 / 1.0 * exact.max()  # less than the last bit of one weight
    assert carried.max() <= nearest.max()


def test_matrices_that_do_not_average_are_rounded_to_nearest() -> None:
    weights = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    np.testing.assert_array_equal(round_rows(weights), weights.astype(np.float16))


def looked_up() -> onnx.ModelProto:
    """A convolution says where to look in a map, halved and doubled: GridSample, Resize, and convolutions around."""
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make("Conv", ["input", "first"], ["map"], "first", pads=[1, 1, 1, 1]),
        make("Conv", ["map", "where"], ["moved"], "where", pads=[1, 1, 1, 1]),
        make("Tanh", ["moved"], ["near"], "near"),
        make("Transpose", ["near"], ["places"], "places", perm=[0, 2, 3, 1]),
        make("GridSample", ["map", "places"], ["seen"], "seen"),
        make("Resize", ["seen", "", "half"], ["small"], "small", mode="linear"),
        make("Resize", ["small", "", "twice"], ["large"], "large", mode="linear"),
        make("Relu", ["large"], ["lit"], "lit"),
        make("Conv", ["lit", "last"], ["made"], "last", pads=[1, 1, 1, 1]),
        make("Clip", ["made"], ["restored"], "restored"),
    ]
    draw = np.random.default_rng(0).standard_normal
    weights = {"first": (4, 3, 3, 3), "where": (2, 4, 3, 3), "last": (3, 4, 3, 3)}
    constants = {name: (draw(shape) / 5).astype(np.float32) for name, shape in weights.items()}
    constants |= {"half": np.float32([1, 1, 0.5, 0.5]), "twice": np.float32([1, 1, 2, 2])}
    frame = [1, 3, 16, 24]
    graph = onnx.helper.make_graph(
        nodes,
        "looked up",
        [value("input", TensorProto.FLOAT, frame)],
        [value("restored", TensorProto.FLOAT, frame)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_places_to_look_at_keep_float32_and_so_do_the_scales_of_a_resize(precision: Narrow) -> None:
    cast = cast_graph(looked_up(), precision)
    kept = {name for name, reason in cast.kept_fp32 if "places" in reason}
    assert kept == {"near", "places", "seen"}
    found = types(cast.model)
    assert found["small"] == found["lit"] != TensorProto.FLOAT
    assert {t.name: t.data_type for t in cast.model.graph.initializer}["half"] == TensorProto.FLOAT
    if precision == "fp16":
        x = np.random.default_rng(1).random((1, 3, 16, 24), dtype=np.float32)
        assert np.abs(run(cast.model, x) - run(looked_up(), x)).max() < 5e-3


def between_convolutions(
    inner: list[tuple[str, list[str], str]], constants: dict[str, np.ndarray], **attributes: object
) -> onnx.ModelProto:
    """Nodes (operator, inputs, output) from "map" to "changed", with a convolution before and one behind."""
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [make("Conv", ["input", "weight"], ["map"], "first")]
    nodes += [make(op, given, [output], output, **(attributes if op == "Cast" else {})) for op, given, output in inner]
    nodes += [make("Conv", ["changed", "weight"], ["made"], "last"), make("Clip", ["made"], ["restored"], "restored")]
    weight = np.random.default_rng(0).normal(0, 0.5, (3, 3, 1, 1)).astype(np.float32)
    ends = [value(name, TensorProto.FLOAT, [1, 3, 4, 5]) for name in ("input", "restored")]
    stored = [numpy_helper.from_array(values, name) for name, values in {"weight": weight, **constants}.items()]
    graph = onnx.helper.make_graph(nodes, "between", ends[:1], ends[1:], stored)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def test_what_keeps_a_divisor_from_zero_does_not_become_zero_itself() -> None:
    """As torch.nn.functional.normalize has it; FP16 ends at 6e-8, and a black frame would be NaN."""
    inner = [("Abs", ["map"], "size"), ("Max", ["size", "least"], "divisor"), ("Div", ["map", "divisor"], "changed")]
    model = between_convolutions(inner, {"least": np.array(1e-12, np.float32)})
    black = np.zeros((1, 3, 4, 5), np.float32)
    assert not run(model, black).any()
    assert not run(cast_graph(model, "fp16").model, black).any()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_cast_of_the_graph_itself_goes_to_the_narrow_type(precision: Narrow) -> None:
    """Of a mask, or of whole numbers: it was written for float32."""
    inner = [("Greater", ["map", "zero"], "mask"), ("Cast", ["mask"], "seen"), ("Mul", ["map", "seen"], "changed")]
    model = between_convolutions(inner, {"zero": np.array(0, np.float32)}, to=TensorProto.FLOAT)
    found = types(cast_graph(model, precision).model)
    assert found["seen"] == found["changed"] != TensorProto.FLOAT
