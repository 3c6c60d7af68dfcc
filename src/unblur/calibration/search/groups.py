"""Groups of convolutions that a search decides on together: the parallel branches of a block, else one layer each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from unblur.graphs.facts import read_facts
from unblur.graphs.rewrites.forms import Form
from unblur.graphs.rewrites.keeping import FIRST, LAST, kept_by_default

# Node names end in the operator and a counter; branches of one width share what they read, so they share a decision.
_OPERATOR = re.compile(r"/Conv(Transpose)?(_\d+)?$")
_BRANCHES = ((re.compile(r"_d\d+(?=_|$)"), ""), (re.compile(r"\.(tall|wide)\.\d+$"), ".strips"))
_BLOCK = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Group:
    """Convolutions that get one precision; `macs` of one frame."""

    name: str
    convolutions: tuple[str, ...]
    macs: int

    @property
    def role(self) -> str:
        """The name without the block's number: what the group is in every block, such as `BAM.input_conv`."""
        head, _, rest = self.name.partition(".")
        return ".".join(part for part in (_BLOCK.sub("", head), rest) if part)


def find_groups(model: onnx.ModelProto, form: Form) -> tuple[Group, ...]:
    """Groups of all convolutions that the form can quantise, in the order of the graph.

    The first and the last convolution are among them: a search decides on these too. What the form itself leaves out
    (strips, transposed, too narrow) is not. Raises InputError for a graph whose shapes are not known.
    """
    left_out = {name for name, why in kept_by_default(model, form).items() if why not in (FIRST, LAST)}
    members: dict[str, list[str]] = {}
    macs: dict[str, int] = {}
    for convolution in read_facts(model, 0, 0).convolutions:
        if convolution.name not in left_out:
            name = group_of(convolution.name)
            members.setdefault(name, []).append(convolution.name)
            macs[name] = macs.get(name, 0) + convolution.macs
    return tuple(Group(name, tuple(names), macs[name]) for name, names in members.items())


def group_of(convolution: str) -> str:
    """`BAM_1.content_conv_d3_2/Conv` -> `BAM_1.content_conv_2`; a name without branches is its own group."""
    name = _OPERATOR.sub("", convolution)
    for pattern, replacement in _BRANCHES:
        name = pattern.sub(replacement, name)
    return name


def kept_convolutions(
    model: onnx.ModelProto, form: Form, groups: tuple[Group, ...], eight_bits: frozenset[str]
) -> Mapping[str, str]:
    """`keep` of `quantise` for an assignment: every convolution outside the groups named in `eight_bits`."""
    chosen = {name for group in groups if group.name in eight_bits for name in group.convolutions}
    kept = {name: why for name, why in kept_by_default(model, form).items() if name not in chosen}
    undecided = {name for group in groups for name in group.convolutions} - chosen
    return kept | {name: kept.get(name, "the search left it wide") for name in sorted(undecided)}
