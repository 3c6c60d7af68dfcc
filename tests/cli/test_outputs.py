"""No door writes over what it reads, or over what unblur did not write: each is driven with such an output."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unblur.cli import app

NO_OUTPUT_OF_ITS_NAMING = {"networks", "inspect", "run", "doctor"}
"""Verbs that write only below paths.artifacts, under names of the store, or nothing."""

REPORT = Path(__file__).parents[2] / "compare/baselines/comparison-banet-nano/report.json"
TRAINING = 'network = "banet_nano"\n[[stages]]\niterations = 1\ncrop_px = 16\nbatch = 1\n'


@pytest.fixture
def place(tmp_path: Path, tiny_path: Path, fixed_graph: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a user has it, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("pipeline.toml").touch()
    shutil.copy(tiny_path, "w.safetensors")
    os.link("w.safetensors", "linked.onnx")
    shutil.copy(fixed_graph, "g.onnx")
    Path("notes").write_text("mine")
    Path("c.toml").write_text(TRAINING)
    Path("q.json").write_text('{"mine": 1}')
    for folder in ("frames", "mine"):
        Path(folder).mkdir()
    rng = np.random.default_rng(0)
    for k in range(3):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(f"frames/{k}.png")
    for name in ("report.json", "report.md", "report.html", "curve.png", "measure.cpp"):
        Path("mine", name).write_text('{"mine": "\\u2192"}')
    for name in ("e.engine", "e.engine.onnx"):
        Path(name).write_bytes(Path("g.onnx").read_bytes())
    Path("layers.json").write_text("{}")
    return tmp_path


@dataclass(frozen=True)
class Try:
    """A command, and what the refusal says; `before` makes the place ready."""

    command: str
    words: str
    before: Callable[[], object] = lambda: None

    @property
    def verb(self) -> str:
        return self.command.split()[0]


INPUT, FOREIGN = "is the same file as the input", "is not what unblur writes there"
EXPORT = "export --checkpoint w.safetensors --height 16 --width 16 --output"
TRIES = [
    Try(f"{EXPORT} w.safetensors", INPUT),
    Try(f"{EXPORT} ./frames/../w.safetensors", INPUT),
    Try(f"{EXPORT} linked.onnx", INPUT),
    Try(f"{EXPORT} soft", INPUT, lambda: Path("soft").symlink_to("w.safetensors")),
    Try(f"{EXPORT} notes", FOREIGN),
    Try(f"{EXPORT} pipe", "not a file", lambda: os.mkfifo("pipe")),
    Try(f"{EXPORT} frames", "is a directory"),
    Try("init w.safetensors --output notes", "exists and is left as it is"),
    Try("init w.safetensors --output w.safetensors", "exists and is left as it is"),
    Try("build --onnx g.onnx --output g", INPUT),
    Try("build --onnx g.onnx --output g.onnx", INPUT),
    Try("build --onnx g.onnx --output notes", FOREIGN),
    Try("build --onnx g.onnx --output q", FOREIGN),
    Try("build --onnx g.onnx --precision best --output b", FOREIGN, lambda: shutil.copy("q.json", "b.best.json")),
    Try("build --checkpoint w.safetensors --height 16 --width 16 --int8 --output w.safetensors", INPUT),
    Try("build --checkpoint w.safetensors --dynamic --shapes-from frames --output frames/0.png", INPUT),
    Try("build --rebuild e.engine --output notes", FOREIGN),
    Try("build --rebuild e.engine --output g.onnx", FOREIGN, lambda: shutil.copy("notes", "g.onnx")),
    Try("collect frames --crop 16x16 --count 2 --output frames/0.png", INPUT),
    Try("collect gopro:frames --count 2 --output frames/0.png", INPUT),
    Try("collect frames --crop 16x16 --count 2 --output c.toml", FOREIGN),
    Try("calibrate --checkpoint w.safetensors --output q.onnx", FOREIGN),
    Try("calibrate --checkpoint linked.onnx --output linked.onnx", INPUT),
    Try("search --checkpoint w.safetensors --output mine", FOREIGN),
    Try("search --reproduce mine --point 1 --checkpoint w.safetensors --output linked.onnx", INPUT),
    Try("search --reproduce mine --point 1 --checkpoint w.safetensors --output notes", FOREIGN),
    Try("deblur frames/0.png frames/0.png", INPUT),
    Try("deblur frames/0.png x.png --checkpoint x.png --overwrite", INPUT,
        lambda: shutil.copy("w.safetensors", "x.png")),
    Try("deblur frames/0.png x.png --engine openvino-int8 --manifest x.png --overwrite", INPUT,
        lambda: shutil.copy("c.toml", "x.png")),
    Try("compare --frames frames --checkpoint w.safetensors --output mine", FOREIGN),
    Try("compare --frames mine --checkpoint w.safetensors --output mine", INPUT),
    Try("accept report --reason x --output notes", FOREIGN, lambda: shutil.copytree(REPORT.parent, "report")),
    Try("accept r.json --reason x --output r.json", INPUT, lambda: shutil.copy(REPORT, "r.json")),
    Try("merge report mine/r.json --output mine", FOREIGN, lambda: two_reports()),
    Try("blame w.safetensors g.onnx --output mine", FOREIGN, lambda: shutil.copy("q.json", "mine/blame.json")),
    Try("blame blame.png g.onnx --output .", INPUT, lambda: shutil.copy("w.safetensors", "blame.png")),
    Try("speed --checkpoint w.safetensors --output mine", FOREIGN),
    Try("train --config c.toml --evaluate w.safetensors --report w.safetensors", INPUT),
    Try("train --config c.toml --evaluate w.safetensors --report c.toml", INPUT),
    Try("train --config c.toml --evaluate w.safetensors --report q.json", FOREIGN),
    Try("train --config c.toml --output mine", FOREIGN),
    Try("xray g.onnx --html c.toml", FOREIGN),
    Try("xray g.onnx --json q.json", FOREIGN),
    Try("xray g.onnx --html g.onnx", INPUT),
    Try("xray e.engine --json e.engine.onnx", INPUT),
    Try("reproduce e.engine --output mine", FOREIGN),
]  # fmt: skip


def two_reports() -> None:
    shutil.copytree(REPORT.parent, "report")
    shutil.copy(REPORT, "mine/r.json")
    Path("mine/merged.md").write_text("# mine")


def test_every_verb_is_tried() -> None:
    assert {one.verb for one in TRIES} == set(app.VERBS) - NO_OUTPUT_OF_ITS_NAMING


@pytest.mark.parametrize("one", TRIES, ids=lambda one: one.command)
def test_nothing_of_the_users_is_written_over(place: Path, one: Try, capsys: pytest.CaptureFixture[str]) -> None:
    if one.verb == "reproduce":
        manifest(place / "e.engine")
    one.before()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert app.main(one.command.split()) == 2
    error = capsys.readouterr().err
    assert one.words in error
    assert "Traceback" not in error
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def manifest(engine: Path) -> None:
    from unblur.core.artefacts import file_digest

    profile = {key: [48, 64] for key in ("min", "opt", "max")}
    about = {"product": "tensorrt-rtx", "version": "1", "targets": {}, "profiles": [profile], "height": 48, "width": 64,
             "precision": "fp32", "engine_sha256": file_digest(engine), "recipe": {},
             "graph_sha256": file_digest(engine.with_name(engine.name + ".onnx"))}  # fmt: skip
    engine.with_name(engine.name + ".json").write_text(json.dumps(about))


def test_an_empty_file_and_ones_own_are_written_over(place: Path) -> None:
    command = [*EXPORT.split(), "out.onnx"]
    Path("out.onnx").touch()
    assert app.main(command) == 0
    Path("out.onnx").write_bytes(Path("out.onnx").read_bytes()[::1])
    first = Path("out.onnx").read_bytes()
    assert app.main(command) == 0
    assert Path("out.onnx").read_bytes() == first
