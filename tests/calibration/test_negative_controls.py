"""Calibration that is wrong must break the budget that honest calibration keeps: through the whole pipeline, to exit
code 3, on the bundled network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from unblur.calibration.collect import collect
from unblur.cli.calibrate_network import main
from unblur.graphs.rewrites.quantise import QuantisedGraph, quantise
from unblur.images.contract import PixelContract
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import load_checkpoint
from unblur.pipeline.making import eight_bits, graph
from unblur.pipeline.making import ranges as calibrate_module
from unblur.pipeline.store import Store

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "banet-nano.safetensors"
SIZE = (64, 64)
BUDGET_DB = 52.0
"""Of the worst frame. Seen: honest frames 56.9 dB, black ones 48.4."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose graph has been exported, and two manifests of the same scenes."""
    root = tmp_path_factory.mktemp("project")
    (root / "pipeline.toml").touch()
    graph.stored_graph(Store(root / "artifacts"), load_checkpoint(CHECKPOINT), SIZE)
    scenes = [synthetic_pair(seed, *SIZE, "train")[0] for seed in range(4)]
    for name, frames in {"honest": scenes, "black": [np.zeros_like(scene) for scene in scenes]}.items():
        for k, frame in enumerate(frames):
            write_picture(root / name / f"{k}.png", Picture(frame), frame)
        collect([str(root / name)], len(scenes), SIZE, root / f"{name}.toml")
    return root


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def calibrate(*arguments: str) -> int:
    given = ["--checkpoint", str(CHECKPOINT), "--drawn", "2", "--threads", "1"]
    return main([*given, *([] if "--algorithm" in arguments else ["--algorithm", "minmax"]), *arguments])


@pytest.mark.parametrize("form", ["openvino", "tensorrt"])
def test_honest_calibration_keeps_the_budget(form: str, project: Path) -> None:
    budget = BUDGET_DB if form == "openvino" else 46.0  # signed maps: 50.9 seen
    code = calibrate(
        "--manifest", "honest.toml", "--form", form, "--fidelity-db", str(budget), "--output", f"{form}.onnx"
    )
    assert code == 0
    report = json.loads((project / f"{form}.json").read_text())
    assert report["scores"]["minmax"]["fidelity_db_worst"] >= budget


@pytest.mark.parametrize("algorithm", ["minmax", "mse"])
def test_calibration_on_black_frames_breaks_it(
    algorithm: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = calibrate(
        "--manifest", "black.toml", "--algorithm", algorithm, "--fidelity-db", str(BUDGET_DB), "--output", "no.onnx"
    )  # fmt: skip
    assert code == 3
    assert re.search(
        rf"ranges by {algorithm} \+ adaptive-rounding: fidelity is 4\d\.\d+ dB .*the budget 52 dB",
        capsys.readouterr().err,
    )
    assert not (project / "no.onnx").exists()


@pytest.fixture
def elsewhere(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of its own for what is wrong, with the exported graph of the project."""
    exported = graph.stored_graph(Store(project / "artifacts"), load_checkpoint(CHECKPOINT), SIZE)
    for module in ("making.eight_bits", "making.bake_off"):
        monkeypatch.setattr(f"unblur.pipeline.{module}.stored_graph", lambda *_, **__: exported)
    (tmp_path / "pipeline.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_calibration_ten_times_too_bright_breaks_it(
    elsewhere: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a calibrator with another idea of the pixels would: bytes cannot hold such frames, and overexposed ones, cut
    off at 255, are as wide as honest ones and cost 1.3 dB (seen)."""
    real = calibrate_module.measure_statistics

    def bright(*arguments: Any, **keywords: Any) -> Any:
        encode = PixelContract.encode
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PixelContract, "encode", lambda *given: encode(*given) * np.float32(10))
            return real(*arguments, **keywords)

    monkeypatch.setattr(calibrate_module, "measure_statistics", bright)
    manifest = str(project / "honest.toml")
    assert calibrate("--manifest", manifest, "--fidelity-db", str(BUDGET_DB), "--output", "no.onnx") == 3
    assert "fidelity is" in capsys.readouterr().err
    assert not (elsewhere / "no.onnx").exists()


def times_four(kind: str, number: int) -> Callable[..., QuantisedGraph]:
    """`quantise`, and then one scale of maps or of weights is four times as large."""

    def wrong(*arguments: Any, **keywords: Any) -> QuantisedGraph:
        made = quantise(*arguments, **keywords)
        model = onnx.ModelProto()
        model.CopyFrom(made.model)
        names = {c.data for c in made.convolutions} if kind == "map" else {f"{c.weight}" for c in made.convolutions}
        scales = sorted(f"{name}/scale" for name in names)
        name = scales[number * len(scales) // 4]
        scale = next(t for t in model.graph.initializer if t.name == name)
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(4), name))
        return replace(made, model=model)

    return wrong


@pytest.mark.parametrize("kind", ["map", "weight"])
@pytest.mark.parametrize("number", range(4))
def test_one_scale_times_four_breaks_it(
    kind: str, number: int, elsewhere: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eight_bits, "quantise", times_four(kind, number))
    manifest = str(project / "honest.toml")
    assert calibrate("--manifest", manifest, "--fidelity-db", str(BUDGET_DB), "--output", "no.onnx") == 3
    assert not (elsewhere / "no.onnx").exists()
