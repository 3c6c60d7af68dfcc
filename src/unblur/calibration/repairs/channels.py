"""Which channels of a graph can be scaled without changing what it computes.

A factor on a channel passes through convolution outputs, ReLU, LeakyReLU (max(x, ax) is positively homogeneous),
transposition, pooling as a matrix product, concatenation and gates, and is taken back by the convolutions that read
the channel. Channels that meet in a sum or share a weight must have the same factor: they are one class. What meets
anything else (a sigmoid, a clamp, the frame) is fixed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from unblur.core.errors import InputError
from unblur.graphs.facts import CONVOLUTIONS
from unblur.graphs.shapes import find_tensors

Classes = NDArray[np.int64]

FIXED = 0
"""The class of everything that must keep its scale."""

HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "Identity"})

OUT_AXIS = {"Conv": 0, "ConvTranspose": 1}
"""Axis of a weight that counts output channels; the other one of the first two counts input channels."""


@dataclass(frozen=True)
class Side:
    """The classes of a convolution's output channels (`written`) and input channels (`read`), one number each."""

    node: NodeProto
    written: Classes
    read: Classes


def channel_classes(model: onnx.ModelProto) -> dict[str, Side]:
    """Convolution -> the classes of its channels; equal numbers, equal factor; FIXED is never scaled.

    Convolutions in groups are not among them: what they read and write is FIXED. Raises InputError for a graph whose
    shapes are not known, or that has no other convolution.
    """
    return _Tracer(model).trace()


@dataclass
class _Tracer:
    """`classes` of a tensor: an array that broadcasts to its shape, the number of a class for each value."""

    model: onnx.ModelProto
    parent: list[int] = field(default_factory=lambda: [FIXED])
    classes: dict[str, Classes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.constants = {t.name: t for t in self.model.graph.initializer}
        known = find_tensors(self.model, strict=False)
        self.shapes = {name: tuple(side or 0 for side in shape) for name, shape in known.shapes.items()}

    def trace(self) -> dict[str, Side]:
        sides: dict[str, Side] = {}
        shared: dict[tuple[int, str], list[Side]] = defaultdict(list)
        for node in self.model.graph.node:
            if node.op_type in CONVOLUTIONS:
                if any(a.name == "group" and a.i != 1 for a in node.attribute):
                    self._fix(node.input[0])
                    side = Side(node, np.array([FIXED]), np.array([FIXED]))
                else:
                    side = sides[node.name] = self._convolution(node)
                for k in (1, 2):
                    if len(node.input) > k and node.input[k]:
                        shared[k, node.input[k]].append(side)
            else:
                self._other(node)
        for (k, _), users in shared.items():
            for other in users[1:]:
                self._unite(users[0].written, other.written)
                if k == 1:
                    self._unite(users[0].read, other.read)
        for value in self.model.graph.output:
            self._fix(value.name)
        if not sides:
            raise InputError("The graph has no convolution but in groups, which are not equalised.")
        return {name: Side(s.node, self._roots(s.written), self._roots(s.read)) for name, s in sides.items()}

    def _convolution(self, node: NodeProto) -> Side:
        weight = self.shapes[node.input[1]]
        out, into = weight[OUT_AXIS[node.op_type]], weight[1 - OUT_AXIS[node.op_type]]
        read = self._of(node.input[0])
        if read.ndim != 4 or read.shape[1] not in (1, into) or read.size not in (1, into):
            self._fix(node.input[0])
            read = np.full((1, 1, 1, 1), FIXED)
        fresh = np.arange(len(self.parent), len(self.parent) + out)
        self.parent.extend(fresh.tolist())
        self.classes[node.output[0]] = fresh.reshape(1, out, 1, 1)
        return Side(node, fresh, np.broadcast_to(read.reshape(-1), (into,)))

    def _other(self, node: NodeProto) -> None:
        op, inputs = node.op_type, [name for name in node.input if name not in self.constants and name]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        results: list[Classes] | None = None
        if op in HOMOGENEOUS:
            results = [self._of(node.input[0])]
        elif op == "Transpose":
            results = [self._of(node.input[0]).transpose(attributes["perm"])]
        elif op == "Reshape" and inputs:
            results = [self._reshaped(node)]
        elif op == "Concat":
            results = [self._joined(node, attributes["axis"])]
        elif op == "Split":
            results = self._parts(node, attributes.get("axis", 0))
        elif op == "Gather" and node.input[1] in self.constants:
            results = [self._gathered(node, attributes.get("axis", 0))]
        elif op == "MatMul" and len(inputs) == 1:
            results = self._product(node, inputs[0])
        elif op == "Add" and len(inputs) == 2:
            a, b = (self._of(name) for name in inputs)
            self._unite(a, b)
            results = [np.broadcast_to(a, np.broadcast_shapes(a.shape, b.shape))]
        elif op == "Mul":
            free = [name for name in inputs if self._roots(self._of(name)).any()]
            if len(free) == 1:
                results = [self._of(free[0])]
        if results is None:
            for name in inputs:
                self._fix(name)
            return
        for name, result in zip(node.output, results, strict=True):
            self.classes[name] = result

    def _of(self, name: str) -> Classes:
        if name in self.classes:
            return self.classes[name]
        return np.full((1,) * len(self.shapes[name]), FIXED)

    def _whole(self, name: str) -> Classes:
        shape = self.shapes[name]
        if not shape or not all(shape):
            raise InputError(f"The shape of {name!r} is not known; export the graph for one size to equalise it.")
        return np.broadcast_to(self._of(name), shape)

    def _reshaped(self, node: NodeProto) -> Classes:
        if not self._roots(self._of(node.input[0])).any():
            return np.full((1,) * len(self.shapes[node.output[0]]), FIXED)
        return _compact(self._whole(node.input[0]).reshape(self.shapes[node.output[0]]))

    def _joined(self, node: NodeProto, axis: int) -> Classes:
        parts = [self._of(name) for name in node.input]
        rest = np.broadcast_shapes(*(np.delete(part.shape, axis) for part in parts))
        wide = []
        for name, part in zip(node.input, parts, strict=True):
            shape = list(rest)
            shape.insert(axis % part.ndim, self.shapes[name][axis])
            wide.append(np.broadcast_to(part, shape))
        return _compact(np.concatenate(wide, axis))

    def _parts(self, node: NodeProto, axis: int) -> list[Classes]:
        whole = self._of(node.input[0])
        if whole.shape[axis] == 1:
            return [whole] * len(node.output)
        ends = np.cumsum([self.shapes[name][axis] for name in node.output])[:-1]
        return np.split(whole, ends, axis)

    def _gathered(self, node: NodeProto, axis: int) -> Classes:
        whole, index = self._of(node.input[0]), numpy_helper.to_array(self.constants[node.input[1]])
        if whole.shape[axis] > 1:
            return np.take(whole, index, axis)
        return whole if index.ndim == 1 else np.full((1,) * len(self.shapes[node.output[0]]), FIXED)

    def _product(self, node: NodeProto, name: str) -> list[Classes] | None:
        """Along the axis that is summed over the class must be one; the other axes keep theirs."""
        whole = self._of(name)
        summed = -2 if node.input[1] == name else -1
        rank = len(self.shapes[node.output[0]])
        return [whole] if whole.ndim == rank and whole.shape[summed] == 1 else None

    def _fix(self, name: str) -> None:
        self._unite(self._of(name), np.array(FIXED))

    def _unite(self, a: Classes, b: Classes) -> None:
        pairs = np.stack(np.broadcast_arrays(a, b), axis=-1).reshape(-1, 2)
        for one, other in np.unique(pairs, axis=0).tolist():
            low, high = sorted((self._find(one), self._find(other)))
            self.parent[high] = low  # so that FIXED, the lowest, stays a root

    def _find(self, one: int) -> int:
        while self.parent[one] != one:
            self.parent[one] = one = self.parent[self.parent[one]]
        return one

    def _roots(self, classes: Classes) -> Classes:
        values, inverse = np.unique(classes, return_inverse=True)
        roots: Classes = np.array([self._find(int(v)) for v in values])[inverse].reshape(classes.shape)
        return roots


def _compact(classes: Classes) -> Classes:
    """Axes along which nothing changes cut to one."""
    for axis in range(classes.ndim):
        first: Any = np.take(classes, [0], axis)
        if math.prod(classes.shape) and np.array_equal(np.broadcast_to(first, classes.shape), classes):
            classes = first
    return classes
