"""Narrow trained weights of other families: each is its preset, small, better than its input, and as its card says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from unblur.building.cast_frames import CastFrames
from unblur.building.islands import cast_measured
from unblur.core.artefacts import file_digest
from unblur.export.graph import export_graph
from unblur.graphs.rewrites.forms import OPENVINO, TENSORRT_RTX
from unblur.graphs.rewrites.quantise import quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.graphs.sessions import WrittenGraph
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.quality import psnr_db
from unblur.networks.checkpoints import load_checkpoint
from unblur.training.config import load_config
from unblur.training.evaluation import restore

ROOT = Path(__file__).parents[2]
NARROW = sorted((ROOT / "checkpoints").glob("*-narrow.safetensors"))

EXACT_DB = 110.0
FP16_DB = 60.0
EIGHT_BITS_DB = {OPENVINO: 30.0, TENSORRT_RTX: 28.0}
"""Fidelity to float32. The least has SAPHN, whose picture goes through all its layers and is rounded in each; others
add to a frame that is not."""


@pytest.mark.parametrize("weights", NARROW, ids=lambda path: path.stem)
def test_a_narrow_checkpoint_is_what_its_card_and_report_say(weights: Path) -> None:
    loaded = load_checkpoint(weights)
    assert loaded.name == weights.stem.replace("-", "_")
    assert weights.stat().st_size <= 2_000_000
    report = json.loads(weights.with_suffix(".json").read_text())
    config = load_config(ROOT / "training" / "configs" / f"{weights.stem}.toml")
    assert report["checkpoint_sha256"] == file_digest(weights)
    synthetic, row = report["synthetic"], report["synthetic"]["pairs"][0]
    assert synthetic["count"] == config.evaluation.pairs
    assert synthetic["gain_db"] > 0
    side = config.evaluation.side_px
    blurred, sharp = synthetic_pair(row["seed"], side, side, "heldout")
    assert psnr_db(restore(loaded.network, loaded.contract, blurred), sharp, peak=255.0) == pytest.approx(
        row["restored_psnr_db"], abs=0.01
    )
    card = weights.with_suffix(".md").read_text("utf-8")
    before, after, gain = (synthetic[key] for key in ("blurred_psnr_db", "restored_psnr_db", "gain_db"))
    assert f"{before:.2f} dB blurred, {after:.2f} dB restored: **{gain:+.2f} dB**" in card
    assert report["checkpoint_sha256"] in card
    assert f"{report['parameters']:,} parameters" in card


def test_there_are_some() -> None:
    assert {"bag-narrow", "banet-v1-narrow", "saphn-narrow", "sgenet-narrow"} <= {path.stem for path in NARROW}


@pytest.mark.parametrize("weights", NARROW, ids=lambda path: path.stem)
def test_trained_weights_hold_in_16_and_8_bits(weights: Path, tmp_path: Path) -> None:
    """The exact graph, and what FP16 and two forms of 8 bits keep of it on a frame that nothing was measured on."""
    checkpoint = load_checkpoint(weights)
    contract = checkpoint.contract
    # Proved below, on this frame; how exports are proved is tested elsewhere.
    graph = export_graph(checkpoint, tmp_path / "graph.onnx", height=48, width=48, check=False)
    model = onnx.load(graph.path)
    measured, frame = (synthetic_pair(0, 48, 48, split)[0] for split in ("train", "heldout"))
    x = contract.encode(frame)
    with torch.inference_mode():
        expected = checkpoint.network(torch.from_numpy(x)).clamp(contract.low, contract.high).numpy()

    def fidelity(smaller: onnx.ModelProto) -> float:
        error = (WrittenGraph(smaller).output(x) - expected) / (contract.high - contract.low)
        return -20 * float(np.log10(np.sqrt((error**2).mean())))

    assert fidelity(model) > EXACT_DB
    cast = cast_measured(model, "fp16", [CastFrames((measured,), "a drawn frame")], 60)
    assert cast.islands == ()
    assert fidelity(cast.cast.model) > FP16_DB
    for form, floor in EIGHT_BITS_DB.items():
        run = WrittenGraph(model, tensors_to_measure(model, form)).run(contract.encode(measured))
        ranges = Ranges("min-max", {name: Range(float(v.min()), float(v.max())) for name, v in run.items()})
        assert fidelity(quantise(model, ranges, form).model) > floor
