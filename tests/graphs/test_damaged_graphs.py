"""Graphs that are damaged, or made to do harm: every one is taken, or refused with a sentence."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from mutants import byte_mutants, field_mutants
from onnx import TensorProto, helper, numpy_helper
from pixels import BGR

from unblur.building.precision import precision_of
from unblur.core.errors import InputError, UnblurError
from unblur.engines.catalogue import find_engine
from unblur.engines.engine import Opening
from unblur.engines.tensorrt.lint.lint import lint
from unblur.graphs.blame import GraphPair
from unblur.graphs.facts import read_facts
from unblur.graphs.file import open_graph, read_graph
from unblur.graphs.pieces import PiecewiseGraph
from unblur.graphs.rewrites.casting import cast_graph
from unblur.graphs.sessions import WrittenGraph
from unblur.images.contract import METADATA_KEY

FRAME = [1, 3, 16, 24]


def made(nodes, outputs=("y",), constants=(), shape=FRAME, functions=()) -> onnx.ModelProto:
    """A foreign graph: x -> nodes -> outputs, with a pixel contract."""
    edges = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", *outputs)]
    graph = helper.make_graph(list(nodes), "foreign", edges[:1], edges[1:], list(constants))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("foreign", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: BGR.to_json()})
    return model


def convolution(shape=FRAME) -> onnx.ModelProto:
    weight = np.random.default_rng(0).normal(0, 0.1, (3, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "x"], ["a"], "add"),
        helper.make_node("Clip", ["a", "low", "high"], ["y"], "clip"),
    ]
    ends = [numpy_helper.from_array(np.float32(v), name) for name, v in (("low", -0.5), ("high", 0.5))]
    return made(nodes, constants=[numpy_helper.from_array(weight, "w"), *ends], shape=shape)


def quantised() -> onnx.ModelProto:
    """The same in 8 bits, with a branch in it that never is taken."""
    model = convolution()
    constants = {"s": np.float32(0.01), "z": np.int8(0), "yes": np.bool_(True)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
    pairs = []
    for name in ("x", "w"):
        pairs += [
            helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"], f"{name}/Q"),
            helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_d"], f"{name}/DQ"),
        ]
    body = [
        helper.make_graph([helper.make_node("Relu", ["c"], [out])], out, [],
                          [helper.make_tensor_value_info(out, TensorProto.FLOAT, FRAME)]) for out in ("t", "e")
    ]  # fmt: skip
    branch = helper.make_node("If", ["yes"], ["b"], "if", then_branch=body[0], else_branch=body[1])
    conv, add, clip = model.graph.node
    conv.input[:] = ["x_d", "w_d"]
    add.input[0] = "b"
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (*pairs, conv, branch, add, clip)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def read_everything(path: Path) -> None:
    """What `build` and `xray` do with a graph before they compile it."""
    source, model = open_graph(path)
    height, width = source.signature.height, source.signature.width
    facts = read_facts(model, height or 0, width or 0, count=height is not None and width is not None)
    precision_of(facts)
    for product in ("tensorrt-rtx", "tensorrt"):
        for target in ("sm75", "portable"):
            lint(model, product, target)
    with contextlib.suppress(UnblurError):  # no subgraph is cast
        cast_graph(model, "fp16")


@pytest.mark.parametrize("build", [convolution, quantised])
@pytest.mark.parametrize("kind", ["bytes", "fields"])
def test_every_damaged_graph_is_taken_or_refused(tmp_path: Path, build, kind: str) -> None:
    model = build()
    path = tmp_path / "graph.onnx"
    onnx.save(model, path)
    assert read_graph(path).output == "y"
    if kind == "bytes":
        mutants = list(byte_mutants(path.read_bytes(), 150))
    else:
        mutants = [mutant.SerializeToString() for mutant in field_mutants(model, 250)]
    outcomes = {"taken": 0, "refused": 0}
    for mutant in mutants:
        path.write_bytes(mutant)
        try:
            read_everything(path)
            outcomes["taken"] += 1
        except InputError:
            outcomes["refused"] += 1
    assert all(outcomes.values()), outcomes


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_everything(path)
    return str(caught.value)


def test_what_the_checker_and_inference_say_is_a_sentence(tmp_path: Path) -> None:
    def named(name: str) -> onnx.ModelProto:
        return made([helper.make_node(name, ["x"], ["y"], "n")])

    for model, words in [
        (named("NoSuchOperator"), "No Op registered for NoSuchOperator"),
        (named("Conv"), "has input size 1 not in range"),
        (made([helper.make_node("Relu", ["nothing"], ["y"])]), "'nothing'"),
        (made([helper.make_node("Reshape", ["x", "s"], ["y"])],
              constants=[numpy_helper.from_array(np.array([5, 7]), "s")]), "cannot infer the graph's shapes"),
    ]:  # fmt: skip
        assert words in refusal(saved(model, tmp_path / "g.onnx"))


@pytest.mark.parametrize("field", ["op_type", "name", "domain", "doc_string"])
def test_text_that_is_no_utf8(tmp_path: Path, field: str) -> None:
    model = convolution()
    setattr(model.graph.node[0], field, "@@@@")
    path = tmp_path / "g.onnx"
    path.write_bytes(model.SerializeToString().replace(b"@@@@", b"@\xff@@"))
    assert f"{field} in it is text that is no UTF-8" in refusal(path)


def test_weights_of_another_size_than_they_say(tmp_path: Path) -> None:
    for shape, raw in [([3, 3, 3, 4], None), ([-1, 3, 3, 3], None), ([2**40, 3, 3, 3], None), (None, b"\0" * 7)]:
        model = convolution()
        weight = model.graph.initializer[0]
        if shape:
            weight.dims[:] = shape
        if raw:
            weight.raw_data = raw
        assert "the tensor 'w' is damaged" in refusal(saved(model, tmp_path / "g.onnx"))


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"location": "w.bin"}, ""),
        ({"location": "below/w.bin", "offset": "0", "length": "324"}, ""),
        ({"location": "w.bin", "offset": "1"}, "damaged"),
        ({"location": "w.bin", "offset": "-4"}, "bytes -4 to"),
        ({"location": "w.bin", "length": "99999999999999999999"}, "of 324 are asked for"),
        ({"location": "w.bin", "length": "9" * 5000}, "must be whole numbers"),
        ({"location": "w.bin", "offset": "one"}, "must be whole numbers"),
        ({"location": "none.bin"}, "No such file"),
        ({"location": ""}, "does not say plainly"),
        ({}, "does not say plainly"),
        ({"location": "../w.bin"}, "outside the graph's folder"),
        ({"location": "/dev/zero"}, "outside the graph's folder"),
        ({"location": "link"}, "outside the graph's folder"),
        ({"location": "."}, "is a directory"),
        ({"location": "pipe"}, "is a pipe"),
        ({"location": "x" * 5000}, "File name too long"),
        ({"location": "a\0b"}, "outside the graph's folder"),
    ],
)
def test_weights_in_other_files(tmp_path: Path, stated: dict[str, str], words: str) -> None:
    model = convolution()
    weight = model.graph.initializer[0]
    folder = tmp_path / "graph"
    (folder / "below").mkdir(parents=True)
    for place in (tmp_path / "w.bin", folder / "w.bin", folder / "below/w.bin"):
        place.write_bytes(weight.raw_data)
    (folder / "link").symlink_to(tmp_path / "w.bin")
    os.mkfifo(folder / "pipe")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in stated.items())
    path = folder / "g.onnx"
    path.write_bytes(model.SerializeToString())
    if words:
        assert words in refusal(path)
    else:
        read_everything(path)
        assert open_graph(path)[1].graph.initializer[0].raw_data == (tmp_path / "w.bin").read_bytes()


def test_only_regular_files_are_graphs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "it is a pipe" in refusal(tmp_path / "pipe.onnx")
    assert "it is a device" in refusal(Path("/dev/zero"))


def two_outputs() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"], "restored"),
        helper.make_node("Conv", ["x", "w"], ["c"], "only for half", pads=[1] * 4),
        helper.make_node("Neg", ["c"], ["half"], "also"),
    ]
    return made(nodes, ("half", "y"), convolution().graph.initializer[:1])


def test_of_several_outputs_one_is_named(tmp_path: Path) -> None:
    path = saved(two_outputs(), tmp_path / "g.onnx")
    with pytest.raises(InputError, match=r"has 2 outputs \(half, y\); say with --output-name"):
        open_graph(path)
    with pytest.raises(InputError, match=r"has no output 'halv', did you mean 'half'\?; it has half, y"):
        open_graph(path, "halv")
    graph, model = open_graph(path, "y")
    assert graph.output == "y"
    assert [node.name for node in model.graph.node] == ["restored"]
    assert [value.name for value in model.graph.output] == ["y"]
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_named_output_is_run(tmp_path: Path, engine: str) -> None:
    path = saved(two_outputs(), tmp_path / "g.onnx")
    tensor = np.random.default_rng(1).uniform(-0.5, 0.5, FRAME).astype(np.float32)
    with find_engine(engine).open(Opening(engine, None, read_graph(path, "y"), 1)) as runner:
        np.testing.assert_array_equal(runner.run(tensor), np.maximum(tensor, 0))


def test_an_open_batch_is_one_frame(tmp_path: Path) -> None:
    graph, model = open_graph(saved(convolution(["N", "C", "H", "W"]), tmp_path / "g.onnx"))
    assert (graph.signature.height, graph.signature.width) == (None, None)
    for value in (model.graph.input[0], model.graph.output[0]):
        assert [d.dim_value for d in value.type.tensor_type.shape.dim] == [1, 3, 0, 0]


def test_older_graphs_list_their_weights_as_inputs_too(tmp_path: Path) -> None:
    model = convolution()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 3, 3, 3]))
    assert read_graph(saved(model, tmp_path / "g.onnx")).signature.height == 16
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    assert "has 2 inputs (x, more)" in refusal(saved(model, tmp_path / "g.onnx"))


@pytest.mark.parametrize(
    "shape", [[1, 3, 0, 24], [1, 3, -16, 24], [1, 3, 10**6, 24], [2, 3, 16, 24], [1, 4, 16, 24], [3, 16, 24]]
)
def test_no_frame_has_such_a_size(tmp_path: Path, shape: list[int]) -> None:
    model = made([helper.make_node("Relu", ["x"], ["y"])], shape=shape)
    assert "'y' is" in refusal(saved(model, tmp_path / "g.onnx")) or "'x' is" in refusal(tmp_path / "g.onnx")


def test_an_enlarging_network_does_not_deblur(tmp_path: Path) -> None:
    model = made([helper.make_node("Concat", ["x", "x"], ["y"], axis=2)])
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 32
    assert "'y' has another size than 'x'" in refusal(saved(model, tmp_path / "g.onnx"))
    dims = model.graph.output[0].type.tensor_type.shape.dim
    dims[2].dim_param, dims[3].dim_param = "A", "B"
    path = saved(model, tmp_path / "g.onnx")
    runner = find_engine("onnxruntime").open(Opening("onnxruntime", None, read_graph(path), 1))
    with pytest.raises(InputError, match="is it a deblurring network"):
        runner.run(np.zeros(FRAME, np.float32))


def test_contracts_that_nobody_means(tmp_path: Path) -> None:
    for text, words in [
        ("[" * 100_000, "nested too deep"),
        (json.dumps({**json.loads(BGR.to_json()), "multiple": 10**9}), "multiple is 1000000000"),
    ]:
        model = convolution()
        helper.set_model_props(model, {METADATA_KEY: text})
        assert words in refusal(saved(model, tmp_path / "g.onnx"))


def test_a_graph_that_fails_only_when_it_runs() -> None:
    """ONNX's checker and the session take a convolution of no group."""
    model, frame = convolution(), np.zeros(FRAME, np.float32)
    model.graph.node[0].attribute.append(helper.make_attribute("group", 0))
    for run in (
        lambda: WrittenGraph(model).run(frame),
        lambda: list(PiecewiseGraph(model, ["c"], 1).walk([frame])),
        lambda: GraphPair(model, model, 1).errors([frame]),
        lambda: GraphPair(model, model, 1).values("c", frame),
    ):
        with pytest.raises(InputError, match="ONNX Runtime cannot run the graph"):
            run()


def test_names_that_would_break_a_line_are_replaced(tmp_path: Path) -> None:
    """Builders' logs are read by lines, and a log that is not understood ends an X-ray."""
    model = convolution()
    for node, name in zip(model.graph.node, ("\x1b[2J\n<script>", "a b", "\x85"), strict=True):
        node.name = name
    names = [node.name for node in open_graph(saved(model, tmp_path / "g.onnx"))[1].graph.node]
    assert names == ["Conv_0", "a b", "Clip_2"]
