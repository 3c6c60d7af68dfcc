"""A family of networks that the house has never heard of goes the whole way by its own folder alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from foreign_family import FOREIGN, ForeignSpec, foreign

from unblur.cli import app, collect_frames
from unblur.core.errors import InputError
from unblur.export.graph import export_graph
from unblur.graphs.facts import read_facts
from unblur.graphs.rewrites.casting import cast_graph
from unblur.graphs.sessions import open_onnxruntime
from unblur.images.files import Picture, read_picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.networks import build_network, load_checkpoint, save_checkpoint
from unblur.networks.registry import registered

SIZE = (33, 47)
"""Odd in both sides: its networks take multiples of 1."""


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    with registered(FOREIGN):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a checkpoint, pairs of pictures and frames to calibrate on."""
    root = tmp_path_factory.mktemp("foreign")
    (root / "pipeline.toml").touch()
    save_checkpoint(foreign(), root / "foreign.safetensors")
    for k in range(2):
        for folder, frame in zip(("blurred", "sharp"), synthetic_pair(k, *SIZE, "heldout"), strict=True):
            write_picture(root / folder / f"{k}.png", Picture(frame), frame)
        frame = synthetic_pair(k, *SIZE, "train")[0]
        write_picture(root / "calibration" / f"{k}.png", Picture(frame), frame)
    return root


@pytest.fixture(autouse=True)
def at_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.chdir(place)


def do(*arguments: object) -> None:
    assert app.main([str(argument) for argument in arguments]) == 0


def test_it_is_recognised_while_it_is_registered(place: Path) -> None:
    checkpoint = load_checkpoint(place / "foreign.safetensors")
    assert (checkpoint.name, checkpoint.recognised.family) == ("foreign_small", FOREIGN)
    assert checkpoint.contract == FOREIGN.contract
    save_checkpoint(foreign(ForeignSpec(width=6, blocks=3)), place / "other.safetensors")
    assert load_checkpoint(place / "other.safetensors").name == "foreign-3x6"
    with pytest.raises(InputError, match=r"known: banet, .*, foreign_small"):
        build_network("foreign_large")


@pytest.mark.parametrize(
    "options", [{"height": SIZE[0], "width": SIZE[1]}, {"dynamic": True}], ids=["fixed", "dynamic"]
)
@pytest.mark.parametrize("pixels", ["float", "uint8"])
def test_export_is_exact(place: Path, tmp_path: Path, options: dict[str, int], pixels: str) -> None:
    checkpoint = load_checkpoint(place / "foreign.safetensors")
    graph = export_graph(checkpoint, tmp_path / "graph.onnx", pixels=pixels, prove=True, **options)  # type: ignore[arg-type]
    proved = {(proof.height, proof.width) for proof in graph.proofs if proof.subject == "graph"}
    assert proved == (set(FOREIGN.exact.sizes) if "dynamic" in options else {SIZE})
    assert {proof.backend for proof in graph.proofs} >= {"onnxruntime", "openvino"}
    if pixels == "float":
        x = np.random.default_rng(0).random((1, 3, *SIZE), dtype=np.float32)
        session = open_onnxruntime("test").InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
        with torch.inference_mode():
            expected = checkpoint.network(torch.from_numpy(x)).clamp(0, 1).numpy()
        np.testing.assert_allclose(session.run(None, {"input": x})[0], expected, atol=2e-6)


def test_its_smallest_side_and_its_blocks_are_its_own(place: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(place / "foreign.safetensors")
    with pytest.raises(InputError, match="height is 6; this network's graph takes heights and widths from 7 on"):
        export_graph(checkpoint, tmp_path / "graph.onnx", height=6, width=40)
    model = onnx.load(export_graph(checkpoint, tmp_path / "graph.onnx", height=7, width=11).path)
    for each in (model, cast_graph(model, "fp16").model, cast_graph(model, "bf16").model):
        facts = read_facts(each, 7, 11)
        blocks = [facts.parts[convolution.name].block for convolution in facts.convolutions]
        assert blocks == ["head", "body.0", "body.0", "body.1", "body.1", "tail"]


def test_a_frame_too_big_for_float64_is_held_to_its_probe(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unblur.export.checks.WHOLE_MACS", 0)
    graph = export_graph(load_checkpoint(place / "foreign.safetensors"), tmp_path / "g.onnx", height=33, width=47)
    assert {proof.subject for proof in graph.proofs} == {"probe", "algebra"}


def test_training_deblurring_and_comparing(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "train.toml"
    text = (
        "network = 'foreign_small'\ndevice = 'cpu'\nthreads = 1\nsave_every = 2\n"
        "[data]\nscenes = 2\nscene_side_px = 48\nworkers = 0\n[evaluation]\npairs = 1\nside_px = 33\n"
        "[[stages]]\ncrop_px = 17\nbatch = 2\niterations = 4\nfirst_lr = 1e-3\nlast_lr = 1e-4\n"
    )
    config.write_text(text + "[loss]\nfft_weight = 1\n")
    assert app.main(["train", "--config", str(config)]) == 2
    assert "unknown key 'loss'" in capsys.readouterr().err  # another family's table
    config.write_text(text)
    do("train", "--config", config, "--output", tmp_path / "run")
    trained = tmp_path / "run" / "foreign-small.safetensors"
    assert load_checkpoint(trained).name == "foreign_small"

    do("deblur", "blurred", tmp_path / "out", "--checkpoint", trained, "--engine", "onnxruntime", "--threads", 1)
    blurred, restored = read_picture(place / "blurred" / "0.png"), read_picture(tmp_path / "out" / "0.png")
    assert restored.frame.shape == blurred.frame.shape
    assert not np.array_equal(restored.frame, blurred.frame)

    assert collect_frames.main(["calibration", "--count", "2", "--crop", "33x47", "--output", "frames.toml"]) == 0
    do("compare", "--frames", "blurred", "--truth", "sharp", "--checkpoint", trained, "--threads", 1, "--rounds", 2,
       "--engines", "torch,onnxruntime,openvino,openvino-int8", "--manifest", "frames.toml",
       "--output", tmp_path / "report")  # fmt: skip
    engines = json.loads((tmp_path / "report" / "report.json").read_text())["engines"]
    fidelity = {engine["name"]: float(engine["worst_fidelity_db"]) for engine in engines}
    assert min(fidelity["torch"], fidelity["onnxruntime"], fidelity["openvino"]) > 120
    assert 25 < fidelity["openvino-int8"] < 70


def test_8_bits(place: Path, tmp_path: Path) -> None:
    assert collect_frames.main(["calibration", "--count", "2", "--crop", "33x47", "--output", "frames.toml"]) == 0
    do("calibrate", "--checkpoint", "foreign.safetensors", "--manifest", "frames.toml", "--threads", 1, "--drawn", 1,
       "--output", tmp_path / "eight.onnx")  # fmt: skip
    report = json.loads((tmp_path / "eight.json").read_text())
    assert report["macs_share_8_bits"] > 0.5
    assert report["scores"][report["algorithm"]]["fidelity_db_mean"] > 25


@pytest.mark.tensorrt_rtx
def test_a_build_and_its_xray(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph, engine = tmp_path / "graph.onnx", tmp_path / "foreign.engine"
    do("export", "--checkpoint", "foreign.safetensors", "--height", 33, "--width", 47, "--output", graph)
    do("build", "--onnx", graph, "--fp16", "--target", "sm89", "--output", engine)
    assert re.search(r"convolutions run in: \d+ Half", capsys.readouterr().out)
    do("xray", engine, "--json", tmp_path / "figures.json")
    (figures,) = json.loads((tmp_path / "figures.json").read_text())["engines"]
    assert {"head", "body.0", "body.1"} <= set(figures["by_block"])
    assert figures["network"] == "foreign_small"
