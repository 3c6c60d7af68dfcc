from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from unblur.calibration.realised import Backend, demand_8_bits, realised_on_cpu
from unblur.core.errors import BudgetError, InputError
from unblur.graphs.rewrites.forms import FP8, ONNXRUNTIME, OPENVINO, Form
from unblur.graphs.rewrites.quantise import QuantisedGraph, quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.graphs.sessions import WrittenGraph


@pytest.fixture(scope="module")
def model(fixed_graph: Path) -> onnx.ModelProto:
    return onnx.load(fixed_graph)


def quantised(model: onnx.ModelProto, form: Form) -> QuantisedGraph:
    names = tensors_to_measure(model, form)
    return quantise(model, Ranges("guessed", {name: Range(-1, 3) for name in names}), form)


@pytest.mark.parametrize(("form", "backend"), [(ONNXRUNTIME, "onnxruntime"), (OPENVINO, "openvino")])
def test_each_backend_runs_its_own_form_in_8_bits(form: Form, backend: Backend, model: onnx.ModelProto) -> None:
    graph = quantised(model, form)
    realised = realised_on_cpu(graph, backend)
    assert set(realised.in_8_bits) == {convolution.name for convolution in graph.convolutions}
    assert realised.macs_share == pytest.approx(graph.macs_share)
    demand_8_bits(realised)


def test_onnx_runtime_emulates_the_form_of_openvino_and_is_told_on(model: onnx.ModelProto) -> None:
    realised = realised_on_cpu(quantised(model, OPENVINO), "onnxruntime")
    assert "BAM_1.input_conv/Conv" in realised.emulated
    assert realised.macs_share < 0.5
    with pytest.raises(BudgetError, match=r"onnxruntime would run .* in floating point(.|\n)*the form 'onnxruntime'"):
        demand_8_bits(realised)


def test_onnx_runtime_refuses_8_bit_floats_unless_they_run_as_written(model: onnx.ModelProto) -> None:
    """Its optimiser fuses the pairs into a QLinearConv that it has no type for (1.31)."""
    graph = quantised(model, dataclasses.replace(FP8, narrowest=1))
    with pytest.raises(InputError, match=r"cannot run the graph .*float8e4m3fn"):
        realised_on_cpu(graph, "onnxruntime")
    assert WrittenGraph(graph.model).run(np.zeros((1, 3, 48, 64), np.float32))["restored"].shape == (1, 3, 48, 64)


def test_narrow_weights_are_exact_where_two_products_saturate() -> None:
    """A bright map and positive weights: without VNNI the sum of two products u8 x s8 does not fit into 16 bits."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.uniform(0.5, 1, (8, 32, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    edges = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, k, 16, 16]) for n, k in (("x", 32), ("y", 8))]
    bias = numpy_helper.from_array(np.zeros(8, np.float32), "b")
    graph = helper.make_graph(nodes, "bright", edges[:1], edges[1:], [weight, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    ranges = Ranges("known", {"x": Range(0.0, 1.0), "c": Range(0.0, 288.0), "y": Range(0.0, 288.0)})
    x = rng.uniform(0.9, 1, (1, 32, 16, 16)).astype(np.float32)
    eight = quantise(model, ranges, replace(ONNXRUNTIME, weight=replace(ONNXRUNTIME.weight, largest=63)), keep={}).model
    (written,) = WrittenGraph(eight).run(x).values()
    session = onnxruntime.InferenceSession(eight.SerializeToString(), providers=["CPUExecutionProvider"])
    assert written.max() > 200
    # One step of the output is 288 / 255: sums in float32 and in int32 may round to neighbours. Saturated: 59 steps.
    assert np.abs(session.run(None, {"x": x})[0] - written).max() < 1.5 * 288 / 255
