"""The exporter's door: bad input gets a sentence, the right exit code, and leaves nothing."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unblur.cli.to_onnx import main
from unblur.networks.checkpoints import Checkpoint

ROOT = Path(__file__).parents[2]
SIZE = ["--height", "16", "--width", "32"]


def random_bytes(path: Path, tiny: Checkpoint) -> None:
    path.write_bytes(os.urandom(4096))


def empty(path: Path, tiny: Checkpoint) -> None:
    path.touch()


def missing(path: Path, tiny: Checkpoint) -> None:
    del path, tiny


def directory(path: Path, tiny: Checkpoint) -> None:
    path.mkdir()


def foreign(path: Path, tiny: Checkpoint) -> None:
    torch.save({"layer1.weight": torch.zeros(3, 3)}, path)


def nan(path: Path, tiny: Checkpoint) -> None:
    state = {key: value.clone() for key, value in tiny.network.state_dict().items()}
    state["BAM_2.final_conv.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, path)


def one_key_missing(path: Path, tiny: Checkpoint) -> None:
    state = dict(tiny.network.state_dict())
    del state["BAM_2.BA.conv_5.weight"]
    torch.save(state, path)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("echo run > evil-ran",))


def pickle_with_code(path: Path, tiny: Checkpoint) -> None:
    torch.save({"en_layer1.0.weight": Evil()}, path)


@pytest.mark.parametrize(
    "make", [random_bytes, empty, missing, directory, foreign, nan, one_key_missing, pickle_with_code]
)
def test_bad_checkpoints(
    make: Callable[[Path, Checkpoint], None], tiny: Checkpoint, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "bad.pth", tiny)
    assert main(["--checkpoint", "bad.pth", *SIZE, "--output", "out.onnx"]) == 2
    error = capsys.readouterr().err
    assert "\nunblur: " in error, "behind what was taken for defaults"
    assert "Traceback" not in error
    assert not (tmp_path / "out.onnx").exists()
    assert not (tmp_path / "evil-ran").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--height", "-4", "--width", "16"], "'-4' is not a whole number of at least 1"),
        (["--height", "0", "--width", "16"], "'0' is not a whole number"),
        (["--height", "33", "--width", "16"], "Export 34x16"),
        (["--hieght", "32"], "did you mean --height?"),
        ([*SIZE, "--pixels", "half"], "invalid choice"),
        ([*SIZE, "--opset", "9"], "19, 20, 21"),
    ],
)
def test_bad_arguments(
    arguments: list[str], words: str, tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.onnx"
    assert main(["--checkpoint", str(tiny_path), *arguments, "--output", str(output)]) == 2
    assert words in capsys.readouterr().err
    assert not output.exists()


def test_output_that_cannot_be_written(tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["--checkpoint", str(tiny_path), *SIZE, "--output", str(tmp_path / "file" / "out.onnx")]) == 2
    assert "Cannot write" in capsys.readouterr().err


def test_the_script_works_from_any_folder(
    tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run here, where PyTorch is loaded; that scripts start in a process of their own is test_app.py's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNBLUR_ARTIFACTS", str(tmp_path / "artifacts"))
    script = str(ROOT / "export" / "to_onnx.py")
    monkeypatch.setattr(sys, "argv", [script, "--checkpoint", str(tiny_path), *SIZE, "--output", "out.onnx"])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(script, run_name="__main__")
    printed, errors = capsys.readouterr()
    assert done.value.code == 0, errors
    assert (tmp_path / "out.onnx").exists()
    assert "comparison(s) with PyTorch hold" in errors
    assert printed.splitlines()[-1] == "out.onnx"
