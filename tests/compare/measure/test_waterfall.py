"""Each step of a waterfall costs what was put into it, and what cannot be run is told."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from small_frames import save_frame

from unblur.compare.candidates import Candidate
from unblur.compare.comparison import Settings, compare_engines
from unblur.compare.measure.frames import find_frames
from unblur.compare.measure.waterfall import Graphs
from unblur.compare.parts import Waterfall
from unblur.compare.report import Report
from unblur.compare.tell.page import render_page
from unblur.compare.tell.waterfall import bars_of, costliest, waterfall_lines
from unblur.compare.tell.write import render_markdown
from unblur.engines.catalogue import open_engine
from unblur.graphs.rewrites.casting import cast_graph
from unblur.graphs.rewrites.forms import find_form
from unblur.graphs.rewrites.quantise import quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.metrics.decibels import decibels_to_json
from unblur.networks.checkpoints import Checkpoint

SETTINGS = Settings(threads=1, protocol=None, pictures=1, waterfall=True)


def _eight(model: onnx.ModelProto, path: Path) -> Path:
    """8 bits with a range of 2 for every map: coarse enough to be seen."""
    form = find_form("onnxruntime")
    ranges = Ranges("test", {name: Range(-1.0, 1.0) for name in tensors_to_measure(model, form)})
    onnx.save(quantise(model, ranges, form).model, path)
    return path


def _candidate(name: str, tiny: Checkpoint, runs: Path, graphs: Graphs) -> Candidate:
    return Candidate(name, lambda _: open_engine("onnxruntime", tiny, runs, 1), graphs=lambda _: graphs)


@pytest.fixture(scope="module")
def report(tiny: Checkpoint, fixed_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("waterfall")
    for seed in range(6):
        save_frame(folder / "blurred" / f"{seed}.png", 48, 64, seed)
    model = onnx.load(fixed_graph)
    onnx.save(cast_graph(model, "fp16").model, folder / "fp16.onnx")
    eight = _eight(model, folder / "int8.onnx")
    engines = [
        _candidate("float", tiny, fixed_graph, Graphs(fixed_graph, fixed_graph)),
        _candidate("half", tiny, folder / "fp16.onnx", Graphs(fixed_graph, folder / "fp16.onnx")),
        _candidate("bf16 in the engine", tiny, fixed_graph, Graphs(fixed_graph, fixed_graph, "bf16")),
        _candidate("eight", tiny, eight, Graphs(fixed_graph, eight)),
        _candidate("lost", tiny, eight, Graphs(fixed_graph, fixed_graph)),
        _candidate("no graph", tiny, fixed_graph, Graphs(folder / "none.onnx", fixed_graph)),
        Candidate("twin", lambda _: open_engine("torch", tiny, None, 1)),
    ]
    return compare_engines(tiny, engines, find_frames(folder / "blurred"), SETTINGS)


def _fall(report: Report, name: str) -> Waterfall:
    fall = next(engine.waterfall for engine in report.engines if engine.name == name)
    assert fall is not None
    return fall


def test_only_the_steps_of_an_engine_are_there(report: Report) -> None:
    names = {e.name: [s.name for s in e.waterfall.steps] for e in report.engines if e.waterfall}
    assert names == {
        "float": ["exact graph", "engine"],
        "half": ["exact graph", "fp16 graph", "engine"],
        "bf16 in the engine": ["exact graph", "bf16 graph", "engine"],
        "eight": ["exact graph", "8-bit graph", "engine"],
        "lost": ["exact graph", "engine"],
        "no graph": ["engine"],
        "twin": ["engine"],
    }
    assert _fall(report, "float").frames == 4  # of six
    assert "none.onnx" in _fall(report, "no graph").missing
    assert report.engines[0].waterfall is None  # the reference


def test_the_step_that_a_fault_was_put_into_costs_most(report: Report) -> None:
    assert costliest(_fall(report, "float")) is None
    assert costliest(_fall(report, "twin")) is None
    assert _fall(report, "twin").steps[0].fidelity_db == math.inf
    for name, step in (
        ("half", "fp16 graph"), ("bf16 in the engine", "bf16 graph"), ("eight", "8-bit graph"), ("lost", "engine"),
    ):  # fmt: skip
        cost = costliest(_fall(report, name))
        assert cost is not None
        assert cost.name == step, name
    half, eight, lost = (_fall(report, name).steps for name in ("half", "eight", "lost"))
    assert eight[1].fidelity_db < half[1].fidelity_db < half[0].fidelity_db
    assert lost[1].fidelity_db == pytest.approx(eight[2].fidelity_db, abs=1e-6)  # the same engine
    for fall in (half, eight):  # the way there is no longer than its steps together, nor shorter than their difference
        first, second, third = (10 ** (-step.alone_db / 20) for step in fall)
        whole = 10 ** (-fall[-1].fidelity_db / 20)
        assert second - third - first <= whole * 1.001 <= (first + second + third) * 1.002


def test_it_is_told_in_every_form(report: Report) -> None:
    lines = waterfall_lines(report)
    assert len(lines) == 7
    eight = next(line for line in lines if line.startswith("eight: "))
    assert eight.endswith("the 8-bit graph costs most")
    assert "## Where decibels are lost" in render_markdown(report)
    page = render_page(report)
    assert page.count("<rect class=") == sum(len(chart.bars) for chart in bars_of(report))
    assert page.count('class="bar cost"') == 4
    read = Report.model_validate(report.to_json())
    assert [e.waterfall for e in read.engines] == [e.waterfall for e in report.engines]
    assert decibels_to_json(_fall(read, "twin").steps[0].alone_db) == "Infinity"


def test_large_frames_are_cut_or_run_whole(tiny: Checkpoint, dynamic_graph: Path, tmp_path: Path) -> None:
    """300 rows of 24: cut to 256 for an engine of every size or one that opens for the crop, else one frame whole."""
    for seed in range(2):
        save_frame(tmp_path / "blurred" / f"{seed}.png", 300, 24, seed)
    asked = []

    def graphs(size: tuple[int, int] | None) -> Graphs:
        asked.append(size)
        return Graphs(dynamic_graph, dynamic_graph)

    fixed = tmp_path / "fixed.onnx"
    model = onnx.load(dynamic_graph)
    for value in (*model.graph.input, *model.graph.output):
        for dim, side in zip(value.type.tensor_type.shape.dim[2:], (300, 24), strict=True):
            dim.dim_value = side
    onnx.save(model, fixed)
    engines = [
        Candidate("every", lambda _: open_engine("onnxruntime", tiny, dynamic_graph, 1), graphs=graphs),
        Candidate("only", lambda _: open_engine("onnxruntime", tiny, fixed, 1), graphs=graphs),
        Candidate(
            "refits",
            lambda size: open_engine("onnxruntime", tiny, fixed if size == (300, 24) else dynamic_graph, 1),
            graphs=graphs,
            refits=True,
        ),
    ]
    report = compare_engines(tiny, engines, find_frames(tmp_path / "blurred"), SETTINGS)
    falls = {name: _fall(report, name) for name in ("every", "only", "refits")}
    assert {name: (fall.frames, fall.height, fall.width) for name, fall in falls.items()} == {
        "every": (2, 256, 24), "only": (1, 300, 24), "refits": (2, 256, 24),
    }  # fmt: skip
    assert asked == [(256, 24), (300, 24), (256, 24)]
    assert {fall.missing for fall in falls.values()} == {""}


def test_a_wrong_graph_is_no_fault_of_the_engine(tiny: Checkpoint, fixed_graph: Path, tmp_path: Path) -> None:
    """Negative control: one weight is wrong by a hundredth, in the graph alone."""
    save_frame(tmp_path / "blurred" / "a.png", 48, 64)
    model = onnx.load(fixed_graph)
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    weight_error = numpy_helper.to_array(weight).dtype.type(1.01)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * weight_error, weight.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    wrong = _candidate("wrong", tiny, tmp_path / "wrong.onnx", Graphs(tmp_path / "wrong.onnx", tmp_path / "wrong.onnx"))
    report = compare_engines(tiny, [wrong], find_frames(tmp_path / "blurred"), SETTINGS)
    graph, engine = _fall(report, "wrong").steps
    assert graph.fidelity_db < 90
    assert engine.alone_db > 100


def test_a_graph_of_another_size_than_the_frames_costs_its_row(
    tiny: Checkpoint, fixed_graph: Path, dynamic_graph: Path, tmp_path: Path
) -> None:
    save_frame(tmp_path / "blurred" / "a.png", 40, 40)
    eight = _eight(onnx.load(fixed_graph), tmp_path / "int8.onnx")
    other = _candidate("other", tiny, eight, Graphs(dynamic_graph, eight))
    right = _candidate("right", tiny, dynamic_graph, Graphs(dynamic_graph, dynamic_graph))
    report = compare_engines(tiny, [other, right], find_frames(tmp_path / "blurred"), SETTINGS)
    assert "built for 48x64, got 40x40" in _fall(report, "other").missing
    assert _fall(report, "right").steps[-1].fidelity_db > 100
