"""FP16 as a rewrite: typed everywhere, FP32 where it must be, and close to the graph it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from unblur.core.errors import BudgetError, InputError
from unblur.engines.onnxruntime_runner import open_onnxruntime
from unblur.export.casting import cast_to_fp16, round_rows
from unblur.export.strips import pool_matrix


def run(model: onnx.ModelProto, tensor: np.ndarray) -> np.ndarray:
    session = open_onnxruntime("test").InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": tensor})[0]


def types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    values = [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
    return {v.name: v.type.tensor_type.elem_type for v in values} | {
        t.name: t.data_type for t in inferred.graph.initializer
    }


@pytest.mark.parametrize("graph", ["fixed_graph", "dynamic_graph"])
def test_every_convolution_is_fp16_and_the_ends_stay_fp32(graph: str, request: pytest.FixtureRequest) -> None:
    cast = cast_to_fp16(onnx.load(request.getfixturevalue(graph)))
    kinds = types(cast.model)
    for node in cast.model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "MatMul"):
            assert {kinds[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT16}, node.name
    assert kinds["input"] == kinds["restored"] == TensorProto.FLOAT
    last = [name for name, reason in cast.kept_fp32 if reason.startswith("after the last")]
    assert [name.rpartition("/")[2].partition("_")[0] for name in last] == ["Add", "Clip"]


def test_decibels_against_the_float32_graph(fixed_graph: Path) -> None:
    model = onnx.load(fixed_graph)
    x = np.random.default_rng(2).random((1, 3, 48, 64), dtype=np.float32) - np.float32(0.5)
    error = run(cast_to_fp16(model).model, x).astype(np.float64) - run(model, x)
    psnr_db = -10 * np.log10(np.mean(error**2))
    assert 60 < psnr_db < 100  # observed 71; 100 would mean that nothing was cast


def test_weights_beyond_fp16_are_refused_by_name(fixed_graph: Path) -> None:
    model = onnx.load(fixed_graph)
    weight = next(t for t in model.graph.initializer if t.name == "de_layer2.0.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e6), weight.name))
    with pytest.raises(BudgetError, match=r"de_layer2.0.weight holds .* 65504"):
        cast_to_fp16(model)


def test_a_cast_graph_is_not_cast_again(fixed_graph: Path) -> None:
    with pytest.raises(InputError, match="already fp16"):
        cast_to_fp16(cast_to_fp16(onnx.load(fixed_graph)).model)


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
