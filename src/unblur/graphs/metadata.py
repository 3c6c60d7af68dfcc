"""What unblur writes into the metadata of a graph, under which keys: the one place that reads and writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
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
            "range would give wrong colours; say it with --contract (such as rgb01: float32 RGB in [0, 1]), or export "
            "it from its checkpoint with `unblur export`."
        )
    try:
        return PixelContract.from_json(text)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


SMALLEST_KEY = "unblur.smallest"
"""Holds the shortest side that the graph takes, in pixels."""

BLOCK_KEY, GROUP_KEY = "unblur.block", "unblur.group"
"""In the metadata of a node: its block of the network, and the layers that a search decides on together."""

_OPERATOR = re.compile(r"/[A-Za-z]+(_[0-9]+)?$")


@dataclass(frozen=True)
class Part:
    """Where in its network a node stands; both "" for what belongs to no layer."""

    block: str
    group: str


def set_part(node: onnx.NodeProto, part: Part) -> None:
    """Write it into the node's metadata, which copies of the node keep (ONNX from IR version 10 on)."""
    kept = [entry for entry in node.metadata_props if entry.key not in (BLOCK_KEY, GROUP_KEY)]
    del node.metadata_props[:]
    node.metadata_props.extend(kept)
    for key, value in ((BLOCK_KEY, part.block), (GROUP_KEY, part.group)):
        node.metadata_props.add(key=key, value=value)


def parts_of(model: onnx.ModelProto) -> Mapping[str, Part]:
    """Node name -> its part: what its metadata says, or that of the node of its layer; a node that a rewrite added is
    named after one (`layer/Cast`, `layer/weight/DequantizeLinear`).

    A graph that says nothing (a foreign one) goes by names: the block is the first component, the group the layer.
    """
    stated: dict[str, Part] = {}
    for node in model.graph.node:
        found = {entry.key: entry.value for entry in node.metadata_props}
        if BLOCK_KEY in found:
            stated[node.name] = Part(found[BLOCK_KEY], found.get(GROUP_KEY, ""))
    layers = {_OPERATOR.sub("", name): part for name, part in stated.items()}
    parts = {}
    for node in model.graph.node:
        layer = node.name
        while layer and layer not in layers:
            layer = layer.rpartition("/")[0]
        if node.name in stated:
            parts[node.name] = stated[node.name]
        elif stated:
            parts[node.name] = layers.get(layer, Part("", ""))
        else:
            name = _OPERATOR.sub("", node.name).strip("/")
            parts[node.name] = Part(re.split(r"[./]", name, maxsplit=1)[0], name)
    return parts


def calibration_of(model: onnx.ModelProto) -> dict[str, Any]:
    """What the metadata says under CALIBRATION_KEY; empty where it says nothing. Raises ValueError for no JSON."""
    return dict(parse_json(properties(model).get(CALIBRATION_KEY, "{}")))
