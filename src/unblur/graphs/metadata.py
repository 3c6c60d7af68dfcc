"""What unblur writes into the metadata of a graph, and under which keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from unblur.core.reading import parse_json

PRECISION_KEY = "unblur.precision"
CHECKPOINT_KEY = "unblur.checkpoint_sha256"
CALIBRATION_KEY = "unblur.calibration"
"""Holds, as JSON, what the ranges of an 8-bit graph were measured on and how."""

FORM_KEY = "unblur.form"

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
    text = next((entry.value for entry in model.metadata_props if entry.key == CALIBRATION_KEY), "{}")
    return dict(parse_json(text))
