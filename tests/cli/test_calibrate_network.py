"""`unblur calibrate` and `unblur collect`: the table, the files, the gate, what is refused."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import onnx
import pytest

from unblur.calibration.algorithms import DEFAULT_ALGORITHM
from unblur.calibration.manifest import load_manifest
from unblur.calibration.score import Score
from unblur.cli import app, collect_frames
from unblur.cli.calibrate_network import _row, main
from unblur.core.artefacts import file_digest
from unblur.graphs.file import read_graph
from unblur.graphs.metadata import calibration_of
from unblur.graphs.rewrites.forms import FORMS as KNOWN_FORMS
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.decibels import Loss
from unblur.pipeline.config import CalibrationSection
from unblur.pipeline.job import Calibration
from unblur.pipeline.store import Artefact

ROOT = Path(__file__).parents[2]
SIZE = (48, 64)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `calibration` (4 frames), `blurred` and `sharp` (2 pairs), and calibration/one of the pairs as JPEG."""
    root = tmp_path_factory.mktemp("pictures")
    for k in range(4):
        frame = synthetic_pair(k, *SIZE, "train")[0]
        write_picture(root / "calibration" / f"{k}.png", Picture(frame), frame)
    for k in range(2):
        for folder, frame in zip(("blurred", "sharp"), synthetic_pair(k, *SIZE, "heldout"), strict=True):
            write_picture(root / folder / f"{k}.png", Picture(frame), frame)
    write_picture(root / "reused" / "renamed.jpg", Picture(frame), synthetic_pair(0, *SIZE, "heldout")[0])
    write_picture(root / "reused" / "other.png", Picture(frame), synthetic_pair(9, *SIZE, "train")[0])
    return root


@pytest.fixture
def place(tmp_path: Path, pictures: Path, tiny_path: Path, fixed_graph: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a manifest; its graph is exported already."""
    exported = Artefact(fixed_graph, file_digest(fixed_graph), fresh=False)
    for module in ("making.eight_bits", "making.bake_off"):
        monkeypatch.setattr(f"unblur.pipeline.{module}.stored_graph", lambda *_, **__: exported)
    (tmp_path / "pipeline.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert collect("calibration", pictures, "frames.toml") == 0
    return tmp_path


def collect(folder: str, pictures: Path, output: str, *more: str) -> int:
    return collect_frames.main([str(pictures / folder), "--count", "2", "--crop", "48x64", "--output", output, *more])


def calibrate(tiny_path: Path, *arguments: str, manifest: str = "frames.toml") -> int:
    given = ["--checkpoint", str(tiny_path), "--manifest", manifest, "--threads", "1", "--output", "made.onnx"]
    return main([*given, *arguments])


def test_a_bake_off_names_the_best_and_writes_graph_and_report(
    place: Path, tiny_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = ["--frames", str(pictures / "blurred"), "--truth", str(pictures / "sharp")]
    assert calibrate(tiny_path, "--bake-off", "--repair", "bias-correction", *frames) == 0
    output = capsys.readouterr().out
    rows = re.findall(r"^(\S+(?: \+ \S+)?) +([\d.]+) +([\d.]+) +([+-][\d.]+)(.*)$", output, re.MULTILINE)
    best = rows[0][0].split(" + ")[0]
    named = {f"{name} + bias-correction" for name in ("minmax", "moving-average", "percentile", "entropy", "mse")}
    assert {row[0] for row in rows[:5]} == named
    assert [float(row[1]) for row in rows[:5]] == sorted((float(row[1]) for row in rows[:5]), reverse=True)
    assert rows[0][4].strip() == "<- taken"
    assert rows[5][0] == best
    assert rows[5][4].strip() == "without repairs"
    assert f"taken: {rows[0][0]};" in output
    report = json.loads((place / "made.json").read_text())
    assert report["algorithm"] == best
    assert report["graph_sha256"] == file_digest(place / "made.onnx")
    assert round(report["scores"][best]["fidelity_db_mean"], 2) == float(rows[0][1])
    assert round(report["score_without_repairs"]["fidelity_db_mean"], 2) == float(rows[5][1])
    assert 0.5 < report["macs_share_8_bits"] < 1
    assert report["overlaps_with_evaluation"] == []
    graph = read_graph(place / "made.onnx")
    assert graph.quantised > 5
    assert graph.calibration.startswith(f"{best}, bias-correction, on 2 frames of frames.toml")


def test_what_stays_in_floating_point_is_said_and_told(place: Path, tiny_path: Path) -> None:
    (place / "keep.txt").write_text("# of a search\nde_layer3.0/Conv\nBAM_1.final_conv/Conv  # late\n")
    kept = {}
    for words in (("none",), ("keep.txt",), ("default", "BAM_1.BA.*"), ("default",)):
        assert calibrate(tiny_path, "--drawn", "1", "--keep", *words) == 0
        report = json.loads((place / "made.json").read_text())
        assert set(calibration_of(onnx.load(place / "made.onnx"))["kept"]) == set(report["kept"])
        kept[words[-1]] = set(report["kept"])
    assert report["keep"] == ["default"]
    assert kept["keep.txt"] == kept["none"] | {"de_layer3.0/Conv", "BAM_1.final_conv/Conv"}
    assert kept["none"] < kept["default"] < kept["BAM_1.BA.*"]
    assert {"BAM_1.BA.mask_conv_1/Conv", "BAM_1.BA.tall.0/Conv"} <= kept["BAM_1.BA.*"]
    assert "BAM_1.final_conv/Conv" not in kept["BAM_1.BA.*"]


def test_a_score_that_differs_in_nothing_is_printed() -> None:
    """As graphs of bytes have it on dark frames."""
    exact = Score.from_json(Score((math.inf, math.inf), Loss(math.inf, 1, spoilt=1)).to_json())
    assert _row("percentile", exact, "  <- taken", 16).split() == ["percentile", "∞", "∞", "+∞", "<-", "taken"]


def test_a_budget_that_cannot_be_met_is_exit_code_3_says_what_can_and_writes_nothing(
    place: Path, tiny_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(tiny_path, "--bake-off", "--drawn", "1", "--fidelity-db", "90") == 3
    error = capsys.readouterr().err
    assert re.search(
        r"ranges by [\w +-]+, the best of 5 algorithms: fidelity is \d\d\.\d\d dB .*the budget 90 dB", error
    )
    assert not list(place.glob("made.*"))
    assert calibrate(tiny_path, "--drawn", "1", "--fidelity-db", "20", "--psnr-loss-db", "-9") == 3
    assert "dB of PSNR are lost" in capsys.readouterr().err


def test_a_name_that_no_manifest_can_hold_is_refused_before_the_work(
    place: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place / "latin"
    folder.mkdir()
    source = pictures / "calibration" / "0.png"
    (folder / "DEL\x7f.png").write_bytes(source.read_bytes())
    (folder / "1.png").write_bytes((pictures / "calibration" / "1.png").read_bytes())
    assert collect_frames.main([str(folder), "--count", "2", "--crop", "48x64", "--output", "del.toml"]) == 0
    assert len(load_manifest(place / "del.toml")) == 2
    (folder / os.fsdecode(b"gr\xfc\xdfe.png")).write_bytes(source.read_bytes())
    assert collect_frames.main([str(folder), "--count", "2", "--crop", "48x64", "--output", "latin.toml"]) == 2
    assert "latin/gr\\xfc\\xdfe.png: it holds bytes that are no UTF-8. Rename it" in capsys.readouterr().err
    assert not (place / "latin.toml").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["synthetic:0", "--crop", "99999x99999"], "--crop: height = 99999: Input should be less than"),
        (["synthetic:0", "--crop", "8x8"], "--crop: height = 8: Input should be greater than"),
        (["synthetic:0", "--count", "9" * 25], "nobody calibrates on more than"),
        (["synthetic:" + "9" * 5000], "whole number below"),
        (["synthetic:9223372036854775800"], "whole number below"),
    ],
)
def test_frames_that_nobody_means(place: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect_frames.main([*more, "--output", "m.toml"]) == 2
    assert words in capsys.readouterr().err


def test_frames_of_the_manifest_are_refused_under_any_name_or_told(
    place: Path, tiny_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The evaluation frame 0 is in the calibration set as a JPEG of another name."""
    assert collect("reused", pictures, "refused.toml", "--not-in", str(pictures / "blurred")) == 2
    assert "also in the evaluation set: " in capsys.readouterr().err
    assert collect("reused", pictures, "reused.toml", "--not-in", str(pictures / "blurred"), "--allow-overlap") == 0
    assert "renamed.jpg is blurred/0.png" in capsys.readouterr().out
    frames = ["--frames", str(pictures / "blurred")]
    assert calibrate(tiny_path, *frames, manifest="reused.toml") == 2
    assert re.search(r"held-out frame 1 is the calibration frame \S*renamed\.jpg", capsys.readouterr().err)
    assert calibrate(tiny_path, *frames, "--allow-overlap", manifest="reused.toml") == 0
    output = capsys.readouterr().out
    assert output.count("NOT HELD OUT: ") == 2, "as collected, and as scored"
    told = json.loads((place / "made.json").read_text())["overlaps_with_evaluation"]
    assert len(told) == 2
    assert "NOT HELD OUT" in read_graph(place / "made.onnx").calibration


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--height", "48"], "--height and --width go together"),
        (["--fidelity-db", "nan"], "'nan' is not a finite number"),
        (["--psnr-loss-db", "inf"], "'inf' is not a finite number"),
        (["--truth", "sharp"], "--truth goes with --frames"),
        (["--frames", "blurred", "--drawn", "1"], "exclude each other"),
        (["--frames", "blurred", "--psnr-loss-db", "0.1"], "name their folder with --truth"),
        (["--output", "made.txt"], "ends in .onnx"),
        (["--algorithm", "minmx"], "did you mean 'minmax'"),
        (["--algorithm", "entropy", "--form", "fp8"], "grid of integers"),
        (["--repair", "adaround"], "Unknown repair 'adaround'"),
        (["--keep", "none", "BAM_1"], "keep is 'none' alone"),
        (["--keep", "BAM_1.imput_conv"], "did you mean 'BAM_1.input_conv'"),
        (["--form", "opnvino"], "invalid choice"),
        (["--manifest", "no.toml"], "no.toml does not exist"),
        (["--algorithm", "mse", "--bake-off"], "exclude each other"),
        (["--bakeoff"], "did you mean --bake-off"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], words: str, place: Path, tiny_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(tiny_path, *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not list(place.glob("made.*"))


def test_pairs_that_are_none_and_frames_of_another_size_are_refused_before_the_work(
    place: Path, tiny_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: object, **__: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr("unblur.pipeline.calibrate_network.stored_quantised", no_work)
    odd = synthetic_pair(0, 40, 40, "heldout")[0]
    write_picture(place / "odd" / "0.png", Picture(odd), odd)
    assert calibrate(tiny_path, "--frames", "odd") == 2
    assert "Held-out frame 1 is 40x40, the graph 48x64" in capsys.readouterr().err
    monkeypatch.setattr("unblur.pipeline.making.ranges.stored_manifest", no_work)
    write_picture(place / "sharp" / "0.png", Picture(odd[:36]), odd[:36])
    assert calibrate(tiny_path, "--frames", "odd", "--truth", "sharp") == 2
    assert "is 40x40 and its truth 36x40" in capsys.readouterr().err
    assert calibrate(tiny_path, "--frames", "odd", "--truth", "odd") == 2
    assert "own truth" in capsys.readouterr().err


def test_a_frame_that_changed_or_is_alone_is_refused(
    place: Path, tiny_path: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (place / "frames.toml").read_text()
    (place / "one.toml").write_text(text[: text.rindex("[[frames]]")])
    assert calibrate(tiny_path, manifest="one.toml") == 2
    assert "has 1 frame(s)" in capsys.readouterr().err
    first = re.findall(r'^sha256 = "(.)', text, re.MULTILINE)[0]
    (place / "changed.toml").write_text(
        text.replace(f'sha256 = "{first}', f'sha256 = "{"0" if first != "0" else "1"}', 1)
    )
    assert calibrate(tiny_path, manifest="changed.toml") == 2
    assert "has changed since it was chosen" in capsys.readouterr().err


def test_the_choices_are_the_forms_and_the_verbs_have_doors() -> None:
    assert set(get_args(CalibrationSection.model_fields["form"].annotation)) == set(KNOWN_FORMS)
    text = (ROOT / "pipeline.toml").read_text()
    assert f'algorithm = "{DEFAULT_ALGORITHM}"' in text
    assert CalibrationSection().algorithm == Calibration().algorithm == DEFAULT_ALGORITHM
    for verb in ("collect", "calibrate", "search"):
        door = (ROOT / "calibration" / f"{app.VERBS[verb][0]}.py").read_text()
        assert f"from unblur.cli.{app.VERBS[verb][0]} import main" in door


def test_the_door_runs_from_any_folder_and_help_imports_no_runtime(tmp_path: Path) -> None:
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(ROOT / 'calibration' / 'calibrate_network.py')!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "unblur calibrate" in done.stdout


@pytest.mark.parametrize("verb", ["collect", "calibrate"])
def test_the_runbook_names_every_flag_and_no_other(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module(f"unblur.cli.{app.VERBS[verb][0]}").main(["--help"])
    flag = re.compile(r"--[a-z][a-z0-9-]*")
    known = set(flag.findall(capsys.readouterr().out.partition("options:")[0])) - {"--json"}  # which every verb has
    text = (ROOT / "calibration" / "README.md").read_text()
    usage = (
        text.partition(f"python calibration/{app.VERBS[verb][0]}.py [")[2]
        or text.partition(f"python calibration/{app.VERBS[verb][0]}.py SOURCE")[2]
    )
    assert set(flag.findall(usage.partition("\n\n")[0])) == known
    typed = [set(flag.findall(line)) for line in re.findall(rf"`unblur {verb} (.+?)`", text)]
    assert len(typed) >= 3
    assert all(flags <= known for flags in typed)


def test_the_written_graph_checks(place: Path, tiny_path: Path) -> None:
    assert calibrate(tiny_path, "--form", "tensorrt-rtx", "--drawn", "1") == 0
    onnx.checker.check_model(str(place / "made.onnx"), full_check=True)
