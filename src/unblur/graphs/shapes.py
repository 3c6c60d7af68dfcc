"""Types and shapes of every tensor of a graph, as far as ONNX infers them: the one place that asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import GraphProto, TensorProto

from unblur.graphs.onnx_file import infer

Shape = tuple[int | None, ...]
"""None for a side that is not known, or takes every size."""


@dataclass(frozen=True)
class Tensors:
    """Tensor -> ONNX element type, and -> shape; of constants, inputs, outputs and what lies between, in subgraphs too.

    What inference does not find is not there. `constants`: the names of stored ones.
    """

    types: dict[str, int]
    shapes: dict[str, Shape]
    constants: frozenset[str]

    def type(self, name: str) -> int:
        """ONNX element type; UNDEFINED where it is not known."""
        return self.types.get(name, TensorProto.UNDEFINED)

    def whole_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape; None where it, or one side of it, is not known."""
        sides = self.shapes.get(name)
        if sides is None:
            return None
        known = tuple(side for side in sides if side is not None)
        return known if len(known) == len(sides) else None

    def flowing(self, kind: int) -> set[str]:
        """Tensors of a type that are no constants."""
        return {name for name, found in self.types.items() if found == kind and name not in self.constants}


def find_tensors(model: onnx.ModelProto, *, strict: bool = True) -> Tensors:
    """Infer types and shapes. Raises InputError where ONNX cannot, `strict` also for what it cannot wholly."""
    types: dict[str, int] = {}
    shapes: dict[str, Shape] = {}
    constants: set[str] = set()
    for graph in graphs_of(infer(model, strict=strict).graph):
        for tensor in graph.initializer:
            types[tensor.name], shapes[tensor.name] = tensor.data_type, tuple(tensor.dims)
            constants.add(tensor.name)
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            types[value.name] = kind.elem_type
            if kind.HasField("shape"):
                shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return Tensors(types, shapes, frozenset(constants))


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and the subgraphs of its nodes, and theirs."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)
