"""Narrow trained weights of other families: each is its preset, small, better than its input, and as its card says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unblur.core.artefacts import file_digest
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.quality import psnr_db
from unblur.networks.checkpoints import load_checkpoint
from unblur.training.config import load_config
from unblur.training.evaluation import restore

ROOT = Path(__file__).parents[2]
NARROW = sorted((ROOT / "checkpoints").glob("*-narrow.safetensors"))


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
    assert {"bag-narrow", "sgenet-narrow"} <= {path.stem for path in NARROW}
