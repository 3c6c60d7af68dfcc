"""The builder's door."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from test_damaged_graphs import convolution
from test_rehearsal import endless

from unblur.cli.build_engine import main
from unblur.cli.show_engine import main as show_engine
from unblur.engines.tensorrt.manifest import read_manifest


@pytest.mark.tensorrt_rtx
def test_checkpoint_to_fp16_engine(tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "tiny.engine"
    arguments = ["--checkpoint", str(tiny_path), "--height", "16", "--width", "32", "--fp16", "--target", "sm89"]
    assert main([*arguments, "--output", str(output)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.engine", "tiny.engine.json", "tiny.engine.onnx"]
    assert "convolutions run in: 45 Half" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "tiny.engine.json").read_text())["targets"]) == ["sm89"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--onnx", "a", "--checkpoint", "b"], "Give either"),
        (["--onnx", "none.onnx", "--height", "16"], "a graph has its size"),
        (["--onnx", "none.onnx", "--dynamic"], "a graph has its size"),
        (["--onnx", "none.onnx", "--frames", "none", "--output", "x"], "--frames measures what a precision costs"),
        (["--onnx", "none.onnx", "--target", "sm98"], "did you mean 'sm89'"),
        (["--onnx", "none.onnx", "--fp17"], "did you mean --fp16?"),
        (["--onnx", "none.onnx", "--fp16", "--bf16"], "--fp16 and --bf16 exclude each other"),
        (["--onnx", "none.onnx", "--int8", "--precision", "fp32"], "--int8 and --precision fp32 exclude each other"),
        (["--onnx", "none.onnx", "--precision", "fp4"], "invalid choice: 'fp4'"),
        (["--onnx", "none.onnx", "--shapes", "64x64", "--shapes-from", "x"], "exclude each other"),
        (["--checkpoint", "b", "--height", "16", "--width", "16", "--shapes", "16x16"], "goes with --dynamic"),
        (["--onnx", "none.onnx", "--quantised", "q.onnx"], "--quantised goes with --onnx and --precision best"),
        (["--onnx", "none.onnx", "--builds", "0"], "not a whole number of at least 1"),
        (["--rebuild", "a.engine", "--shapes", "64x64", "--target", "sm89"], "not --shapes --target"),
        (["--rebuild", "a.engine", "--fp16"], "--rebuild takes everything from the manifest"),
        (["--rebuild", "none.engine"], "manifest none.engine.json does not exist"),
    ],
)
def test_bad_arguments(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--output", str(tmp_path / "x.engine")]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_output_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--onnx", "none.onnx"]) == 2
    assert "--output FILE is missing" in capsys.readouterr().err


@pytest.mark.tensorrt_rtx
def test_sizes_from_words_from_a_folder_and_again_from_the_recipe(
    dynamic_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tiny.engine"
    build = ["--onnx", str(dynamic_graph), "--fp16", "--target", "sm89", "--output", str(output)]
    for shapes, words in [
        ([], "name them with --shapes"),
        (["--shapes", "64x64:32x32:96x96"], "heights 64, 32, 96 are not in ascending order"),
        (["--shapes", "33x32"], "33x32 is none; write 34x32"),
        (["--shapes-from", str(tmp_path / "none")], "is not a folder"),
    ]:
        assert main([*build, *shapes]) == 2
        assert words in capsys.readouterr().err
        assert not output.exists()

    (tmp_path / "frames").mkdir()
    for k, size in enumerate([(31, 48), (32, 47), (64, 32)]):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / "frames" / f"{k}.png")
    assert main([*build, "--shapes-from", str(tmp_path / "frames"), "--builds", "2"]) == 0
    printed = capsys.readouterr()
    assert "sizes of" in printed.err
    assert "32x48, 64x32" in printed.err
    assert "2 builds gave" in printed.out
    assert "GB a frame at 64x32" in printed.out
    profiles = read_manifest(output)["profiles"]
    assert [profile["opt"] for profile in profiles] == [[32, 48], [64, 32]]

    assert main(["--rebuild", str(output), "--output", str(tmp_path / "again.engine")]) == 0
    assert read_manifest(tmp_path / "again.engine")["profiles"] == profiles


@pytest.mark.tensorrt_rtx
def test_best_names_the_winner_and_keeps_all(
    fixed_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tiny.engine"
    build = ["--onnx", str(fixed_graph), "--precision", "best", "--target", "sm75"]
    assert main([*build, "--output", str(output)]) == 0
    printed, err = capsys.readouterr()
    assert "fp16  1.000  lower bound: RTX 2080 Ti (sm75)" in printed
    assert "sm75  (--target)" in err
    for unused in ("network.checkpoint", "graph.sizes", "calibration.manifest", "frames.blurred"):
        assert unused not in err  # a graph has its own
    assert "bf16  left out: The graph cannot be built for sm75." in printed
    assert "best is fp16 is" not in printed
    assert "best: fp16 is the only precision that could be built." in printed
    assert output.exists()
    assert (tmp_path / "tiny.engine.candidates" / "fp16.engine").exists()


@pytest.mark.tensorrt_rtx
def test_bad_graphs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "random.onnx").write_bytes(os.urandom(999))
    for name in ("random.onnx", "missing.onnx", "."):
        assert main(["--onnx", str(tmp_path / name), "--output", str(tmp_path / "x.engine")]) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "x.engine").exists()


def test_without_the_package(
    fixed_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.import_module

    def absent(name: str, package: str | None = None) -> Any:
        if name == "tensorrt_rtx":
            raise ModuleNotFoundError("No module named 'tensorrt_rtx'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    assert main(["--onnx", str(fixed_graph), "--fp16", "--output", str(tmp_path / "x.engine")]) == 4
    assert 'pip install -e ".[tensorrt]"' in capsys.readouterr().err


@pytest.mark.tensorrt_rtx
def test_a_foreign_graph_of_open_batch_and_two_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = convolution(["N", 3, "H", "W"])
    model.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", 3, "H", "W"]))
    onnx.save(model, tmp_path / "two.onnx")
    build = ["--onnx", str(tmp_path / "two.onnx"), "--shapes", "16x24", "--output", str(tmp_path / "e.engine")]
    assert main(build) == 2
    assert "two.onnx has 2 outputs (y, a); say with --output-name" in capsys.readouterr().err
    assert main([*build, "--output-name", "y"]) == 0
    assert "convolutions run in: 1 Float" in capsys.readouterr().out
    compiled = onnx.load(tmp_path / "e.engine.onnx")
    assert [value.name for value in compiled.graph.output] == ["y"]
    assert main(["--rebuild", str(tmp_path / "e.engine")]) == 0


@pytest.mark.tensorrt_rtx
def test_names_in_a_foreign_graph_do_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = convolution()
    model.graph.node[0].name = "con\x1b[2Jv"
    onnx.save(model, tmp_path / "\x1b[31m.onnx")
    output = str(tmp_path / "\x1b[32m.engine")
    assert main(["--onnx", str(tmp_path / "\x1b[31m.onnx"), "--output", output]) == 0
    assert show_engine([output, "--kernels"]) == 0
    assert show_engine([str(tmp_path / "\x1b[31m.onnx"), "--kernels"]) == 0
    text = "".join(capsys.readouterr())
    assert "\x1b" not in text
    assert r"\x1b[32m.engine" in text
    assert "Conv_0" in text, "in the place of the node's name, which would break the lines of a log"


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("fault", ["bytes", "no UTF-8", "endless"])
def test_a_foreign_graph_that_cannot_be_used_is_exit_2(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "g.onnx"
    data = {
        "bytes": b"\x08\x0a\xff",
        "no UTF-8": convolution().SerializeToString().replace(b"conv", b"c\xffnv"),
        "endless": endless().SerializeToString(),
    }[fault]
    path.write_bytes(data)
    assert main(["--onnx", str(path), "--fp16", "--output", str(tmp_path / "e.engine")]) == 2
    assert show_engine([str(path)]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["g.onnx"]
