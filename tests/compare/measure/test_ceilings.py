"""The measured roofline: that it is of the precision it says, and that rates are arithmetic of what was measured."""

import onnx
import pytest
from onnx import helper

from unblur.compare.measure import ceilings
from unblur.compare.measure.ceilings import Load, measure_ceilings, rates_of
from unblur.compare.tell.rates import ceiling_lines, rate_rows
from unblur.compare.timing import Ceilings, LatencyResult, Peak
from unblur.graphs.facts import read_facts
from unblur.metrics.quantiles import Ratio, Summary

SMALL = Load(side=32, channels=8, map=8, layers=2, numbers=1000)


def latency(precision: str, ms: float) -> LatencyResult:
    about = {"precision": precision, "device": "cpu", "threads": "1"}
    ratio = Ratio(1.0, 1.0, 1.0, 0.95)
    return LatencyResult(description=about, summary=Summary(1, ms, ms, ms, ms, ms, 0.0), speedup=ratio, warmed_up=True)


def convolution() -> onnx.ModelProto:
    """8 channels of 10x20 to 4 by 3x3."""
    shapes = {"x": (1, 8, 10, 20), "w": (4, 8, 3, 3), "y": (1, 4, 10, 20)}
    values = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "g", [values["x"], values["w"]], [values["y"]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_rates_are_of_the_graph_and_of_the_precision() -> None:
    facts = read_facts(convolution(), 10, 20)
    assert facts.macs == 4 * 8 * 9 * 200
    assert facts.elements == 8 * 200 + 4 * 8 * 9 + 4 * 200
    peaks = tuple(Peak(precision=name, tera_per_s=top, by="?") for name, top in (("f32", 1e-6), ("int8", 4e-6)))
    most = Ceilings(device="cpu", threads=1, peaks=peaks, memory_gb_s=0.001, load=9.0)
    wide = rates_of(latency("f32", 1000.0), facts, most)
    assert wide.tera_per_s == pytest.approx(2 * facts.macs / 1e12)
    assert wide.share == pytest.approx(2 * facts.macs / 1e6)
    assert wide.gb_s == pytest.approx(4 * facts.elements / 1e9)
    assert wide.memory_share == pytest.approx(4 * facts.elements / 1e6)
    eight = rates_of(latency("f32+int8", 500.0), facts, most)
    assert eight.precision == "int8"
    assert eight.share == pytest.approx(wide.share / 2)
    assert eight.gb_s == pytest.approx(wide.gb_s / 2)
    assert rates_of(latency("bf16", 500.0), facts, most).share is None
    rows = rate_rows({"a": wide, "b": None})
    assert [row["name"] for row in rows] == ["a"]
    assert any("too low" in line for line in ceiling_lines([most], 1))
    assert not any("too low" in line for line in ceiling_lines([most], 16))


def test_every_precision_is_measured_by_something_that_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure_ceilings(1, load=SMALL)
    assert found.peak("f32") is not None
    assert all(peak.tera_per_s > 0 for peak in found.peaks)
    assert found.memory_gb_s > 0
    openvino = pytest.importorskip("unblur.engines.openvino_runner")
    pytest.importorskip("openvino")
    assert found.peak("int8") is not None
    # An OpenVINO that widens what it was given would be measured for what it is not.
    monkeypatch.setattr(openvino, "convolution_precisions", lambda compiled: {"f32": 2})
    assert {name for name, _ in ceilings._convolutions(1, SMALL)} == {"f32"}
