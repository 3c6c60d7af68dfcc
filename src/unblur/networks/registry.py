"""Recognise a network from the names and shapes of its weights.

A family proposes the one spec that fits what it can see; the proposal is built without memory (device "meta")
and compared key by key. Exactly one family must fit without a difference. Names alone cannot decide: BANet and
BANet+ have the same 310 keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from unblur.core.errors import InputError, nearest
from unblur.images.contract import PixelContract
from unblur.networks.banet.form import BANetForm
from unblur.networks.banet.network import BANet, BANetSpec

_MOST_CHANNELS = 1 << 16
"""A file may claim any shape; beyond this a proposal's sizes would overflow even on device "meta"."""

_MOST_BLOCKS = 64
"""And any depth: the published networks have ten blocks, and building thousands to compare names takes minutes."""

_SHOWN_CHARACTERS = 120

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Family:
    """One architecture of the registry. `infer` gives its best proposal, whatever the state dict holds.

    `form`: the exact form of a network at (height, width), None for every size, with channels flipped or not: a module
    in float64 that gives the restored tensor and the output of its first block.
    """

    infer: Callable[[Shapes], BANetSpec]
    build: Callable[[BANetSpec], nn.Module]
    form: Callable[[Any, tuple[int, int] | None, bool], nn.Module]
    presets: Mapping[str, BANetSpec]
    contract: PixelContract = field(default_factory=PixelContract)


def _infer_banet(shapes: Shapes) -> BANetSpec:
    numbers = {m[1] for key in shapes if (m := re.match(r"BAM_([0-9]+)\.", key))}

    def channels(key: str, default: int) -> int:
        shape = shapes.get(key, ())
        return shape[0] if shape and 0 < shape[0] <= _MOST_CHANNELS else default

    width = channels("BAM_1.input_conv.weight", 128)
    return BANetSpec(
        depth=min(len(numbers), _MOST_BLOCKS) or 10,
        stem_width=channels("en_layer1.0.weight", 64),
        width=width + width % 2,
        fuse_width=channels("BAM_1.BA.fuse_conv.weight", max(1, width // 2)),
    )


FAMILIES: Mapping[str, Family] = {
    "banet": Family(
        infer=_infer_banet,
        build=BANet,
        form=BANetForm,
        presets={
            "banet": BANetSpec(),
            "banet_plus": BANetSpec(width=192, fuse_width=192),
            "banet_nano": BANetSpec(depth=3, stem_width=16, width=32, fuse_width=16),
        },
    ),
}


@dataclass(frozen=True)
class Recognised:
    """What a state dict turned out to be; `name` is the preset's, or family plus sizes for any other spec."""

    family: str
    name: str
    spec: BANetSpec


def _difference(family: Family, spec: BANetSpec, shapes: Shapes) -> list[str]:
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in family.build(spec).state_dict().items()}
    lines = []
    for key in [*expected, *(k for k in shapes if k not in expected)]:
        want, have = expected.get(key), shapes.get(key)
        if want != have:
            if have is None:
                lines.append(f"{key} is missing (expected {list(want or ())})")
            elif want is None:
                lines.append(f"{shown(key)} {list(have)} is unknown")
            else:
                lines.append(f"{key} is {list(have)} instead of {list(want)}")
    return lines


def shown(key: object) -> str:
    """A key of a file for a message: one line of bounded length, whatever it holds."""
    if not isinstance(key, str):
        return f"<{type(key).__name__}>"
    text = key if key.isprintable() else ascii(key)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(key)} characters)"


def _name(family: str, spec: BANetSpec) -> str:
    for name, preset in FAMILIES[family].presets.items():
        if preset == spec:
            return name
    return f"{family}-{spec.depth}x{spec.width}"


def recognise(shapes: Shapes) -> Recognised:
    """The one network these weights belong to. Raises InputError naming the nearest miss and what differs."""
    misses: list[tuple[int, str, list[str]]] = []
    matches: list[Recognised] = []
    for family_name, family in FAMILIES.items():
        spec = family.infer(shapes)
        difference = _difference(family, spec, shapes)
        found = Recognised(family_name, _name(family_name, spec), spec)
        if difference:
            misses.append((len(difference), found.name, difference))
        else:
            matches.append(found)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(f"The weights fit more than one network: {', '.join(m.name for m in matches)}.")
    count, name, lines = min(misses)
    shown = "\n  ".join(lines[:5]) + (f"\n  ... and {count - 5} more" if count > 5 else "")
    raise InputError(
        f"No known network has these {len(shapes)} tensors. Nearest is {name}, "
        f"which differs in {count}:\n  {shown}\n"
        f"Use a checkpoint of a known network ({', '.join(preset_names())}, or another depth and width of these)."
    )


def preset_names() -> list[str]:
    """Names that `build_network` and a training configuration take."""
    return [name for family in FAMILIES.values() for name in family.presets]


def build_network(name: str) -> nn.Module:
    """A freshly initialised network by preset name. Raises InputError naming the nearest known one."""
    for family in FAMILIES.values():
        if name in family.presets:
            return family.build(family.presets[name])
    raise InputError(f"Unknown network {name!r}{nearest(name, preset_names())}; known: {', '.join(preset_names())}.")
