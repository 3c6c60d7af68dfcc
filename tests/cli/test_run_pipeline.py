"""`unblur run` from end to end on a tiny network: nothing twice, exactly what changed again, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from unblur.cli import app, build_engine, compare_engines, to_onnx
from unblur.cli.run_pipeline import main
from unblur.engines.tensorrt.manifest import read_manifest
from unblur.networks.checkpoints import load_checkpoint, save_checkpoint

TOML = """
[network]
checkpoint = "tiny.safetensors"
[frames]
generated = 2
[graph]
height = 32
width = 48
[compare]
engines = ["onnxruntime"]
rounds = 2
threads = 1
[build]
targets = ["sm89"]
"""


@pytest.fixture
def project(tmp_path: Path, tiny_path: Path) -> Path:
    (tmp_path / "tiny.safetensors").write_bytes(tiny_path.read_bytes())
    (tmp_path / "pipeline.toml").write_text(TOML)
    return tmp_path


def made(errors: str) -> list[str]:
    return [line.split(":")[0] for line in errors.splitlines() if ": made " in line]


ALL = ["graph", "engine", "measurement", "report", "pictures"]
needs_rtx = pytest.mark.tensorrt_rtx


@needs_rtx
def test_whole_way_then_nothing_then_what_changed(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ["--config", str(project / "pipeline.toml")]
    assert main(run) == 0
    output, errors = capsys.readouterr()
    assert made(errors) == ALL
    page = Path(next(line for line in output.splitlines() if line.startswith("report")).split(maxsplit=1)[1])
    assert "onnxruntime" in page.read_text()
    assert len(list((project / "artifacts" / "pictures").rglob("*.png"))) == 2

    assert main(run) == 0
    output, errors = capsys.readouterr()
    assert made(errors) == []
    assert "Nothing had changed" in output

    # Doors of single stages, from any folder, out of the same store: nothing is traced or built again.
    stem = f"{load_checkpoint(project / 'tiny.safetensors').name}-32x48"
    with monkeypatch.context() as elsewhere:
        (project / "deep").mkdir()
        elsewhere.chdir(project / "deep")
        for door, arguments, result in [
            (to_onnx, [], f"{stem}.onnx"),
            (build_engine, ["--fp16"], f"{stem}-fp16.engine"),
            (compare_engines, [], "report/report.html"),
        ]:
            assert door.main(arguments) == 0
            output, errors = capsys.readouterr()
            assert made(errors) == []
            assert "tracing" not in errors
            assert "(pipeline.toml)" in errors
            assert output.splitlines()[-1] == str(project / "artifacts" / result)
            assert Path(output.splitlines()[-1]).is_file()
    assert sorted(path.name for path in (project / "artifacts/restored").iterdir()) == ["000.png", "001.png"]
    assert len(list((project / "artifacts/demo/sharp").iterdir())) == 2
    copy = project / "mine.engine"
    assert build_engine.main(["--config", run[1], "--fp16", "--output", str(copy)]) == 0
    assert made(capsys.readouterr().err) == []
    assert read_manifest(copy)["precision"] == "fp16"
    assert copy.with_name("mine.engine.onnx").is_file()

    # A budget is judged on the stored measurement; one that is broken ends with 3, after the report is written.
    assert main([*run, "--set", 'budgets."*".fidelity_db_min=300']) == 2  # a key with quotes is no table of ours
    capsys.readouterr()
    assert main([*run, "--set", "budgets.onnxruntime.fidelity_db_min=300"]) == 3
    output, errors = capsys.readouterr()
    assert made(errors) == ["report"]
    assert "fidelity_db_min is 300" in errors

    network = load_checkpoint(project / "tiny.safetensors").network
    with torch.no_grad():
        network.get_parameter("BAM_1.BA.conv_5.weight")[0, 0, 0, 0] += 0.01
    save_checkpoint(network, project / "tiny.safetensors")
    run += ["--set", "compare.hang_seconds=0"]  # engines in this process: those of their own ran above
    assert main(run) == 0
    assert made(capsys.readouterr().err) == ALL

    assert main([*run, "--set", "build.precision=fp32"]) == 0
    assert made(capsys.readouterr().err) == ["engine", "measurement", "report"]


@needs_rtx
def test_killed_at_any_moment_the_next_run_ends_the_same(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL in the middle of ever later stages; every run starts from what the killed ones left."""
    run = ["run", "--config", str(project / "pipeline.toml")]
    for begun in ("tracing", "graph: made", "engine: made"):
        with subprocess.Popen(
            [sys.executable, "-m", "unblur", *run], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            assert any(begun in line for line in process.stderr)
            time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "killed, not done"
    assert app.main(run) == 0
    capsys.readouterr()
    assert app.main(run) == 0
    assert "Nothing had changed" in capsys.readouterr().out
    for sidecar in (project / "artifacts").rglob("*.recipe.json"):
        assert json.loads(sidecar.read_text())["sha256"]


def test_faults(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--config", str(project / "pipeline.toml")]
    for assignment, words in [
        ("compare.enginez=['torch']", "did you mean 'engines'"),
        ("compare.engines=['opnvino']", "did you mean 'openvino'"),
        ("graph.height=33", "Export 34x48"),
        ("network.checkpoint='none.pth'", "does not exist"),
        ("frames.blurred='empty'", "empty"),
    ]:
        (project / "empty").mkdir(exist_ok=True)
        assert main([*run, "--set", assignment]) == 2, assignment
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error
    if os.name == "posix":
        (project / "flat").touch()
        assert main([*run, "--set", "paths.artifacts='flat'"]) == 2
