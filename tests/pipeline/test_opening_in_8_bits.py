"""Engines in 8 bits by their names: calibrated when they are opened, and really in 8 bits."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from unblur.calibration.collect import collect
from unblur.calibration.manifest import load_manifest
from unblur.cli.run_pipeline import main as run
from unblur.core.errors import BudgetError, InputError
from unblur.engines.catalogue import CATALOGUE, is_calibrated, open_engine
from unblur.engines.named import name_engine
from unblur.export.axes import installed_backends, prove_axes
from unblur.graphs.rewrites.forms import find_form
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.quality import psnr_db
from unblur.networks.banet.family import derived
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.deblur.folder import task_key
from unblur.pipeline.dependence import depends_on
from unblur.pipeline.job import Calibration, CalibrationSet, Job
from unblur.pipeline.making.eight_bits import stored_quantised
from unblur.pipeline.making.ranges import stored_manifest
from unblur.pipeline.opening import engine_graph, make_candidate
from unblur.pipeline.resolve import load_pipeline_config
from unblur.pipeline.store import Artefact, Store

SIZE = (48, 64)
ENGINES = ("onnxruntime-int8", "openvino-int8")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manifest") / "three.toml"
    collect(["synthetic:0"], 3, SIZE, path)
    return path


@pytest.fixture
def store(tmp_path: Path, fixed_graph: Path, dynamic_graph: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store where the graphs of SIZE and of every size are exported already."""
    exported = {SIZE: Artefact(fixed_graph, "f" * 64, False), None: Artefact(dynamic_graph, "d" * 64, False)}
    for module in ("opening", "making.eight_bits"):
        monkeypatch.setattr(f"unblur.pipeline.{module}.stored_graph", lambda _, __, size, *___, **____: exported[size])
    return Store(tmp_path / "store")


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("size", [SIZE, None], ids=["fixed", "dynamic"])
def test_an_engine_in_8_bits_runs_in_8_bits_and_close_to_the_reference(
    name: str, size: tuple[int, int] | None, store: Store, tiny: Checkpoint, manifest: Path
) -> None:
    frame = synthetic_pair(1, *SIZE, "heldout")[0]
    candidate = make_candidate(name, store, tiny, 1, calibration=Calibration(manifest, repairs=()))
    with candidate.open(size) as runner, open_engine("torch", tiny, None, 1) as reference:
        tensor = tiny.contract.encode(frame)
        fidelity_db = psnr_db(runner.run(tensor), reference.run(tensor), peak=1.0)
        about = runner.description
    assert 30 < fidelity_db < 80, "seen: 41 to 48 dB; float32 would be above 100"
    assert "int8" in about["precision"]
    assert about["calibration"].endswith("on 3 frames of three.toml")


@pytest.mark.parametrize("name", ENGINES)
def test_eight_bits_move_no_strip(name: str, store: Store, tiny: Checkpoint, manifest: Path) -> None:
    graph = onnx.load(engine_graph(name, store, tiny, None, Calibration(manifest), 1).path)
    for backend in installed_backends():
        prove_axes(graph, derived, backend, (25, 49, 98, 123, 205, 540))


def test_what_is_not_8_bits_is_refused(store: Store, tiny: Checkpoint, manifest: Path, fixed_graph: Path) -> None:
    for name in ENGINES:
        with pytest.raises(InputError, match=f"{name}: .* is not quantised; `unblur calibrate --form"):
            make_candidate(f"{name}:{fixed_graph}", store, tiny, 1).open(SIZE)
    of = CalibrationSet(tiny, stored_manifest(store, manifest), threads=1)
    foreign = stored_quantised(store, store.root, of, SIZE, find_form("openvino"), "minmax").path
    with pytest.raises(BudgetError, match=r"asks for 8 bits in \d+ convolutions, and ONNX Runtime would run \d+ of"):
        make_candidate(f"onnxruntime-int8:{foreign}", store, tiny, 1).open(SIZE)
    # Under the name without a demand it runs, as any graph of one's own does.
    make_candidate(f"onnxruntime:{foreign}", store, tiny, 1).open(SIZE).close()


def test_the_form_of_an_engine_is_the_catalogues(store: Store, tiny: Checkpoint, manifest: Path) -> None:
    forms = {name: engine.form for name, engine in CATALOGUE.items() if engine.form}
    assert forms == {
        "onnxruntime-int8": "onnxruntime", "openvino-int8": "openvino", "openvino-int8-bf16": "openvino"
    }  # fmt: skip
    assert all(find_form(form).name == form for form in forms.values())
    assert is_calibrated("openvino-int8")
    assert not is_calibrated("openvino")
    assert not is_calibrated("openvino-int8:file.onnx")
    made = {
        name: engine_graph(name, store, tiny, SIZE, Calibration(manifest), 1).digest for name in (*forms, "openvino")
    }
    assert len(set(made.values())) == 3, "both engines of OpenVINO run one graph"


def test_what_a_calibration_is_told_by(manifest: Path, tmp_path: Path) -> None:
    told = Calibration(manifest).to_json()
    other = tmp_path / "three.toml"
    other.write_text(manifest.read_text() + "\n")
    changed = [Calibration(other), Calibration(manifest, "mse"), Calibration(manifest, repairs=("bias-correction",))]
    changed += [Calibration(manifest, keep=("none",))]
    assert all(one.to_json() != told for one in changed)
    depends = depends_on([name_engine("openvino-int8")])
    keys = {task_key(b"picture", "d" * 64, depends, about) for about in (told, changed[0].to_json(), None)}
    assert len(keys) == 3
    with pytest.raises(InputError, match=r"no\.toml does not exist; write one with `unblur collect`"):
        Calibration(tmp_path / "no.toml").to_json()


TOML = """
[network]
checkpoint = "tiny.safetensors"
[frames]
generated = 1
[graph]
height = 48
width = 64
[calibration]
manifest = "three.toml"
repairs = []
[compare]
engines = ["openvino-int8"]
rounds = 0
threads = 1
hang_seconds = 0
[build]
enabled = false
"""


@pytest.fixture
def project(tmp_path: Path, tiny_path: Path, manifest: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        "unblur.pipeline.stages.stored_graph", lambda *_, **__: engine_graph("openvino", store, None, SIZE)
    )  # type: ignore[arg-type]
    (tmp_path / "tiny.safetensors").write_bytes(tiny_path.read_bytes())
    (tmp_path / "three.toml").write_bytes(manifest.read_bytes())
    (tmp_path / "pipeline.toml").write_text(TOML)
    return tmp_path


def made(errors: str) -> list[str]:
    return [line.split(":")[0] for line in errors.splitlines() if ": made " in line]


def test_a_run_calibrates_and_knows_when_to_do_it_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", str(project / "pipeline.toml")]
    assert run(command) == 0
    output, errors = capsys.readouterr()
    assert "openvino-int8" in output
    assert made(errors) == ["measurement", "report", "pictures"]
    assert run(command) == 0
    assert made(capsys.readouterr().err) == []
    assert run([*command, "--set", "calibration.algorithm=mse"]) == 0
    assert made(capsys.readouterr().err) == ["measurement", "report", "pictures"]
    wide = ["--set", "compare.engines=['openvino']"]
    assert run([*command, *wide]) == 0
    capsys.readouterr()
    assert run([*command, *wide, "--set", "calibration.algorithm=mse"]) == 0
    assert made(capsys.readouterr().err) == ["report"], "no engine depends on it; the report tells it"
    assert run([*command, "--set", "budgets.openvino-int8.fidelity_db_min=90"]) == 3


def test_an_engine_is_not_judged_on_its_calibration_frames(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under another name and as a JPEG; other engines may be, and so may it where the manifest tells."""
    frame = next(iter(load_manifest(project / "three.toml")))
    write_picture(project / "frames" / "holiday.jpg", Picture(frame), frame)
    command = ["--config", str(project / "pipeline.toml"), "--set", "frames.blurred='frames'"]
    assert run(command) == 2
    assert re.search(r"holiday\.jpg is the calibration frame synthetic:\d+ of .*flatter", capsys.readouterr().err)
    assert run([*command, "--set", "compare.engines=['openvino']"]) == 0
    text = (project / "three.toml").read_text()
    (project / "three.toml").write_text(text.replace("overlaps = []", 'overlaps = ["it is holiday.jpg"]'))
    assert run(command) == 0
    (report,) = [
        p for p in (project / "artifacts/reports").rglob("report.json") if "it is holiday.jpg" in p.read_text()
    ]
    assert "NOT HELD OUT: it is holiday.jpg" in (report.parent / "report.html").read_text()


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("calibration.manifets='a.toml'", "did you mean 'manifest'"),
        ("calibration.algorithm=entrpy", "did you mean 'entropy'"),
        ("calibration.repairs=['equalization']", "did you mean 'equalisation'"),
        ("calibration.manifest='no.toml'", "no.toml does not exist"),
    ],
)
def test_faults_of_the_section(assignment: str, words: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--config", str(project / "pipeline.toml"), "--set", assignment]) == 2
    assert words in capsys.readouterr().err


def test_the_projects_own_section_is_read(project: Path) -> None:
    assignments = ("calibration.repairs=['bias-correction','equalisation']",)
    calibration = Job.of(load_pipeline_config(project / "pipeline.toml", assignments)).calibration
    assert calibration.path == project.resolve() / "three.toml"
    assert calibration.repairs == ("equalisation", "bias-correction"), "in the order they are applied"
