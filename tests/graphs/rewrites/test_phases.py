"""A deconvolution written as phases is the deconvolution, to rounding, for every shape that has the form."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from unblur.core.errors import InputError
from unblur.engines.openvino_runner import run_openvino
from unblur.graphs.rewrites.phases import phase_weight, write_phases
from unblur.graphs.sessions import WrittenGraph, as_backend


def graph(kernel: int, stride: int, pad: int, bias: bool = True, **attributes: object) -> onnx.ModelProto:
    rng = np.random.default_rng(kernel * 10 + stride)
    weight = rng.normal(size=(3, 5, kernel, kernel)).astype(np.float32)
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(rng.normal(size=5).astype("f"), "b")]
    names = ["x", "w", "b"][: 3 if bias else 2]
    given = {"strides": [stride] * 2, "pads": [pad] * 4} | attributes
    node = helper.make_node("ConvTranspose", names, ["y"], "up", **given)
    value = helper.make_tensor_value_info
    return helper.make_model(
        helper.make_graph(
            [node], "g", [value("x", TensorProto.FLOAT, [1, 3, 6, 7])], [value("y", TensorProto.FLOAT, None)], constants
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )


def run(model: onnx.ModelProto, x: np.ndarray, backend: str) -> np.ndarray:
    if backend == "openvino":
        return run_openvino(model, threads=1)(x)["y"]
    return WrittenGraph(model, adjust=as_backend).output(x)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "beyond"),
    [(4, 2, 1, 0), (2, 2, 0, 0), (6, 2, 2, 0), (5, 3, 1, 0), (3, 1, 1, 0), (3, 2, 1, 1), (5, 2, 2, 1), (4, 3, 1, 1)],
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_it_is_the_deconvolution(kernel: int, stride: int, pad: int, beyond: int, bias: bool, backend: str) -> None:
    model = graph(kernel, stride, pad, bias, **({"output_padding": [beyond] * 2} if beyond else {}))
    x = np.random.default_rng(0).normal(size=(1, 3, 6, 7)).astype(np.float32)
    written = write_phases(model)
    assert [node.op_type for node in written.graph.node] == ["Conv", "DepthToSpace"]
    weight, b = (torch.from_numpy(numpy_helper.to_array(t).copy()).double() for t in model.graph.initializer)
    exact = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(x).double(), weight, b if bias else None, stride, pad, beyond
    ).numpy()
    np.testing.assert_allclose(run(written, x, backend), exact, atol=1e-5)  # observed 2e-6; a tap out of place gives 1


def test_of_the_weights_of_banets_deconvolution_each_is_there_once() -> None:
    weight = np.arange(1, 1 + 2 * 3 * 16, dtype=np.float32).reshape(2, 3, 4, 4)
    phases, low, high = phase_weight(weight, 2, 1)
    assert phases.shape == (12, 2, 3, 3)
    assert (low, high) == (1, 1)
    np.testing.assert_array_equal(np.sort(phases[phases > 0]), np.sort(weight.ravel()))


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "attributes"),
    [(3, 2, 1, {"output_padding": [0, 1]}), (3, 2, 1, {}), (4, 2, 1, {"dilations": [2, 2]}), (4, 2, 1, {"group": 3})],
)
def test_what_has_no_phase_form_is_refused_by_name(
    kernel: int, stride: int, pad: int, attributes: dict[str, object]
) -> None:
    with pytest.raises(InputError, match=r"up: a deconvolution with kernel .* FP16"):
        write_phases(graph(kernel, stride, pad, **attributes))


def test_nan_is_no_other_constant_each_time() -> None:
    model = graph(4, 2, 1)
    wrong = numpy_helper.from_array(np.full((3, 5, 4, 4), np.nan, np.float32), "w")
    model.graph.initializer[0].CopyFrom(wrong)
    names = [tensor.name for tensor in write_phases(model).graph.initializer]
    assert names == ["w_phases", "b_phases"]


def test_a_bias_that_deconvolutions_of_two_strides_share_is_spread_for_each() -> None:
    """Exporters keep one of equal constants, such as biases that are all zero."""
    both, other = graph(4, 2, 1), graph(4, 4, 0)
    node, weight = other.graph.node[0], other.graph.initializer[0]
    node.name, node.input[1], node.output[0], weight.name = "further", "v", "z", "v"
    both.graph.node.append(node)
    both.graph.initializer.append(weight)
    both.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    x = np.random.default_rng(0).normal(size=(1, 3, 6, 7)).astype(np.float32)
    written = write_phases(both)
    names = [tensor.name for tensor in written.graph.initializer]
    assert len(set(names)) == len(names) == 4
    for output in ("y", "z"):
        before, after = (WrittenGraph(model, [output]).run(x)[output] for model in (both, written))
        assert np.abs(before - after).max() < 1e-5
