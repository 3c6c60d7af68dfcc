"""Damaged configurations and manifests: every one is taken, or refused with a sentence, and none takes long."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutants import byte_mutants, json_mutants

from unblur.calibration.manifest import load_manifest
from unblur.core.errors import InputError
from unblur.images.files import Picture, encode_picture
from unblur.pipeline.resolve import load_pipeline_config
from unblur.training.config import load_config

ROOT = Path(__file__).parents[2]
PIPELINE: dict[str, Any] = {
    "network": {"checkpoint": "a.safetensors", "channel_order": "bgr"},
    "frames": {"blurred": "blurred", "sharp": "sharp", "generated": 2, "seed": 0},
    "graph": {"height": 32, "width": 48, "pixels": "float", "opset": 20, "prove": False},
    "calibration": {"manifest": "m.toml", "algorithm": "best", "repairs": []},
    "build": {"precision": "fp16", "targets": ["sm89"], "optimization_level": 3, "builds": 1, "psnr_loss_db": 0.05},
    "compare": {"engines": ["onnxruntime"], "threads": 1, "rounds": 2},
    "budgets": {"*": {"fidelity_db_min": 60.0}},
    "paths": {"artifacts": "artifacts"},
}
TRAINING: dict[str, Any] = {
    "network": "banet_nano",
    "seed": 1,
    "data": {"source": "synthetic", "scenes": 4, "scene_side_px": 64, "workers": 0},
    "evaluation": {"pairs": 2, "side_px": 32, "seed": 0},
    "stages": [{"crop_px": 32, "batch": 2, "iterations": 3, "first_lr": 1e-4, "last_lr": 1e-6}],
}
FRAME: dict[str, Any] = {
    "crop": {"height": 16, "width": 16, "top": 0, "left": 0},
    "scene": "a", "brightness": 0.5, "sharpness": 0.5, "fingerprint": "0" * 16, "path": "a.png",
}  # fmt: skip
PICTURE = Picture(np.full((16, 24, 3), 77, np.uint8))
PIXELS = encode_picture(Path("a.png"), PICTURE, PICTURE.frame)
MANIFEST: dict[str, Any] = {
    "format": 1, "overlaps": [], "frames": [{**FRAME, "sha256": sha256(PIXELS).hexdigest()}] * 2
}  # fmt: skip


def toml(value: Any) -> str:
    """A value, or a whole file of tables, as TOML."""
    match value:
        case dict():
            return "{ " + ", ".join(f"{json.dumps(str(key))} = {toml(item)}" for key, item in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case float() if not math.isfinite(value):
            return str(value)
        case None:
            return "1979-05-27"  # JSON has no dates, TOML has nothing that is null
    return json.dumps(value)


def whole(tables: Any) -> str:
    return "\n".join(f"{json.dumps(str(key))} = {toml(value)}" for key, value in tables.items())


def load_frames(path: Path) -> None:
    manifest = load_manifest(path)
    assert manifest.size
    assert manifest.digest


def load_training(path: Path) -> None:
    load_config(path).digest()


@pytest.mark.parametrize(
    ("load", "good"),
    [(load_pipeline_config, PIPELINE), (load_training, TRAINING), (load_frames, MANIFEST)],
    ids=["pipeline", "training", "manifest"],
)
def test_every_damaged_configuration_is_taken_or_refused(
    tmp_path: Path, load: Callable[[Path], Any], good: dict[str, Any]
) -> None:
    path = tmp_path / "a.toml"
    (tmp_path / "a.png").write_bytes(PIXELS)
    texts = [whole(mutant).encode() for mutant in json_mutants(good, 300)]
    texts += [*byte_mutants(whole(good).encode(), 150), *byte_mutants((ROOT / "pipeline.toml").read_bytes(), 50)]
    texts += [f"{json.dumps(key)} = {'[' * 5000}{']' * 5000}".encode() for key in good]
    texts += [f"{json.dumps(key)} = {'9' * 5000}".encode() for key in good]
    refused = 0
    for text in texts:
        path.write_bytes(text)
        try:
            load(path)
        except InputError:
            refused += 1
    assert 0 < refused < len(texts)
