"""What unblur writes into the metadata of a graph, under which keys: the one place that reads and writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from unblur.core.errors import InputError
from unblur.core.reading import parse_json
from unblur.images.contract import METADATA_KEY, PixelContract

NETWORK_KEY = "unblur.network"
CHECKPOINT_KEY = "unblur.checkpoint_sha256"
ORDER_KEY = "unblur.channel_order"
"""Holds the order that the network takes, also where the graph takes bytes in RGB and turns them round inside."""

PRECISION_KEY = "unblur.precision"
FORM_KEY = "unblur.form"
CALIBRATION_KEY = "unblur.calibration"
"""Holds, as JSON, what the ranges of an 8-bit graph were measured on and how."""


def properties(model: onnx.ModelProto) -> dict[str, str]:
    """All metadata of a graph, also what others wrote."""
    return {entry.key: entry.value for entry in model.metadata_props}


def add_properties(model: onnx.ModelProto, values: Mapping[str, str]) -> None:
    """Write these beside what is there, and over what has their keys."""
    onnx.helper.set_model_props(model, properties(model) | dict(values))


def contract_of(model: onnx.ModelProto, what: object = "The graph") -> PixelContract:
    """The pixels that it takes. Raises InputError, naming `what`, for a graph that does not say, or not properly."""
    text = properties(model).get(METADATA_KEY)
    if text is None:
        raise InputError(
            f"{what} does not say which pixels it takes (no {METADATA_KEY} in its metadata), and guessing order and "
            "range would give wrong colours; export it from its checkpoint with `unblur export`."
        )
    try:
        return PixelContract.from_json(text)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def calibration_of(model: onnx.ModelProto) -> dict[str, Any]:
    """What the metadata says under CALIBRATION_KEY; empty where it says nothing. Raises ValueError for no JSON."""
    return dict(parse_json(properties(model).get(CALIBRATION_KEY, "{}")))
