"""A graph or an engine file is an engine: at every door and in Python, without a checkpoint beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_machine import FakeMachine
from tiny_graph import FLOAT, write_graph

import unblur
from unblur.cli.compare_engines import main as compare
from unblur.cli.deblur_images import main as deblur
from unblur.core.errors import InputError, MissingRuntimeError
from unblur.engines import catalogue
from unblur.engines.named import name_engine
from unblur.engines.tensorrt.manifest import companions
from unblur.graphs.metadata import FORM_KEY
from unblur.images.contract import Frame
from unblur.images.files import Picture, read_picture, write_picture
from unblur.networks.checkpoints import Checkpoint

SIZE = (48, 64)


@pytest.fixture
def frame() -> Frame:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture
def place(tmp_path: Path, frame: Frame, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one picture of SIZE in `in/`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "in" / "a.png", Picture(frame), frame)
    return tmp_path


def test_a_graph_is_an_engine(place: Path, fixed_graph: Path, tiny: Checkpoint, frame: Frame) -> None:
    with unblur.open_engine("torch", tiny, threads=1) as reference:
        expected = unblur.restore_frame(reference, frame)
    for k, name in enumerate((str(fixed_graph), f"onnxruntime:{fixed_graph}")):
        assert deblur(["in", f"out{k}", "--engine", name, "--threads", "1"]) == 0
        error = np.abs(read_picture(place / f"out{k}" / "a.png").frame.astype(int) - expected.astype(int))
        assert error.max() <= 1  # a half that is rounded the other way; observed 0
    with unblur.open_engine(fixed_graph, tiny, threads=1) as runner:
        assert np.abs(unblur.restore_frame(runner, frame).astype(int) - expected.astype(int)).max() <= 1


def test_the_key_of_a_picture_has_the_file_in_it(
    place: Path, fixed_graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = place / "my.onnx"
    graph.write_bytes(fixed_graph.read_bytes())
    command = ["in", "out", "--engine", "my.onnx", "--threads", "1"]
    assert deblur(command) == 0
    assert deblur(command) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 deblurred, 1 finished before")
    model = onnx.load(graph)
    model.doc_string = "changed"
    onnx.save(model, graph)
    assert deblur(command) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 deblurred")


def test_files_are_compared_beside_the_checkpoint(place: Path, fixed_graph: Path, tiny: Checkpoint) -> None:
    machine = FakeMachine("tensorrt-rtx")
    engine = machine.build(fixed_graph, place / "my.engine", precision="fp16", checkpoint=tiny.digest)
    flags = ["--frames", "in", "--checkpoint", str(tiny.path), "--no-latency", "--threads", "1", "--output", "report",
             "--set", "compare.hang_seconds=0"]  # fmt: skip
    with machine.installed(), unblur.open_engine(engine.path, tiny) as runner:
        assert runner.description["precision"] == "fp16"
        assert runner.run(tiny.contract.encode(np.zeros((*SIZE, 3), np.uint8))).shape == (1, 3, *SIZE)
    assert compare([*flags, "--engines", f"{fixed_graph},my.engine", "--skip-missing"]) == 0
    rows = {row["name"]: row for row in json.loads(Path("report/report.json").read_text())["engines"]}
    assert list(rows) == ["torch", "openvino:fixed.onnx", "tensorrt-rtx-fp16:my.engine"]
    assert rows["openvino:fixed.onnx"]["worst_fidelity_db"] > 100
    assert "No NVIDIA driver" in rows["tensorrt-rtx-fp16:my.engine"]["not_measured"]


def test_what_runs_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_graph(tmp_path / "g.onnx", SIZE)
    assert name_engine(str(path)).label == "openvino:g.onnx"
    assert name_engine(str(path), device="cuda:1").label == "onnxruntime-cuda:g.onnx"
    real = catalogue._runs_here
    monkeypatch.setattr(catalogue, "_runs_here", lambda engine, gpu: engine.name != "openvino" and real(engine, gpu))
    assert name_engine(str(path)).label == "onnxruntime:g.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    onnx.save(model, path)
    assert name_engine(str(path)).label == "onnxruntime:g.onnx"


@pytest.mark.parametrize(
    ("form", "label"),
    [("openvino", "openvino-int8:q.onnx"), ("onnxruntime", "onnxruntime-int8:q.onnx"),
     ("tensorrt", "onnxruntime:q.onnx"), ("", "onnxruntime:q.onnx")],
)  # fmt: skip
def test_8_bits_go_to_the_backend_of_their_form(form: str, label: str, tmp_path: Path) -> None:
    helper = onnx.helper
    path = write_graph(tmp_path / "q.onnx", SIZE)
    model = onnx.load(path)
    (convolution,) = [node for node in model.graph.node if node.op_type == "Conv"]
    for k, name in enumerate(convolution.input[:2]):
        scale = onnx.numpy_helper.from_array(np.float32(0.01), f"scale{k}")
        zero = onnx.numpy_helper.from_array(np.int8(0), f"zero{k}")
        model.graph.initializer.extend([scale, zero])
        inner = f"{name}/q"
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", [inner, scale.name, zero.name], [f"{name}/dq"]))
        model.graph.node.insert(0, helper.make_node("QuantizeLinear", [name, scale.name, zero.name], [inner]))
        convolution.input[k] = f"{name}/dq"
    if form:
        entry = model.metadata_props.add()
        entry.key, entry.value = FORM_KEY, form
    onnx.save(model, path)
    named = name_engine(str(path))
    assert (named.label, named.told and getattr(named.told, "quantised", 0)) == (label, 1)


def test_refusals_name_the_cure(
    place: Path, fixed_graph: Path, tiny: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = FakeMachine("tensorrt-rtx")
    machine.build(fixed_graph, place / "my.engine", precision="fp16", checkpoint="0" * 64)
    (place / "bare.engine").write_bytes((place / "my.engine").read_bytes())
    write_graph(place / "other.onnx", SIZE, FLOAT, checkpoint="0" * 64)
    for arguments, code, words in (
        (["--engine", "my.engine"], 4, "No NVIDIA driver is installed"),
        (["--engine", "bare.engine"], 2, "bare.engine.json"),
        (["--engine", "none.onnx"], 2, "there is no file none.onnx; name an exported graph"),
        (["--engine", "torch:my.onnx"], 2, "torch runs the checkpoint itself; leave out ':my.onnx'"),
        (["--engine", "other.onnx", "--checkpoint", str(tiny.path)], 2, "made from another checkpoint"),
        (["--engine", str(fixed_graph), "--precision", "fp16"], 2, "has its precision (fp32); leave out --precision"),
        (["--engine", str(fixed_graph), "--manifest", "m.toml"], 2, "--manifest is for engines that are made here"),
        (["--engine", str(fixed_graph), "--contract", "rgb01"], 2, "(bgr-0.5/2); leave out --contract"),
        (["--engine", "torch", "--contract", "rgb01"], 2, "name it: --engine FILE.onnx"),
        (["--engine", "trch"], 2, "did you mean 'torch'"),
    ):
        assert deblur(["in", "out", *arguments]) == code
        told = capsys.readouterr().err
        assert words in told, told
    with pytest.raises(InputError, match=r"say size=\(height, width\)"):
        unblur.open_engine("tensorrt", tiny)
    with machine.installed(), pytest.raises(InputError, match="made from another checkpoint"):
        unblur.open_engine("my.engine", tiny)
    with pytest.raises(MissingRuntimeError, match="No NVIDIA driver"):
        unblur.open_engine("my.engine")
    companions(place / "my.engine")[1].unlink()
    with pytest.raises(InputError, match=r"my\.engine"):
        unblur.open_engine("my.engine")
