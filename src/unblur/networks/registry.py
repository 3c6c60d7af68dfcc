"""Recognise a network from the names and shapes of its weights.

A family proposes the one spec that fits what it can see; the proposal is built without memory (device "meta")
and compared key by key. Exactly one family must fit without a difference. Names alone cannot decide: BANet and
BANet+ have the same 310 keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unblur.core.errors import InputError, nearest
from unblur.core.provenance import code_digest
from unblur.networks.bag.family import BAG
from unblur.networks.banet.family import BANET
from unblur.networks.banet_v1.family import BANET_V1
from unblur.networks.family import Family, Shapes
from unblur.networks.saphn.family import SAPHN
from unblur.networks.sgenet.family import SGENET

FAMILIES: tuple[Family[Any, Any], ...] = (
    BANET,
    BANET_V1,
    BAG,
    SAPHN,
    SGENET,
)  # fmt: skip

_SHOWN_CHARACTERS = 120

_guests: list[Family[Any, Any]] = []
_codes: dict[str, str] = {}


@contextmanager
def registered(family: Family[Any, Any]) -> Iterator[None]:
    """Know a family beside FAMILIES while the block runs: a network of one's own, without a change to this package.

    Raises InputError where its name, or that of a preset, is taken.
    """
    taken = {name for known in families() for name in (known.name, *known.presets)}
    clash = sorted(taken.intersection((family.name, *family.presets)))
    if clash:
        raise InputError(f"The network name {clash[0]!r} is taken; give the family and its presets other names.")
    _guests.append(family)
    try:
        yield
    finally:
        _guests.remove(family)
        _codes.pop(family.name, None)


def families() -> tuple[Family[Any, Any], ...]:
    """All families that are known now."""
    return (*FAMILIES, *_guests)


def code_of_guests() -> dict[str, str]:
    """Name of each registered family -> digest of the files that its functions and its network's layers are written in:
    what graphs of it depend on, as those of FAMILIES depend on this package. Found once for each registration.

    Raises InputError for one whose network cannot be built without memory.
    """
    for family in _guests:
        if family.name not in _codes:
            exact = family.exact
            things = {family.infer, family.build, family.part_of, exact.form, exact.probe, exact.derived} - {None}
            try:
                with torch.device("meta"):
                    layers = [type(m) for spec in family.presets.values() for m in family.build(spec).modules()]
            except (RuntimeError, NotImplementedError) as error:
                raise InputError(
                    f"The network family {family.name!r} cannot be built on PyTorch's device meta, where its shapes "
                    f"are looked at: {error}. Leave values of tensors (.item(), .tolist()) out of its constructor."
                ) from error
            _codes[family.name] = code_digest([*things, *layers])
    return dict(_codes)


@dataclass(frozen=True)
class Recognised:
    """What a state dict turned out to be: a network of `family` with the sizes of `spec`."""

    family: Family[Any, Any]
    spec: Any

    @property
    def name(self) -> str:
        """The preset's, or the spec's label."""
        return self.family.label(self.spec)


def _difference(found: Recognised, shapes: Shapes) -> tuple[int, list[str]]:
    """How many names the two share, and what differs."""
    with torch.device("meta"):
        network = found.family.build(found.spec)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
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
    return len(expected.keys() & shapes.keys()), lines


def shown(key: object) -> str:
    """A key of a file for a message: one line of bounded length, whatever it holds."""
    if not isinstance(key, str):
        return f"<{type(key).__name__}>"
    text = key if key.isprintable() else ascii(key)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(key)} characters)"


def recognise(shapes: Shapes) -> Recognised:
    """The one network these weights belong to. Raises InputError naming the nearest miss and what differs."""
    misses: list[tuple[int, int, str, list[str]]] = []
    matches: list[Recognised] = []
    for family in families():
        found = Recognised(family, family.infer(shapes))
        shared, difference = _difference(found, shapes)
        if difference:
            misses.append((-shared, len(difference), found.name, difference))
        else:
            matches.append(found)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(f"The weights fit more than one network: {', '.join(m.name for m in matches)}.")
    for family in families():
        if family.refuse is not None and (why := family.refuse(shapes)):
            raise InputError(why)
    shared, count, name, lines = min(misses)
    shown = "\n  ".join(lines[:5]) + (f"\n  ... and {count - 5} more" if count > 5 else "")
    nearest_miss = f"Nearest is {name}, which differs in {count}:\n  {shown}\n" if shared else "They share no name.\n"
    raise InputError(
        f"No known network has these {len(shapes)} tensors. {nearest_miss}"
        f"Use a checkpoint of a known network ({', '.join(preset_names())}, or another size of these)."
    )


def preset_names() -> list[str]:
    """Names that `build_network` and a training configuration take."""
    return [name for family in families() for name in family.presets]


def family_of(name: str) -> Family[Any, Any]:
    """The family of a preset. Raises InputError naming the nearest known one."""
    for family in families():
        if name in family.presets:
            return family
    raise InputError(f"Unknown network {name!r}{nearest(name, preset_names())}; known: {', '.join(preset_names())}.")


def build_network(name: str) -> nn.Module:
    """A freshly initialised network by preset name. Raises InputError as `family_of`."""
    family = family_of(name)
    network: nn.Module = family.build(family.presets[name])
    return network
