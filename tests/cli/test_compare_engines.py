"""The door of the comparison, with real engines on a tiny network: exit codes, files, and what is said."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from crashing import CRASHING, HOW
from PIL import Image

from unblur.cli.compare_engines import _arguments, _parser, main
from unblur.cli.deblur_images import main as deblur
from unblur.cli.sizes import size
from unblur.compare.judge.budgets import parse_budgets
from unblur.engines.catalogue import added, find_engine
from unblur.export.graph import export_graph
from unblur.networks.banet.network import BANet, BANetSpec
from unblur.networks.checkpoints import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.safetensors, frames/ and truth/ (one picture each, 16x18), and a cache that tests share."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "pipeline.toml").touch()
    torch.manual_seed(9)
    save_checkpoint(BANet(BANetSpec(depth=1, stem_width=2, width=4, fuse_width=2)), folder / "tiny.safetensors")
    rng = np.random.default_rng(2)
    for name in ("frames", "truth"):
        (folder / name).mkdir()
        Image.fromarray(rng.integers(0, 256, (16, 18, 3), dtype=np.uint8)).save(folder / name / "a.png")
    return folder


@pytest.fixture(autouse=True)
def quiet_machine(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.chdir(place)


ONE_PROCESS = ("--set", "compare.hang_seconds=0")


def _run(place: Path, output: Path, *more: str) -> int:
    common = ["--frames", "frames", "--checkpoint", "tiny.safetensors", "--threads", "1", "--rounds", "2"]
    return main([*common, "--output", str(output), *more])


def test_three_engines_with_truth(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = ["--budget", "fidelity_db_min=100", "--budget", "openvino:latency_ms_max=1e6"]
    assert _run(place, tmp_path / "out", "--truth", "truth", *budget) == 0
    printed = capsys.readouterr().out
    for word in ("torch", "onnxruntime", "openvino", "kept", "All 3 budgets kept.", str(tmp_path / "out")):
        assert word in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [engine["name"] for engine in report["engines"]] == ["torch", "onnxruntime", "openvino"]
    # Observed 157 dB: float32 sums in another order. 140 dB leaves a factor of 7 in amplitude.
    assert all(float(engine["worst_fidelity_db"]) > 140 for engine in report["engines"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html", "report.json", "report.md", "report.xml", "results.csv",
    ]  # fmt: skip


def test_an_engine_that_crashes_costs_its_row_and_is_measured_again(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison that the store keeps: one with a crash in it is not found again, and what others scored is."""
    command = ["--frames", "frames", "--checkpoint", "tiny.safetensors", "--threads", "1", "--no-latency",
               "--engines", "crashing", "--no-waterfall", "--set", f"paths.artifacts={tmp_path}"]  # fmt: skip
    verdicts = []
    with added(CRASHING):
        for how in ("segfault", ""):
            monkeypatch.setenv(HOW, how)
            verdicts.append(main(command))
            report = json.loads((tmp_path / "report" / "report.json").read_text())
            verdicts.append([len(engine["frames"]) for engine in report["engines"]])
    assert verdicts == [4, [1, 0], 0, [1, 1]]
    assert "crashing: a.png: its process was ended by SIGSEGV" in capsys.readouterr().err


def test_what_is_compared_is_what_deblur_runs(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the report says so; a graph of one size is told from it."""
    assert _run(place, tmp_path / "out", "--engines", "openvino", "--no-latency", *ONE_PROCESS) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    compared = report["engines"][1]["description"]["graph"]
    assert compared.startswith("dynamic, ")
    assert "Graphs: openvino dynamic." in (tmp_path / "out" / "report.md").read_text()
    capsys.readouterr()
    command = ["frames", str(tmp_path / "sharp"), "--checkpoint", "tiny.safetensors", "--engine", "openvino"]
    assert deblur(command) == 0
    assert f"graph {compared}" in capsys.readouterr().err
    export_graph(load_checkpoint(place / "tiny.safetensors"), tmp_path / "fixed.onnx", height=16, width=18)
    own = f"openvino:{tmp_path / 'fixed.onnx'}"
    assert _run(place, tmp_path / "own", "--engines", own, "--no-latency", *ONE_PROCESS) == 0
    assert "Graphs: openvino:fixed.onnx fixed 16x18." in (tmp_path / "own" / "report.md").read_text()


def test_a_broken_budget_is_exit_code_3_after_the_report(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(place, tmp_path, *ONE_PROCESS, "--engines", "onnxruntime",
                "--budget", "onnxruntime:latency_ms_max=0.000001") == 3  # fmt: skip
    assert "onnxruntime: latency_ms_max is 1e-06, measured" in capsys.readouterr().err
    assert "broken" in (tmp_path / "report.md").read_text()


def test_a_bad_frame_is_exit_code_2_after_the_report(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "bad.png").write_bytes(b"bad")
    (frames / "good.png").write_bytes((place / "frames" / "a.png").read_bytes())
    given = ["--frames", str(frames), "--engines", "torch", "--no-latency", *ONE_PROCESS]
    assert _run(place, tmp_path / "out", *given) == 2
    assert "bad.png" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(("layout", "code"), [("gopro:set", 3), ("set/test/one/blur", 0)])
def test_budgets_of_truth_are_held_on_a_data_set_that_the_file_names(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    layout: str, code: int,
) -> None:  # fmt: skip
    """A flag that changes the engines lets go what it has nothing to hold against, and says so; truth is there."""
    for name, folder in (("frames", "blur"), ("truth", "sharp")):
        copy = tmp_path / "set/test/one" / folder / "a.png"
        copy.parent.mkdir(parents=True)
        copy.write_bytes((place / name / "a.png").read_bytes())
    (tmp_path / "pipeline.toml").write_text(f'[frames]\nblurred = "{layout}"\n[budgets."*"]\npsnr_db_min = 99.0\n')
    monkeypatch.chdir(tmp_path)
    checkpoint = ["--checkpoint", str(place / "tiny.safetensors")]
    given = ["--engines", "torch-channels-last", "--no-latency", "--threads", "1", *ONE_PROCESS]
    assert main([*checkpoint, *given, "--output", str(tmp_path / "out")]) == code
    assert ("left out: psnr_db_min" in capsys.readouterr().err) is (code == 0)


def test_a_graph_of_ones_own(place: Path, tmp_path: Path) -> None:
    assert _run(place, tmp_path / "a", "--engines", "onnxruntime", "--no-latency", *ONE_PROCESS) == 0
    graph = next((place / "artifacts").rglob("*.onnx"))
    assert _run(place, tmp_path / "b", "--engines", f"openvino:{graph}", "--no-latency", *ONE_PROCESS) == 0
    report = json.loads((tmp_path / "b" / "report.json").read_text())
    assert report["engines"][1]["name"] == f"openvino:{graph.name}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engines", "openvno"], "did you mean 'openvino'"),
        (["--engines", "torch-compile:x.onnx"], "leave out ':x.onnx'"),
        (["--engines", "openvino:none.onnx"], "there is no file none.onnx"),
        (["--engines", "openvino,openvino"], "compared once"),
        (["--frames", "none"], "none (frames); name a folder"),
        (["--truth", "cache-that-is-not"], "cache-that-is-not (truth); name a folder"),
        (["--checkpoint", "none.pth"], "does not exist"),
        (["--budget", "speed=3"], "unknown key 'speed'"),
        (["--budget", "psnr_loss_db_max=0.1"], "--truth"),
        (["--budget", "onnx:speedup_min=1"], "names the engine 'onnx'"),
        (["--latency-size", "256"], "write HEIGHTxWIDTH"),
        (["--rounds", "0"], "at least 1"),
        (["--frame", "x"], "did you mean --frames"),
        (["--output", "tiny.safetensors"], "is a file"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert _run(place, tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["frames", "frames/report"])
def test_what_is_written_lies_apart_from_what_is_read(
    place: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    given = ["--frames", "frames", "--truth", "truth", "--checkpoint", "tiny.safetensors"]
    for flags in (["--output", folder], ["--set", f"paths.artifacts={folder}"]):
        assert main([*given, *flags]) == 2
        assert "whose pictures are read; name a folder of its own" in capsys.readouterr().err
    assert sorted(path.name for path in Path("frames").iterdir()) == ["a.png"]


def test_a_missing_package_is_exit_code_4_or_a_row(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    here = ["--engines", "openvino", *ONE_PROCESS]  # another process would find it
    assert _run(place, tmp_path / "out", *here) == 4
    assert 'pip install -e ".[cpu]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert _run(place, tmp_path / "out", *here, "--skip-missing", "--no-latency") == 0
    assert "not measured" in capsys.readouterr().out


def test_help_imports_no_runtime() -> None:
    code = (
        "import sys; from unblur.cli.compare_engines import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'onnxruntime', 'openvino', 'jinja2', 'skimage'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert "--frames" in done.stdout


def test_the_commands_of_the_runbook_are_commands() -> None:
    text = (Path(__file__).parents[2] / "compare" / "README.md").read_text()
    commands = re.findall(r"`unblur compare (.+?)`", text)
    assert len(commands) >= 5
    for command in commands:
        given = _arguments(shlex.split(command))
        parse_budgets(given.budget)
        for name in (given.engines or "").split(","):
            assert not name or find_engine(name.partition(":")[0])
    usage = text.split("compare_engines.py [--config", 1)[1].split("\n\n")[0]
    known = {flag for flag in _parser()._option_string_actions if flag.startswith("--")}
    of_every_door = {"--help", "--quiet", "--verbose", "--json"}
    assert set(re.findall(r"--[a-z-]+", usage)) | {"--config"} == known - of_every_door


def test_sizes_are_height_by_width() -> None:
    assert size("720x1280") == (720, 1280)
