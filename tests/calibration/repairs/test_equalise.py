from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unblur.calibration.repairs import equalise as module
from unblur.calibration.repairs.channels import FIXED, channel_classes
from unblur.calibration.repairs.equalise import LARGEST, equalise
from unblur.core.errors import InputError, UnblurError
from unblur.graphs.sessions import WrittenGraph


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 3, 48, 64), np.float32) - np.float32(0.5)


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def uneven(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every other output channel of every convolution in the first block a hundred times as large."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for t in result.graph.initializer:
        if t.name.startswith("BAM_1") and t.name.endswith("weight"):
            values = numpy_helper.to_array(t).copy()
            values[::2] *= 0.01
            t.CopyFrom(numpy_helper.from_array(values, t.name))
    return result


@pytest.fixture(scope="module")
def model(fixed_graph: Path) -> onnx.ModelProto:
    return uneven(onnx.load(fixed_graph))


def test_an_equalised_graph_computes_the_same_bits(model: onnx.ModelProto) -> None:
    result = equalise(model, [frame(0), frame(1)])
    assert result.channels > 100
    assert result.scaled > 20
    for seed in (0, 7):
        (before,), (after,) = (WrittenGraph(m).run(frame(seed)).values() for m in (model, result.model))
        assert np.array_equal(before, after)
    for name, values in constants(result.model).items():
        factors = np.unique(np.abs(values[values != 0] / constants(model)[name][values != 0]))
        assert np.array_equal(np.log2(factors), np.rint(np.log2(factors)))
        assert factors.max(initial=1) <= LARGEST**2


def test_every_map_between_the_first_and_last_convolution_can_be_scaled_and_no_gate_can(
    model: onnx.ModelProto,
) -> None:
    sides = channel_classes(model)
    assert (sides["en_layer1.0/Conv"].read == FIXED).all()
    assert (sides["de_layer3.0/Conv"].written == FIXED).all()
    gates = [name for name in sides if "conv_final" in name or "mask_conv_2" in name]
    assert len(gates) == 4
    for name, side in sides.items():
        free = name not in (*gates, "de_layer3.0/Conv")
        assert (side.written != FIXED).all() == free, name
    # The residual joins what goes around the blocks: encoder, both blocks, and what reads them.
    joined = [sides[f"BAM_{k}.final_conv/Conv"].written for k in (1, 2)] + [sides["en_layer2.0/Conv"].written]
    assert all(np.array_equal(joined[0], other) for other in joined)
    assert np.array_equal(joined[0], sides["de_layer1.0/ConvTranspose"].read)
    # The last convolution of a block reads three branches and, through two gates, the block's first convolution.
    parts = [sides[f"BAM_1.content_conv_d{d}_2/Conv"].written for d in (1, 3, 5)]
    parts.append(sides["BAM_1.input_conv/Conv"].written)
    assert np.array_equal(sides["BAM_1.final_conv/Conv"].read, np.concatenate(parts))
    # The pooled strips of the first convolution, through a reshape that merges the channels with the width.
    assert np.array_equal(sides["BAM_1.BA.tall.0/Conv"].read, sides["BAM_1.input_conv/Conv"].written)
    assert np.array_equal(sides["BAM_1.BA.wide.0/Conv"].read, sides["BAM_1.input_conv/Conv"].written)


def test_equalising_evens_out_what_it_is_asked_to(model: onnx.ModelProto) -> None:
    def spread(graph: onnx.ModelProto) -> float:
        (values,) = WrittenGraph(graph, ["cat"]).run(frame(0)).values()
        peaks = np.abs(values).max(axis=(0, 2, 3))
        return float(peaks.max() / peaks.min())

    before = spread(model)
    assert before > 100
    assert spread(equalise(model, [frame(0)]).model) < before / 8


def test_a_scaled_graph_that_is_not_the_same_is_refused(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*arguments: object) -> onnx.ModelProto:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        bias = next(t for t in changed.graph.initializer if t.name == "de_layer3.0.bias")
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(1e-3), bias.name))
        return changed

    monkeypatch.setattr(module, "_scaled", wrong)
    with pytest.raises(UnblurError, match="differs from the float graph"):
        equalise(model, [frame(0)])
    with pytest.raises(InputError, match="at least one calibration frame"):
        equalise(model, [])


def test_unknown_operators_and_groups_are_left_alone() -> None:
    def graph(operator: str, group: int) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"], "one", group=1),
            helper.make_node(operator, ["a"], ["b"], "between"),
            helper.make_node("Conv", ["b", "v"], ["y"], "two", group=group),
        ]
        edges = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 8, 8]) for n in ("x", "y")]
        weights = [
            numpy_helper.from_array(np.ones((4, k, 1, 1), np.float32), n) for n, k in (("w", 4), ("v", 4 // group))
        ]
        made = helper.make_graph(nodes, "g", edges[:1], edges[1:], weights)
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    assert (channel_classes(graph("Relu", 1))["one"].written != FIXED).all()
    assert (channel_classes(graph("Softplus", 1))["one"].written == FIXED).all()
    beside = channel_classes(graph("Relu", 4))
    assert beside.keys() == {"one"}
    assert (beside["one"].written == FIXED).all()
    alone = graph("Relu", 4)
    del alone.graph.node[:2]
    alone.graph.node[0].input[0] = "x"
    with pytest.raises(InputError, match="no convolution but in groups"):
        channel_classes(alone)
