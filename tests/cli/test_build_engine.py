"""The builder's door."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from unblur.cli.build_engine import main


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
        ([], "Give either --onnx FILE or --checkpoint"),
        (["--onnx", "a", "--checkpoint", "b"], "Give either"),
        (["--onnx", "none.onnx", "--height", "16"], "a graph has its size"),
        (["--onnx", "none.onnx", "--target", "sm98"], "did you mean 'sm89'"),
        (["--onnx", "none.onnx", "--fp17"], "did you mean --fp16?"),
    ],
)
def test_bad_arguments(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--output", str(tmp_path / "x.engine")]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


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
    assert 'pip install "unblur[tensorrt]"' in capsys.readouterr().err
