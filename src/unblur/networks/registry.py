"""Recognise a network from the names and shapes of its weights.

A family proposes the one spec that fits what it can see; the proposal is built without memory (device "meta")
and compared key by key. Exactly one family must fit without a difference. Names alone cannot decide: BANet and
BANet+ have the same 310 keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from unblur.core.errors import InputError, nearest
from unblur.networks.banet.family import BANET
from unblur.networks.banet.network import BANetSpec
from unblur.networks.family import Family, Shapes

_SHOWN_CHARACTERS = 120


FAMILIES: Mapping[str, Family] = {
    "banet": BANET,
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
