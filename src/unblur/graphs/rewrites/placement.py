"""Where the pairs of QuantizeLinear and DequantizeLinear go: which tensors, whose range scales them, who reads them.

A tensor has one pair, whoever reads it. Placement needs no ranges, so it tells which ranges are needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx

from unblur.graphs.facts import CONVOLUTIONS
from unblur.graphs.rewrites.forms import Form


@dataclass(frozen=True)
class Placement:
    """`convolutions`: nodes that compute in 8 bits, in the order of the graph.

    `scaled_by`: each tensor that gets a pair -> the tensors whose ranges, taken together, fix its scale.
    `reads`: (node, index of the input) that read the 8-bit value instead of the original.
    """

    convolutions: tuple[str, ...]
    scaled_by: dict[str, tuple[str, ...]]
    reads: frozenset[tuple[str, int]]

    @property
    def ranges(self) -> tuple[str, ...]:
        """Tensors whose ranges are needed, each once."""
        return tuple(dict.fromkeys(name for names in self.scaled_by.values() for name in names))


def place(model: onnx.ModelProto, form: Form, keep: Collection[str]) -> Placement:
    """Place the pairs for all convolutions but `keep`."""
    nodes = model.graph.node
    convolutions = [node for node in nodes if node.op_type in CONVOLUTIONS and node.name not in keep]
    reads = {(node.name, 0) for node in convolutions}
    paired = {node.input[0]: None for node in convolutions}  # a dict, for its order
    results = {node.output[0] for node in convolutions}
    if form.outputs:
        # From each 8-bit result on, as far as the form's operators go, everything is 8 bits and read as such.
        for node in nodes:
            if node.output[0] in results or (node.op_type in form.outputs and any(i in paired for i in node.input)):
                paired[node.output[0]] = None
    if form.residual:
        for node in nodes:
            identity = [k for k, name in enumerate(node.input) if name not in results]
            if node.op_type == "Add" and len(identity) == 1:
                paired[node.input[identity[0]]] = None
                reads.add((node.name, identity[0]))
    joined: list[tuple[str, list[str]]] = []
    if form.shared_concat:
        for node in reversed(nodes):  # a concatenation of concatenations passes its scale on to theirs
            if node.op_type == "Concat" and node.output[0] in paired:
                paired.update(dict.fromkeys(node.input))
                reads |= {(node.name, k) for k in range(len(node.input))}
                joined.append((node.output[0], list(node.input)))
    if form.outputs:
        # A result must be read in 8 bits by all, or it is computed twice; what follows it in floating point may stay.
        eight = {node.name for node in nodes if node.output[0] in paired and node.op_type in form.outputs}
        reads |= {
            (node.name, k)
            for node in nodes
            for k, name in enumerate(node.input)
            if name in results or (name in paired and node.name in eight)
        }
    return Placement(tuple(node.name for node in convolutions), _scales(paired, joined), frozenset(reads))


def _scales(paired: Iterable[str], joined: list[tuple[str, list[str]]]) -> dict[str, tuple[str, ...]]:
    """A concatenation's own range covers its parts; where parts are in two of them, both ranges count for all."""
    groups: list[set[str]] = []
    for whole, parts in joined:
        group = {whole, *parts}
        for other in [g for g in groups if g & group]:
            groups.remove(other)
            group |= other
        groups.append(group)
    inner = {part for _, parts in joined for part in parts}
    scaled_by: dict[str, tuple[str, ...]] = {name: (name,) for name in paired}
    for group in groups:
        roots = tuple(whole for whole, _ in joined if whole in group and whole not in inner)
        scaled_by |= dict.fromkeys(group, roots)
    return scaled_by
