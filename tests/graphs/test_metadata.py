"""Where a node stands in its network: stated by the export, kept by every rewrite, guessed only for foreign graphs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from unblur.calibration.search.groups import find_groups
from unblur.graphs.facts import CONVOLUTIONS
from unblur.graphs.metadata import Part, parts_of
from unblur.graphs.rewrites.casting import cast_graph
from unblur.graphs.rewrites.emulation import widen
from unblur.graphs.rewrites.forms import FORMS
from unblur.graphs.rewrites.phases import write_phases
from unblur.graphs.rewrites.quantise import quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges

STATED = {
    "en_layer1.0/Conv": Part("encoder", "en_layer1.0"),
    "BAM_1.input_conv/Conv": Part("BAM_1", "BAM_1.input_conv"),
    "BAM_2.content_conv_d3_2/Conv": Part("BAM_2", "BAM_2.content_conv_2"),
    "BAM_2.BA.tall.0/Conv": Part("BAM_2", "BAM_2.BA.strips"),
    "de_layer1.0/ConvTranspose": Part("decoder", "de_layer1.0"),
}


@pytest.fixture
def exported(fixed_graph: Path) -> onnx.ModelProto:
    return onnx.load(fixed_graph)


def test_export_states_block_and_group(exported: onnx.ModelProto) -> None:
    parts = parts_of(exported)
    assert STATED.items() <= parts.items()
    assert parts.keys() == {node.name for node in exported.graph.node}
    assert parts["Clip"] == Part("", "")  # pixels belong to no layer
    onnx.checker.check_model(exported, full_check=True)


def test_every_rewrite_keeps_them(exported: onnx.ModelProto) -> None:
    before = {node.name: parts_of(exported)[node.name] for node in exported.graph.node if node.op_type in CONVOLUTIONS}
    form = FORMS["openvino"]
    ranges = Ranges("minmax", {name: Range(-1.0, 1.0) for name in tensors_to_measure(exported, form)})
    eight = quantise(exported, ranges, form).model
    half = cast_graph(exported, "fp16").model
    rewritten = {
        "fp16": half,
        "bf16": cast_graph(exported, "bf16").model,  # through ONNX's converter, and in phases
        "emulated": widen(half, "fp16"),
        "phases": write_phases(exported),
        "8 bits": eight,
        "8 bits in fp16": cast_graph(eight, "fp16").model,
    }
    for name, model in rewritten.items():
        parts = parts_of(model)
        assert before.items() <= parts.items(), name
        assert parts.keys() == {node.name for node in model.graph.node}
    parts = parts_of(rewritten["8 bits in fp16"])
    added = [node.name for node in rewritten["8 bits in fp16"].graph.node if node.op_type == "QuantizeLinear"]
    assert {parts[name].block for name in added} == {"encoder", "BAM_1", "BAM_2", "decoder"}
    assert parts_of(rewritten["phases"])["de_layer1.0/ConvTranspose/DepthToSpace"].block == "decoder"


def test_a_search_decides_on_the_groups_that_the_graph_states(exported: onnx.ModelProto) -> None:
    groups = {group.name: group for group in find_groups(exported, FORMS["openvino"])}
    branches = groups["BAM_1.content_conv"]
    assert branches.convolutions == tuple(f"BAM_1.content_conv_d{d}/Conv" for d in (1, 3, 5))
    assert branches.role == groups["BAM_2.content_conv"].role == "BAM.content_conv"


def test_a_graph_that_states_nothing_goes_by_the_names_of_its_layers() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], "/body/body.0/conv1/Conv"),
        helper.make_node("Relu", ["y"], ["z"], "Relu_3"),
        helper.make_node("Conv", ["z", "w"], ["r"], "tail.0/Conv_2"),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("x", "r")]
    model = helper.make_model(helper.make_graph(nodes, "foreign", value[:1], value[1:]))
    assert parts_of(model) == {
        "/body/body.0/conv1/Conv": Part("body", "body/body.0/conv1"),
        "Relu_3": Part("Relu_3", "Relu_3"),
        "tail.0/Conv_2": Part("tail", "tail.0"),
    }
