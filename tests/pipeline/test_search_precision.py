"""The search on a real, tiny network: real graphs, scores from the engines, costs from clock and compiler."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest

from unblur.calibration.forms import find_form
from unblur.calibration.ranges import Range, Ranges
from unblur.calibration.search import Budget
from unblur.compare.frames import FrameFile, find_frames
from unblur.core.errors import InputError
from unblur.engines.written_graph import WrittenGraph
from unblur.images.contract import PixelContract
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline import search_precision as module
from unblur.pipeline.search_precision import Question, search_precision

SIZE = (48, 64)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[FrameFile]:
    folder = tmp_path_factory.mktemp("frames")
    for name, frame in zip(("blurred", "sharp"), synthetic_pair(1, *SIZE, "heldout"), strict=True):
        (folder / name).mkdir()
        write_picture(folder / name / "0.png", Picture(frame), frame)
    return find_frames(folder / "blurred", folder / "sharp")


@pytest.fixture(scope="module")
def ranges(fixed_graph: Path) -> Callable[[Sequence[str]], Ranges]:
    model, contract = onnx.load(fixed_graph), PixelContract()

    def measure(tensors: Sequence[str]) -> Ranges:
        values = WrittenGraph(model, tensors).run(contract.encode(synthetic_pair(7, *SIZE, "train")[0]))
        return Ranges("min-max", {name: Range(float(v.min()), float(v.max())) for name, v in values.items()})

    return measure


def question(engine: str = "onnxruntime", form: str = "onnxruntime", **others: object) -> Question:
    given = {"objective": "macs", "budget": Budget(None, 45.0), "form": find_form(form)} | others
    return Question(engine, **given)  # type: ignore[arg-type]


def test_it_finds_an_assignment_within_the_budget_that_its_recipe_repeats(
    tiny: Checkpoint, fixed_graph: Path, frames: list[FrameFile], ranges: Callable[[Sequence[str]], Ranges],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked = question()
    report = search_precision(asked, tiny, fixed_graph, ranges, frames, tmp_path, threads=1)
    chosen = report.result.chosen
    assert chosen.fidelity_db >= 45.0
    assert 0 < chosen.share <= 1
    assert chosen.cost < report.result.points[0].cost
    assert (tmp_path / "report.html").stat().st_size > 1000
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["recipe"]["checkpoint_sha256"] == tiny.digest
    # The point again, from its assignment alone, without the ledger: the same decibels.
    bench = module._Bench(asked, tiny, onnx.load(fixed_graph), module.find_groups(onnx.load(fixed_graph), asked.form),
                          ranges(_all_tensors(fixed_graph, asked)), frames, 1)  # fmt: skip
    assert bench.score(values["chosen"]["assignment"]).fidelity_db == pytest.approx(chosen.fidelity_db, abs=1e-6)
    bench.close()
    # A second search asks nothing of an engine.
    monkeypatch.setattr(module._Bench, "score", lambda *_: pytest.fail("scored again"))
    again = search_precision(asked, tiny, fixed_graph, ranges, frames, tmp_path, threads=1)
    assert again.result == report.result


def _all_tensors(graph: Path, asked: Question) -> tuple[str, ...]:
    model = onnx.load(graph)
    groups = module.find_groups(model, asked.form)
    keep = module.kept_convolutions(model, asked.form, groups, frozenset(group.name for group in groups))
    return module.tensors_to_measure(model, asked.form, keep)


def test_latency_is_measured_on_the_engine(
    tiny: Checkpoint, fixed_graph: Path, frames: list[FrameFile], ranges: Callable[[Sequence[str]], Ranges],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    opened: list[str] = []
    real = module.open_engine
    monkeypatch.setattr(module, "open_engine", lambda name, *rest: opened.append(name) or real(name, *rest))  # type: ignore[func-returns-value]
    asked = question("openvino", "openvino", objective="latency", budget=Budget(None, 70.0))
    report = search_precision(asked, tiny, fixed_graph, ranges, frames, tmp_path, threads=1)
    assert set(opened) == {"openvino"}
    assert all(point.cost > 0 for point in report.result.points)
    assert "ms a frame (openvino" in report.unit


@pytest.mark.tensorrt_rtx
def test_of_a_compiled_engine_the_bytes_are_those_of_the_xray(
    tiny: Checkpoint, fixed_graph: Path, frames: list[FrameFile], ranges: Callable[[Sequence[str]], Ranges],
    tmp_path: Path,
) -> None:  # fmt: skip
    asked = question("tensorrt-rtx", "tensorrt-rtx", objective="bytes", budget=Budget(None, 40.0))
    report = search_precision(asked, tiny, fixed_graph, ranges, frames, tmp_path, threads=1)
    assert {bits for point in report.result.points for bits in point.assignment.values()} == {8, 16}
    assert all(0 < point.cost < 0.1 for point in report.result.points)  # GB of a 48x64 frame
    assert report.result.chosen.cost == min(point.cost for point in report.result.points if point.allowed)


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(InputError, match="runs for onnxruntime, openvino, tensorrt-rtx; got 'torch'"):
        question("torch")
    with pytest.raises(InputError, match="Bytes are read from the X-ray"):
        question(objective="bytes")
