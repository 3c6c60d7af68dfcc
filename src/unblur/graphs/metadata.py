"""What unblur writes into the metadata of a graph, and under which keys."""

from __future__ import annotations

from typing import Any

import onnx

from unblur.core.reading import parse_json

PRECISION_KEY = "unblur.precision"
CHECKPOINT_KEY = "unblur.checkpoint_sha256"
CALIBRATION_KEY = "unblur.calibration"
"""Holds, as JSON, what the ranges of an 8-bit graph were measured on and how."""

FORM_KEY = "unblur.form"


def calibration_of(model: onnx.ModelProto) -> dict[str, Any]:
    """What the metadata says under CALIBRATION_KEY; empty where it says nothing. Raises ValueError for no JSON."""
    text = next((entry.value for entry in model.metadata_props if entry.key == CALIBRATION_KEY), "{}")
    return dict(parse_json(text))
