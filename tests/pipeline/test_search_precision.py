"""The search on a real, tiny network: real graphs, scores from the engines, costs from clock and compiler."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from pixels import BGR

from unblur.calibration.score import HeldOut, Judge
from unblur.calibration.search.ledger import Ledger
from unblur.calibration.search.page import SearchReport
from unblur.calibration.search.search import Budget
from unblur.core.errors import BudgetError, InputError
from unblur.engines.catalogue import open_engine
from unblur.graphs.facts import CONVOLUTIONS
from unblur.graphs.file import read_graph
from unblur.graphs.rewrites.emulation import widen
from unblur.graphs.rewrites.forms import find_form
from unblur.graphs.rewrites.keeping import kept
from unblur.graphs.rewrites.quantise import tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.graphs.sessions import WrittenGraph
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.stopwatch import Protocol
from unblur.networks.checkpoints import Checkpoint, load_checkpoint
from unblur.pipeline import search_bench
from unblur.pipeline.job import read_keep
from unblur.pipeline.making import graph as graphs
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.search_bench import Assignments, Bench, Question
from unblur.pipeline.search_precision import KEEP, RANGES, Calibrated, search_precision, write_point
from unblur.pipeline.store import Store

SIZE = (48, 64)
ABOUT = {"algorithm": "min-max", "repairs": [], "frames": 1, "manifest": "m.toml", "overlaps_with_evaluation": []}
FRAMES = [HeldOut(*synthetic_pair(1, *SIZE, "heldout"))]


@pytest.fixture(scope="module", autouse=True)
def exported_once(fixed_graph: Path) -> Iterator[None]:
    """The store takes the graph that all tests share; exporting it takes seconds, and has tests of its own."""

    def copy(_: Checkpoint, path: Path, *, height: int, width: int, **others: object) -> None:
        assert (height, width) == (48, 64), others
        shutil.copy(fixed_graph, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "export_graph", copy)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def graph(store: Store, tiny: Checkpoint) -> Path:
    return stored_graph(store, tiny, SIZE).path


@pytest.fixture(scope="module")
def ranges(graph: Path) -> Callable[[str], Calibrated]:
    """Of the largest and smallest values of one frame, for a form."""
    model, contract = onnx.load(graph), BGR

    def measure(form: str) -> Calibrated:
        tensors = tensors_to_measure(model, find_form(form), {})
        values = WrittenGraph(model, tensors).run(contract.encode(synthetic_pair(7, *SIZE, "train")[0]))
        found = {name: Range(float(v.min()), float(v.max())) for name, v in values.items()}
        return Calibrated(Ranges("min-max", found), ABOUT)

    return measure


def question(engine: str = "onnxruntime", form: str = "", **others: object) -> Question:
    given = {"objective": "macs", "budget": Budget(None, 45.0), "form": find_form(form or engine)} | others
    return Question(engine, **given)  # type: ignore[arg-type]


Search = Callable[[Question, Path], SearchReport]


@pytest.fixture(scope="module")
def search(tiny: Checkpoint, store: Store, ranges: Callable[[str], Calibrated]) -> Search:
    return lambda asked, folder: search_precision(
        asked, store, tiny, SIZE, ranges(asked.form.name), FRAMES, folder, threads=1
    )


@pytest.fixture(scope="module")
def folder(search: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search for ONNX Runtime, by multiply-accumulates."""
    place = tmp_path_factory.mktemp("search")
    search(question(), place)
    return place


def test_it_finds_a_cheaper_assignment_within_the_budget(folder: Path, tiny: Checkpoint) -> None:
    report = json.loads((folder / "report.json").read_text())
    points = {point["number"]: point for point in report["points"]}
    chosen, widest = points[report["chosen"]], points[report["widest"]]
    assert chosen["fidelity_db"] >= 45.0
    assert 0 < chosen["share"] < 1
    assert chosen["cost"] < widest["cost"]
    assert widest["share"] == 0
    assert report["recipe"]["checkpoint_sha256"] == tiny.digest
    assert "onnxruntime runs" in report["notes"][1]
    assert (folder / "report.html").stat().st_size > 1000


def test_every_point_is_written_again_and_scores_what_the_report_says(
    folder: Path, tiny: Checkpoint, graph: Path, store: Store, tmp_path: Path
) -> None:
    judge = Judge(graph, FRAMES)
    report = json.loads((folder / "report.json").read_text())
    assert report["front"]
    for number in sorted({*report["front"], report["chosen"]}, reverse=True):  # the last has the most in 8 bits
        point = report["points"][number - 1]
        path = write_point(folder, number, store, tiny, tmp_path / f"{number}.onnx")
        with open_engine("onnxruntime", tiny, path, 1) as runner:
            score = judge.compare(runner.run(tensor) for tensor in judge.inputs)
        assert min(score.fidelity_db_mean, search_bench.EXACT_DB) == pytest.approx(point["fidelity_db"], abs=1e-4)
        assert score.psnr_loss_db == pytest.approx(point["psnr_loss_db"], abs=1e-6)
    assert read_graph(path).calibration == "min-max, on 1 frames of m.toml"
    kept_wide = kept(onnx.load(graph), find_form("onnxruntime"), read_keep([str(folder / KEEP)]))
    chosen = onnx.load(tmp_path / f"{report['chosen']}.onnx")
    weights = {node.name: node.input[1] for node in chosen.graph.node if node.op_type in CONVOLUTIONS}
    assert set(kept_wide) == {name for name, weight in weights.items() if not weight.endswith("/dequantised")}
    narrow = [report["points"][number - 1]["fidelity_db"] for number in report["front"]]
    assert len({round(db, 3) for db in narrow}) == len(narrow) > 1  # so that another point's graph would be noticed


def test_another_budget_asks_the_engine_little_and_the_same_one_nothing(
    search: Search, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "again")
    calls: list[object] = []
    real = Bench.score
    monkeypatch.setattr(Bench, "score", lambda self, assignment: calls.append(1) or real(self, assignment))
    search(question(), tmp_path / "again")
    assert not calls
    report = search(question(budget=Budget(None, 50.0)), tmp_path / "again")
    assert len(calls) < len(report.result.sensitivities)
    assert report.result.chosen.fidelity_db >= 50.0


@pytest.fixture
def few_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilers take a second for each assignment: decide on every tenth group."""
    real = search_bench.find_groups
    monkeypatch.setattr(search_bench, "find_groups", lambda *given: real(*given)[::10])


@pytest.mark.usefixtures("few_groups")
def test_latency_is_measured_on_the_engine(search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = search_bench.open_engine
    monkeypatch.setattr(search_bench, "QUICK", Protocol(rounds=2, warmup_rounds_max=1, warmup_s_max=1.0))
    monkeypatch.setattr(search_bench, "ROUNDS_MAX", 2)
    monkeypatch.setattr(search_bench, "open_engine", lambda name, *rest: opened.append(name) or real(name, *rest))  # type: ignore[func-returns-value]
    report = search(question("openvino", objective="latency", budget=Budget(None, 70.0)), tmp_path)
    assert set(opened) == {"openvino"}
    assert all(point.cost > 0 for point in report.result.points)
    assert "ms a frame (openvino" in report.unit
    # Prices of a killed search are scaled with what the widest graph took then, not with what it takes today.
    (ledger,) = tmp_path.glob("ledger-*.jsonl")
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    kept = {entry["key"]: entry["value"] for entry in entries if "score" in entry["key"] or "widest" in entry["key"]}
    assert len(kept) < len(entries)
    ledger.unlink()
    for key, value in kept.items():
        Ledger(ledger).get(key, lambda key=key, value=value: 1e6 if "of the widest" in key else value)  # type: ignore[misc]
    again = search(question("openvino", objective="latency", budget=Budget(None, 70.0)), tmp_path)
    assert again.result.widest.cost > 100_000


@pytest.mark.tensorrt_rtx
@pytest.mark.usefixtures("few_groups")
def test_of_a_compiled_engine_the_bytes_are_those_of_the_xray(
    search: Search, tiny: Checkpoint, graph: Path, store: Store, tmp_path: Path
) -> None:
    report = search(question("tensorrt-rtx", objective="bytes", budget=Budget(None, 40.0)), tmp_path)
    points, chosen = report.result.points, report.result.chosen
    assert {bits for point in points for bits in point.assignment.values()} == {8, 16}
    assert all(0 < point.cost < 0.1 for point in points)  # GB of a 48x64 frame
    assert chosen.cost == min(point.cost for point in points if point.allowed)
    assert report.result.widest.fidelity_db < 110  # FP16 is not float32
    # The graph of a point is FP16 around its 8 bits, and what was scored.
    eight = max(points, key=lambda point: point.share)
    model = onnx.load(write_point(tmp_path, eight.number, store, tiny, tmp_path / "point.onnx"))
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8} <= kinds
    score = Judge(graph, FRAMES).score(widen(model, "fp16"), exact=True)
    assert score.fidelity_db_mean == pytest.approx(eight.fidelity_db, abs=1e-4)


def test_groups_of_32_bits_stay_float_in_a_16_bit_graph(graph: Path, ranges: Callable[[str], Calibrated]) -> None:
    form = find_form("tensorrt-rtx")
    made = Assignments(onnx.load(graph), form, ranges(form.name).ranges, cast_to_fp16=True)
    assignment = {group.name: (16, 32)[k % 2] for k, group in enumerate(made.groups)}
    model = made.graph(assignment)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    weights = {node.name: kinds[node.input[1]] for node in model.graph.node if node.op_type == "Conv"}
    for group in made.groups:
        wanted = onnx.TensorProto.FLOAT if assignment[group.name] == 32 else onnx.TensorProto.FLOAT16
        assert {weights[name] for name in group.convolutions} == {wanted}, group.name


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(InputError, match="runs for openvino, onnxruntime, tensorrt-rtx; got 'torch'"):
        question("torch", "openvino")
    with pytest.raises(InputError, match="Bytes are read from the X-ray"):
        question(objective="bytes")
    with pytest.raises(InputError, match="openvino does not run form tensorrt in 8 bits; take openvino or onnxruntime"):
        question("openvino", "tensorrt")
    with pytest.raises(InputError, match="RTX 3090 has no FP8"):
        question("tensorrt-rtx", "fp8", gpu="RTX 3090")
    with pytest.raises(InputError, match="computes what is not 8 bits in float32"):
        question(levels=(8, 16))


def test_a_budget_that_cannot_be_met_says_what_can(search: Search, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"keeps 1\d\d\.\d dB and loses .* the budget cannot be met"):
        search(question("openvino", budget=Budget(None, 199.0)), tmp_path)
    assert not (tmp_path / "report.json").exists()


def test_frames_must_fit_the_budget_and_the_graph(
    tiny: Checkpoint, store: Store, ranges: Callable[[str], Calibrated], tmp_path: Path
) -> None:
    blind = [*FRAMES, HeldOut(FRAMES[0].frame)]
    given = (store, tiny, SIZE, ranges("onnxruntime"))
    with pytest.raises(InputError, match="not every frame has a truth"):
        search_precision(question(budget=Budget(0.02)), *given, blind, tmp_path)
    with pytest.raises(InputError, match="built for 48x64"):
        search_precision(question(), *given, [HeldOut(FRAMES[0].frame[:32])], tmp_path)


def test_a_point_is_only_written_from_what_it_was_found_with(
    folder: Path, tiny: Checkpoint, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "point.onnx"
    with pytest.raises(InputError, match=r"has the points 1 to \d+, not 99"):
        write_point(folder, 99, store, tiny, output)
    with pytest.raises(InputError, match="cannot be read"):
        write_point(tmp_path, 1, store, tiny, output)
    other = load_checkpoint(Path(__file__).parents[2] / "checkpoints" / "banet-nano.safetensors")
    with pytest.raises(InputError, match="is another"):
        write_point(folder, 1, store, other, output)
    rgb = replace(tiny, contract=replace(tiny.contract, channel_order="rgb"))
    with pytest.raises(InputError, match="trained on bgr; say --channel-order"):
        write_point(folder, 1, store, rgb, output)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    values = json.loads((copy / RANGES).read_text())
    name = next(iter(values["ranges"]))
    values["ranges"][name][1] += 1.0
    (copy / RANGES).write_text(json.dumps(values))
    with pytest.raises(InputError, match="not what the report was made with"):
        write_point(copy, 1, store, tiny, output)
    report = json.loads((folder / "report.json").read_text())
    report["recipe"]["form"]["per_channel"] = False
    shutil.copy(folder / RANGES, copy / RANGES)
    (copy / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match="writes form onnxruntime differently"):
        write_point(copy, 1, store, tiny, output)
    (copy / "report.json").write_text("[]")
    with pytest.raises(InputError, match="not the report of a search"):
        write_point(copy, 1, store, tiny, output)
    assert not output.exists()
