"""Groups of convolutions that a search decides on together, as the graph states them; else one layer each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from unblur.graphs.facts import Convolution, read_facts
from unblur.graphs.metadata import Part
from unblur.graphs.rewrites.forms import Form
from unblur.graphs.rewrites.keeping import FIRST, LAST, kept_by_default

_NUMBER = re.compile(r"[._]?[0-9]+")


@dataclass(frozen=True)
class Group:
    """Convolutions of one block that get one precision; `macs` of one frame."""

    name: str
    convolutions: tuple[str, ...]
    macs: int
    block: str = ""

    @property
    def role(self) -> str:
        """The name without the block's number: what the group is in every block of its kind, as `body.conv1`."""
        inside = self.name.removeprefix(f"{self.block}.")
        return self.name if inside == self.name else f"{_NUMBER.sub('', self.block)}.{inside}".lstrip(".")


def find_groups(model: onnx.ModelProto, form: Form) -> tuple[Group, ...]:
    """Groups of all convolutions that the form can quantise, in the order of the graph.

    The first and the last convolution are among them: a search decides on these too. What the form itself leaves out
    (strips, transposed, too narrow) is not. Raises InputError for a graph whose shapes are not known.
    """
    left_out = {name for name, why in kept_by_default(model, form).items() if why not in (FIRST, LAST)}
    facts = read_facts(model, 0, 0)
    members: dict[Part, list[Convolution]] = {}
    for convolution in facts.convolutions:
        if convolution.name not in left_out:
            members.setdefault(facts.parts[convolution.name], []).append(convolution)
    return tuple(
        Group(part.group, tuple(one.name for one in found), sum(one.macs for one in found), part.block)
        for part, found in members.items()
    )


def kept_convolutions(
    model: onnx.ModelProto, form: Form, groups: tuple[Group, ...], eight_bits: frozenset[str]
) -> Mapping[str, str]:
    """`keep` of `quantise` for an assignment: every convolution outside the groups named in `eight_bits`."""
    chosen = {name for group in groups if group.name in eight_bits for name in group.convolutions}
    kept = {name: why for name, why in kept_by_default(model, form).items() if name not in chosen}
    undecided = {name for group in groups for name in group.convolutions} - chosen
    return kept | {name: kept.get(name, "the search left it wide") for name in sorted(undecided)}
