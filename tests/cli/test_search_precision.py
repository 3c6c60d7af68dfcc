"""The door of the precision search."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from unblur.calibration.score import Judge
from unblur.cli.collect_frames import main as collect
from unblur.cli.search_precision import main
from unblur.engines.catalogue import open_engine
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.held_out import drawn_held_out
from unblur.pipeline.making import graph
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.store import Store

SMALL = ["--engine", "onnxruntime", "--objective", "macs", "--threads", "1", "--algorithm", "minmax"]


@pytest.fixture(scope="module", autouse=True)
def exported_once(fixed_graph: Path) -> Iterator[None]:
    """The store takes the graph that all tests share; exporting it takes seconds, and has tests of its own."""

    def copy(_: Checkpoint, path: Path, *, height: int, width: int, **others: object) -> None:
        assert (height, width) == (48, 64), others
        shutil.copy(fixed_graph, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "export_graph", copy)
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline.toml, and so with artefacts of its own, and a small manifest."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pipeline.toml").touch()
    assert collect(["synthetic:0", "--count", "2", "--crop", "48x64", "--output", str(folder / "m.toml")]) == 0
    return folder


@pytest.fixture(autouse=True)
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def test_a_search_and_a_point_of_it(tiny: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--checkpoint", str(tiny.path), "--manifest", "m.toml", "--size", "48x64", "--drawn", "1"]
    assert main([*SMALL, *given, "--fidelity-db", "45", "--output", "found"]) == 0
    printed = capsys.readouterr().out
    assert "At least 45 dB of fidelity" in printed
    assert " 8 bits: " in printed
    assert printed.splitlines()[-1] == "found/report.html"
    report = json.loads(Path("found/report.json").read_text())
    assert report["recipe"]["calibration"]["manifest"] == "m.toml"
    number = report["chosen"]
    assert f"--reproduce found --point {number} --output FILE.onnx" in printed
    again = ["--reproduce", "found", "--point", str(number), "--output", "point.onnx", "--checkpoint", str(tiny.path)]
    assert main(again) == 0
    judge = Judge(stored_graph(Store(Path("artifacts")), tiny, (48, 64)).path, drawn_held_out((48, 64), 1, 1000))
    with open_engine("onnxruntime", tiny, Path("point.onnx"), 1) as runner:
        score = judge.compare(runner.run(tensor) for tensor in judge.inputs)
    assert score.fidelity_db_mean == pytest.approx(report["points"][number - 1]["fidelity_db"], abs=1e-4)
    capsys.readouterr()
    # Nothing keeps 300 dB; the graph without any 8 bits does not differ at all, which counts as 200.
    assert main([*SMALL, *given, "--fidelity-db", "300", "--output", "found"]) == 3
    assert "keeps 200.0 dB and loses 0 dB of PSNR: the budget cannot be met" in capsys.readouterr().err
    shutil.rmtree("found")


def frames(folder: Path, *sizes: tuple[int, int]) -> str:
    folder.mkdir()
    for k, (height, width) in enumerate(sizes):
        frame = synthetic_pair(k, height, width, "heldout")[0]
        write_picture(folder / f"{k}.png", Picture(frame), frame)
    return str(folder)


def test_frames_are_of_one_size_and_have_truths(
    tiny: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*SMALL, "--checkpoint", str(tiny.path), "--manifest", "m.toml", "--output", "none"]
    assert main([*given, "--frames", frames(tmp_path / "two", (48, 64), (48, 48))]) == 2
    assert "1.png is 48x48, the search is for 48x64" in capsys.readouterr().err
    assert main([*given, "--frames", frames(tmp_path / "one", (48, 64))]) == 2
    assert "not every frame has a truth; give --truth" in capsys.readouterr().err
    assert not Path("none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "openvin"], "invalid choice"),
        (["--engine", "openvino", "--objective", "bytes"], "Bytes are read from the X-ray"),
        (["--engine", "openvino", "--levels", "8,16,32"], "in float32; search with levels 8 and 32"),
        (["--levels", "8;32"], "write bits separated by commas"),
        (["--form", "tensorr"], "did you mean 'tensorrt'"),
        (["--engine", "tensorrt-rtx", "--gpu", "RTX 9"], "No figures are known"),
        (["--engine", "tensorrt-rtx", "--form", "fp8", "--gpu", "RTX 3090"], "has no FP8"),
        (["--truth", "sharp"], "--truth goes with --frames"),
        (["--frames", "blurred", "--drawn", "4"], "exclude each other"),
        (["--point", "1"], "--point goes with --reproduce"),
        (["--reproduce", "x"], "takes --point N"),
        (["--reproduce", "x", "--point", "1", "--output", "y.onnx", "--engine", "onnxruntime"], "not --engine"),
        (["--reproduce", "x", "--point", "1", "--output", "y.onnx"], "cannot be read"),
        (["--algorithm", "magic"], "Unknown calibration algorithm"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tiny: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = ["--checkpoint", str(tiny.path), *(["--manifest", "m.toml"] if "--reproduce" not in arguments else [])]
    small = [] if "--reproduce" in arguments or "--frames" in arguments else ["--size", "48x64", "--drawn", "1"]
    assert main([*arguments, *checkpoint, *small]) == 2
    assert message in capsys.readouterr().err
