"""Weights are rounded for the result: its error shrinks, each stays beside its exact value, nothing else moves."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from unblur.calibration.repairs.rounding import choose, other_neighbours, round_adaptively, unsuited
from unblur.core.console import Silent
from unblur.core.errors import InputError
from unblur.graphs.rewrites.forms import E4M3, FP8, OPENVINO, S8, TENSORRT_RTX, Form
from unblur.graphs.rewrites.quantise import QuantisedGraph, quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.graphs.sessions import WrittenGraph


def moment(entries: int, seed: int = 0) -> np.ndarray:
    """Of values that go together, as neighbours in a map do."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(500, entries)) @ rng.normal(size=(entries, entries)) + 1.0
    return values.T @ values / len(values)


def power(error: np.ndarray, moments: np.ndarray) -> np.ndarray:
    return np.array([row @ moments @ row for row in error])


def test_no_single_turn_is_left_that_helps_and_the_best_of_all_is_near() -> None:
    exact, moments = np.random.default_rng(1).normal(0, 3, (6, 8)), moment(8)
    nearest = np.rint(exact)
    chosen = choose(exact, nearest, moments, S8)
    assert (np.abs(chosen - exact) < 1).all()
    reached = power(chosen - exact, moments)
    for row, k in itertools.product(range(6), range(8)):
        other = chosen.copy()
        other[row, k] += -np.sign(chosen[row, k] - exact[row, k])
        assert power(other - exact, moments)[row] >= reached[row] - 1e-9
    corners = np.array(list(itertools.product((0, 1), repeat=8)))
    best = np.array([min(power(np.floor(row) + corners - row, moments)) for row in exact])
    nearest_power = power(nearest - exact, moments)
    assert (reached <= nearest_power + 1e-12).all()
    assert reached.sum() < 0.75 * nearest_power.sum()  # observed 0.69
    assert best.sum() <= reached.sum() < 2 * best.sum()  # best: of all 256 choices a row


def test_whole_numbers_and_the_ends_of_the_type_stay() -> None:
    exact = np.array([[2.0, -3.0, 126.6, 140.0]])
    chosen = choose(exact, np.array([[2.0, -3.0, 127.0, 127.0]]), moment(4), S8)
    assert chosen[0, [0, 1, 3]].tolist() == [2, -3, 127]
    assert chosen[0, 2] in (126, 127)


def test_steps_of_8_bit_floating_point_are_uneven() -> None:
    """OFP8 E4M3: 3 bits of mantissa, so eight steps between powers of two; 448 at most, and 2**-9 the least."""
    exact = np.array([[1.0, 1.1, -1.1, 15.9, 16.1, 447.0, 500.0, 1e-4]])
    nearest = np.array([[1.0, 1.125, -1.125, 16.0, 16.0, 448.0, 448.0, 0.0]])
    other = other_neighbours(exact, nearest, E4M3)
    assert other.tolist() == [[1.0, 1.0, -1.0, 15.0, 18.0, 416.0, 448.0, 2.0**-9]]


def graph(**attributes: object) -> onnx.ModelProto:
    """Three convolutions, so that the one between is neither the first nor the last."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (3, 8, 3, 3)}
    shapes["w2"] = (8, 8 // int(str(attributes.get("group", 1))), 3, 3)
    weights = [numpy_helper.from_array(rng.normal(0.02, 0.2, shape).astype("f"), n) for n, shape in shapes.items()]
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["a"], "first/Conv", **same),
        helper.make_node("Relu", ["a"], ["b"], "first/Relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "middle/Conv", **(same | attributes)),
        helper.make_node("Conv", ["c", "w3"], ["restored"], "last/Conv", **same),
    ]
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(nodes, "g", [value("input", TensorProto.FLOAT, [1, 3, 16, 20])],
                          [value("restored", TensorProto.FLOAT, None)], weights),
        opset_imports=[helper.make_opsetid("", 20)], ir_version=10,
    )  # fmt: skip
    return onnx.shape_inference.infer_shapes(model)


FRAMES = [np.random.default_rng(k).uniform(-0.5, 0.5, (1, 3, 16, 20)).astype("f") for k in range(4)]


def quantised(model: onnx.ModelProto, form: Form = OPENVINO) -> QuantisedGraph:
    names = tensors_to_measure(model, form)
    seen = [WrittenGraph(model, names).run(frame) for frame in FRAMES]
    ends = {n: Range(min(float(s[n].min()) for s in seen), max(float(s[n].max()) for s in seen)) for n in names}
    return quantise(model, Ranges("minmax", ends), form)


def error(model: onnx.ModelProto, other: onnx.ModelProto, frames: list[np.ndarray]) -> float:
    """Mean squared difference of the middle convolution's result."""
    a, b = (WrittenGraph(m, ["c"]) for m in (model, other))
    return float(np.mean([(a.output(frame) - b.output(frame)) ** 2 for frame in frames]))


@pytest.mark.parametrize("form", [OPENVINO, TENSORRT_RTX, replace(FP8, narrowest=1)], ids=lambda form: form.name)
@pytest.mark.parametrize(
    "attributes",
    [{}, {"dilations": [2, 2], "pads": [2, 1, 2, 3]}, {"strides": [2, 1]}, {"group": 2}, {"group": 8}],
    ids=str,
)
def test_the_result_comes_nearer(form: Form, attributes: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """On frames that the rounding has not seen, and by what it says of itself: a patch read wrongly would not."""
    model = graph(**attributes)
    before = quantised(model, form)
    (convolution,) = before.convolutions
    repaired = round_adaptively(model, before, FRAMES)
    fresh = [np.random.default_rng(k).uniform(-0.5, 0.5, (1, 3, 16, 20)).astype("f") for k in range(50, 54)]
    exact = replace(before, model=_float_maps(before.model, model))
    told = repaired.gains_db[convolution.name]
    assert told > 1
    narrow = [error(model, _float_maps(made.model, model), fresh) for made in (exact, repaired.graph)]
    assert 10 * np.log10(narrow[0] / narrow[1]) == pytest.approx(told, abs=1.0)
    tensors = zip(before.model.graph.initializer, repaired.graph.model.graph.initializer, strict=True)
    changed = {one.name for one, other in tensors if one != other}
    assert changed == {convolution.weight}
    assert round_adaptively(model, before, FRAMES).graph.model == repaired.graph.model
    # Frames that are too large to be held side by side come one by one, for some matrices at a time.
    monkeypatch.setattr("unblur.calibration.repairs.rounding.HELD_PIXELS", 0)
    monkeypatch.setattr("unblur.calibration.repairs.rounding.MEMORY_BYTES", 1)
    assert round_adaptively(model, before, FRAMES).weights.keys() == repaired.weights.keys()
    for name, weight in round_adaptively(model, before, FRAMES).weights.items():
        assert (weight == repaired.weights[name]).mean() > 0.99  # another order of sums


def _float_maps(made: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """The quantised graph with its maps left alone, so that only the weights' rounding is seen."""
    found = onnx.ModelProto()
    found.CopyFrom(made)
    for node in found.graph.node:
        if node.op_type == "Conv":
            source = next(n for n in model.graph.node if n.name == node.name)
            node.input[0] = source.input[0]
    return found


def test_what_it_cannot_do_it_says(tmp_path: Path) -> None:
    model = graph()
    with pytest.raises(InputError, match="at least one calibration frame"):
        round_adaptively(model, quantised(model), [])
    shared = graph()
    shared.graph.node[2].attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    with pytest.raises(InputError, match="suits no convolution of the graph: middle/Conv is transposed or pads"):
        round_adaptively(shared, quantised(model), FRAMES)


def doubled() -> onnx.ModelProto:
    """The convolution between twice, one behind the other, of one weight."""
    model = graph()
    again = helper.make_node("Conv", ["c", "w2"], ["d"], "again/Conv", pads=[1, 1, 1, 1])
    model.graph.node.insert(3, again)
    model.graph.node[4].input[0] = "d"
    return onnx.shape_inference.infer_shapes(model)


def test_a_weight_that_is_shared_suits_all_its_readers_together() -> None:
    """Its matrix is the sum of theirs, so the errors of both results together are what becomes smaller."""
    model = doubled()
    before = quantised(model)
    assert [c.name for c in before.convolutions] == ["middle/Conv", "again/Conv"]
    repaired = round_adaptively(model, before, FRAMES)
    assert repaired.gains_db["middle/Conv"] == repaired.gains_db["again/Conv"] > 1
    one = round_adaptively(model, replace(before, convolutions=before.convolutions[1:]), FRAMES)
    errors = [shared_error(model, made, FRAMES) for made in (repaired.graph, one.graph, before)]
    assert errors == sorted(errors), "all readers, one of them, none"
    assert 10 * np.log10(errors[2] / errors[0]) == pytest.approx(repaired.gains_db["middle/Conv"], abs=0.2)


def shared_error(model: onnx.ModelProto, made: QuantisedGraph, frames: list[np.ndarray]) -> float:
    """Squares of what the shared weight's rounding adds to both results, where both read the exact maps."""
    stored = {t.name: numpy_helper.to_array(t) for t in (*model.graph.initializer, *made.model.graph.initializer)}
    convolution = made.convolutions[0]
    steps = np.asarray(convolution.weight_scales).reshape(-1, 1, 1, 1)
    wrong = torch.from_numpy(stored[convolution.weight] * steps - stored["w2"])
    maps = [values for frame in frames for values in WrittenGraph(model, ["b", "c"]).run(frame).values()]
    found = [torch.nn.functional.conv2d(torch.from_numpy(values).double(), wrong, padding=1) for values in maps]
    return sum(float(result.square().mean()) for result in found)


def test_readers_of_a_weight_in_other_groups_leave_it_as_it_is() -> None:
    model = graph(group=2)
    again = helper.make_node("Conv", ["c", "w2"], ["d"], "again/Conv", pads=[1, 1, 1, 1], group=2)
    model.graph.node.insert(3, again)
    model.graph.node[4].input[0] = "d"
    before = quantised(onnx.shape_inference.infer_shapes(model))
    assert round_adaptively(model, before, FRAMES).gains_db.keys() == {"middle/Conv", "again/Conv"}
    again = model.graph.node[3]
    next(a for a in again.attribute if a.name == "group").i = 4
    assert unsuited(model, before).keys() == {"middle/Conv", "again/Conv"}


class Said(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_one_that_is_not_suited_leaves_the_others_theirs() -> None:
    model = doubled()
    own = numpy_helper.from_array(numpy_helper.to_array(model.graph.initializer[1]) + np.float32(0.01), "w4")
    model.graph.initializer.append(own)
    model.graph.node[3].input[1] = "w4"
    before = quantised(model)
    model.graph.node[3].attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    progress = Said()
    repaired = round_adaptively(model, before, FRAMES, progress=progress)
    assert repaired.gains_db.keys() == {"middle/Conv"}
    assert progress.notes == [
        "adaptive rounding leaves 1 of 2 convolutions as they are: again/Conv is transposed or pads by itself"
    ]
