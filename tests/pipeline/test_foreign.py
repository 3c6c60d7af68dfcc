"""A graph that unblur did not export goes every way that one of its own goes, once its pixels are said."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_machine import FakeMachine
from onnx import TensorProto, helper, numpy_helper

import unblur
from unblur.cli.build_engine import main as build
from unblur.cli.calibrate_network import main as calibrate
from unblur.cli.collect_frames import main as collect
from unblur.cli.compare_engines import main as compare
from unblur.cli.deblur_images import main as deblur
from unblur.cli.search_precision import main as search
from unblur.cli.show_engine import main as xray
from unblur.core.errors import InputError
from unblur.engines.tensorrt.manifest import companions
from unblur.graphs.file import open_graph, read_graph
from unblur.images.contract import parse_contract
from unblur.images.files import Picture, read_picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.pipeline.foreign import open_foreign
from unblur.pipeline.store import Store

SIZE = (48, 64)
CHANNELS = 16


def write_foreign(path: Path, size: tuple[object, object] = ("h", "w")) -> Path:
    """A residual network of three convolutions on RGB in [0, 1], as any exporter could write it: no metadata, nodes
    without names."""
    rng = np.random.default_rng(5)
    shapes = {"a": (CHANNELS, 3, 3, 3), "b": (CHANNELS, CHANNELS, 3, 3), "c": (3, CHANNELS, 3, 3)}
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.3 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    limits = [numpy_helper.from_array(np.float32(value), name) for name, value in (("zero", 0), ("one", 1))]
    nodes = [
        helper.make_node("Conv", ["in", "a"], ["x"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Conv", ["y", "b"], ["z"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["z"], ["v"]),
        helper.make_node("Conv", ["v", "c"], ["w"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["in", "w"], ["sum"]),
        helper.make_node("Clip", ["sum", "zero", "one"], ["out"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, *size]) for name in ("in", "out")]
    graph = helper.make_graph(nodes, "foreign", values[:1], values[1:], [*weights, *limits])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the graph (`foreign.onnx`), a manifest and one blurred picture."""
    (tmp_path / "pipeline.toml").write_text("[compare]\nhang_seconds = 0\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_foreign(tmp_path / "foreign.onnx")
    frame = synthetic_pair(0, *SIZE, "heldout")[0]
    write_picture(tmp_path / "in" / "a.png", Picture(frame), frame)
    return tmp_path


GIVEN = ["--contract", "rgb01"]


def test_deblurring_in_place_of_the_network(place: Path) -> None:
    assert deblur(["in", "out", "--engine", "foreign.onnx", *GIVEN, "--threads", "1"]) == 0
    got, frame = read_picture(place / "out/a.png").frame, read_picture(place / "in/a.png").frame
    with unblur.open_engine("onnxruntime:foreign.onnx", contract="rgb01", threads=1) as runner:
        tensor = (frame.astype(np.float32) / 255).transpose(2, 0, 1)[None]
        expected = np.floor(runner.run(tensor)[0].transpose(1, 2, 0) * 255 + 0.5)
    assert np.abs(got - expected).max() <= 1  # in two backends a half may be rounded the other way
    assert np.abs(got.astype(int) - frame).max() > 1


def test_without_a_contract_it_is_told_how_to_give_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deblur(["in", "out", "--engine", "foreign.onnx"]) == 2
    assert "say it with --contract (such as rgb01" in capsys.readouterr().err
    assert deblur(["in", "out", "--engine", "foreign.onnx", "--contract", "rgb1"]) == 2
    assert "did you mean 'rgb01'" in capsys.readouterr().err
    assert deblur(["in", "out", "--engine", "foreign.onnx", "--contract", "uint8-nhwc"]) == 2
    assert "its pixel contract says one nhwc uint8 frame" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_network_of_multiples_tells_how_to_say_so(
    place: Path, backend: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Down and up again, and added to the frame: a frame of 48x63 comes back as 48x64."""
    halves = [numpy_helper.from_array(np.float32([1, 1, f, f]), n) for n, f in (("down", 0.5), ("up", 2))]
    nodes = [
        helper.make_node("Resize", ["in", "", "down"], ["small"], mode="nearest"),
        helper.make_node("Resize", ["small", "", "up"], ["large"], mode="nearest"),
        helper.make_node("Add", ["in", "large"], ["out"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in ("in", "out")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], halves)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "halves.onnx")
    frame = np.zeros((48, 63, 3), np.uint8)
    write_picture(place / "odd" / "a.png", Picture(frame), frame)
    flags = ["odd", "out", "--engine", f"{backend}:halves.onnx", "--threads", "1"]
    assert deblur([*flags, *GIVEN]) == 2
    assert "If it takes multiples of 8 alone, say so: --contract rgb01/8." in capfd.readouterr().err
    assert deblur([*flags, "--contract", "rgb01/8"]) == 0


def test_comparing_it_with_itself(place: Path) -> None:
    flags = ["--frames", "in", "--reference", "foreign.onnx", *GIVEN, "--no-latency", "--threads", "1"]
    assert compare([*flags, "--engines", "openvino,onnxruntime:foreign.onnx", "--output", "report"]) == 0
    rows = json.loads(Path("report/report.json").read_text())["engines"]
    assert [row["name"] for row in rows] == ["onnxruntime:foreign.onnx", "openvino:foreign.onnx"]
    assert all(row["is_reference"] or row["worst_fidelity_db"] > 100 for row in rows)


def test_calibrating_searching_and_opening_what_came_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect(["synthetic:0", "--count", "2", "--crop", "48x64", "--output", "m.toml"]) == 0
    common = ["--onnx", "foreign.onnx", *GIVEN, "--manifest", "m.toml", "--threads", "1"]
    assert (
        calibrate([*common, "--drawn", "1", "--form", "onnxruntime", "--fidelity-db", "30", "--output", "q.onnx"]) == 0
    )
    made = read_graph(Path("q.onnx"))
    assert (made.signature.contract, made.quantised, made.form) == (parse_contract("rgb01"), 1, "onnxruntime")
    assert made.checkpoint == open_foreign(Path("foreign.onnx"), parse_contract("rgb01")).digest
    assert deblur(["in", "out8", "--engine", "q.onnx", "--threads", "1"]) == 0
    what = ["--engine", "onnxruntime", "--objective", "macs", "--algorithm", "minmax", "--fidelity-db", "30"]
    assert search([*common, *what, "--size", "48x64", "--drawn", "1", "--output", "found"]) == 0
    report = json.loads(Path("found/report.json").read_text())
    point = ["--reproduce", "found", "--point", str(report["chosen"]), "--onnx", "foreign.onnx", *GIVEN]
    assert search([*point, "--output", "point.onnx"]) == 0
    assert read_graph(Path("point.onnx")).signature.contract == parse_contract("rgb01")
    capsys.readouterr()


@pytest.mark.skipif(not importlib.util.find_spec("tensorrt_rtx"), reason="needs the package tensorrt-rtx-cu13")
def test_building_it_and_looking_inside(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_foreign(place / "fixed.onnx", SIZE)
    assert xray(["fixed.onnx", *GIVEN, "--precision", "fp16", "--target", "sm89"]) == 0
    flags = ["--onnx", "fixed.onnx", *GIVEN, "--target", "sm89", "--flavor", "tensorrt-rtx"]
    assert build([*flags, "--fp16", "--output", "f.engine"]) == 0
    manifest = json.loads(companions(place / "f.engine")[1].read_text())
    assert manifest["pixel_contract"] == json.loads(parse_contract("rgb01").to_json())
    assert read_graph(companions(place / "f.engine")[0]).signature.contract == parse_contract("rgb01")
    assert collect(["synthetic:0", "--count", "2", "--crop", "48x64", "--output", "m.toml"]) == 0
    eight = ["--int8", "--manifest", "m.toml", "--psnr-loss-db", "5", "--fidelity-db", "25"]
    assert build([*flags, *eight, "--output", "i.engine"]) == 0
    assert json.loads(companions(place / "i.engine")[1].read_text())["precision"] == "int8"
    capsys.readouterr()


def test_its_own_engine_runs_it_on_a_gpu(place: Path) -> None:
    """The engine of a machine with a fake GPU, from the graph that says its pixels."""
    _, model = open_graph(write_foreign(place / "fixed.onnx", SIZE), None, parse_contract("rgb01"))
    onnx.save(model, "said.onnx")
    machine = FakeMachine("tensorrt-rtx")
    engine = machine.build(Path("said.onnx"), place / "f.engine")
    with machine.installed(), unblur.open_engine(engine.path) as runner:
        assert runner.signature.contract == parse_contract("rgb01")
        assert runner.run(np.zeros((1, 3, *SIZE), np.float32)).max() == 0


def test_a_graph_of_one_size_is_calibrated_at_it_whatever_size_the_project_is_for(place: Path) -> None:
    (place / "pipeline.toml").write_text('[graph]\nsizes = ["32x32"]\n')
    write_foreign(place / "fixed.onnx", SIZE)
    assert collect(["synthetic:0", "--count", "2", "--crop", "48x64", "--output", "m.toml"]) == 0
    flags = ["--onnx", "fixed.onnx", *GIVEN, "--manifest", "m.toml", "--drawn", "1", "--threads", "1"]
    assert calibrate([*flags, "--repair", "--algorithm", "minmax", "--output", "q.onnx"]) == 0
    signature = read_graph(Path("q.onnx")).signature
    assert (signature.height, signature.width) == SIZE


@pytest.mark.parametrize(
    ("kind", "shape", "cure"),
    [
        (TensorProto.FLOAT, [1, 48, 64, 3], "transposes it"),
        (TensorProto.FLOAT16, [1, 3, 48, 64], "export it in float32"),
        (TensorProto.UINT8, [1, 48, 64, 3], "--contract uint8-nhwc"),
        (TensorProto.FLOAT, [1, 1, 48, 64], "takes RGB and gives RGB"),
        (TensorProto.FLOAT, [4, 3, 48, 64], "a batch of one frame"),
    ],
)
def test_a_frame_in_another_layout_is_told_its_own_cure(tmp_path: Path, kind: int, shape: list[int], cure: str) -> None:
    values = [helper.make_tensor_value_info(name, kind, shape) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Identity", ["in"], ["out"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, ir_version=10), tmp_path / "g.onnx")
    with pytest.raises(InputError, match=f"'in' is .*; .*{cure}"):
        read_graph(tmp_path / "g.onnx", None, parse_contract("rgb01"))


def test_what_it_cannot_be_asked_for(place: Path) -> None:
    write_foreign(place / "fixed.onnx", SIZE)
    fixed, every = (open_foreign(Path(name), parse_contract("rgb01")) for name in ("fixed.onnx", "foreign.onnx"))
    store = Store(place / "artifacts")
    with pytest.raises(InputError, match="takes frames of 48x64, and a graph for 32x32 is asked for"):
        fixed.stored(store, (32, 32))
    with pytest.raises(InputError, match="takes rgb01, which cannot be chosen: leave out --pixels"):
        every.stored(store, None, "uint8")
    names = [node.name for node in onnx.load(every.stored(store, SIZE).path).graph.node]
    assert len(set(names)) == len(names) == 7
    assert "" not in names
    assert every.stored(store, None).digest != every.stored(store, SIZE).digest
    write_foreign(place / "half.onnx", (48, "w"))
    with pytest.raises(InputError, match="fixes only one of height and width"):
        open_foreign(Path("half.onnx"), parse_contract("rgb01"))
    for flags, words in (
        (["--onnx", "foreign.onnx", "--checkpoint", "c.pth", *GIVEN], "takes the place of --checkpoint"),
        (GIVEN, "name it with --onnx FILE"),
    ):
        assert calibrate([*flags, "--output", "q.onnx"]) == 2, words
