"""A graph as rules look at it: nodes, types, shapes and constants, as far as inference finds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from unblur.graphs.shapes import Shape, find_tensors, graphs_of

RANDOM = frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
                    "RandomUniformLike"})  # fmt: skip


class GraphView:
    """Nodes of a graph and its subgraphs, with types, shapes and constants as far as inference finds them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph, known = model.graph, find_tensors(model, strict=False)
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self.functions = frozenset((f.domain, f.name) for f in model.functions)
        self.inputs = frozenset(value.name for value in graph.input)
        self.outputs = frozenset(value.name for value in graph.output)
        self.nodes: tuple[NodeProto, ...] = tuple(_nodes(graph))
        self.tensors: dict[str, TensorProto] = {t.name: t for g in graphs_of(graph) for t in g.initializer}
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self._known = known
        self._constants = set(self.tensors)
        for node in self.nodes:
            if self._folds(node):
                self._constants.update(node.output)

    def of(self, *operators: str) -> Iterator[NodeProto]:
        return (node for node in self.nodes if node.op_type in operators)

    def type(self, name: str) -> int:
        """ONNX element type; UNDEFINED where inference does not find it."""
        return self._known.type(name)

    def shape(self, name: str) -> Shape | None:
        return self._known.shapes.get(name)

    def is_constant(self, name: str) -> bool:
        """Whether the parser can fold it while it builds: an initializer, or computed from such and known shapes."""
        return name in self._constants

    def value(self, name: str) -> NDArray[Any] | None:
        """The numbers of an initializer or Constant node; None for everything else."""
        if name in self.tensors:
            return numpy_helper.to_array(self.tensors[name])
        node = self.producer.get(name)
        stored = attributes(node).get("value") if node is not None and node.op_type == "Constant" else None
        return numpy_helper.to_array(stored) if isinstance(stored, TensorProto) else None

    def _folds(self, node: NodeProto) -> bool:
        if node.op_type == "Constant":
            return True
        if node.op_type in ("Shape", "Size"):
            return self._known.whole_shape(node.input[0]) is not None
        named = [name for name in node.input if name]
        return bool(named) and node.op_type not in RANDOM and self._constants.issuperset(named)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attributes by name, strings as text."""
    values = ((a.name, helper.get_attribute_value(a)) for a in node.attribute)
    return {name: value.decode(errors="replace") if isinstance(value, bytes) else value for name, value in values}


def operand(node: NodeProto, index: int) -> str:
    """Name of an input, "" where the node leaves it out."""
    return node.input[index] if index < len(node.input) else ""


def label(node: NodeProto) -> str:
    """The node's name, or what it makes where it has none."""
    return node.name or f"the {node.op_type} that makes {node.output[0]!r}"


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    return (node for inner in graphs_of(graph) for node in inner.node)
