"""Where two graphs of the same tensors part: every float tensor's error, and the first that rounding does not explain.

Both graphs run side by side on the same input, and each pair of tensors is reduced to three numbers inside the session,
so that no map is kept. What does not fit at once is run in parts: a part is some shared tensors in the order of the
first graph, with the nodes of either graph that they still need. In memory are the maps of one part and the values that
later parts read, whatever the size of the frame. Every node runs once, so one pass tells what a bisection over outputs
would have to ask for again and again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from unblur.core.errors import InputError
from unblur.core.provenance import default_threads
from unblur.graphs.sessions import WHO, as_it_runs, as_written, open_onnxruntime, open_session
from unblur.graphs.shapes import Tensors, find_tensors
from unblur.graphs.tensor_error import TensorError, ratio_db

PART_BYTES = 96 << 20
"""Maps of the first graph in a part; the second's and the differences are as large again each."""

CHANNELS = 64
"""Of a frame's size, a map whose shape is not known counts as so many."""

SECOND = "second/"
NUMBERS = ("/count", "/highest", "/lowest", "/power", "/error")
"""What a pair of tensors is reduced to: the first's values counted, their extremes, both sums of squares."""


class GraphPair:
    """Two graphs of one input, ready to be run side by side. tensors: the float ones that both have, in order."""

    def __init__(
        self, first: onnx.ModelProto, second: onnx.ModelProto, threads: int | None = None, part_bytes: int = PART_BYTES
    ) -> None:
        """Both are float32 between their nodes as far as they are compared, and run as they are written.

        Raises InputError where their inputs differ, they share no float32 tensor, and as `open_session`.
        """
        self._onnxruntime = open_onnxruntime(WHO)
        self._source = first.graph.input[0].name
        if [value.name for value in second.graph.input] != [self._source]:
            raise InputError(
                f"The graphs take different inputs ({self._source} and "
                f"{', '.join(value.name for value in second.graph.input)}); compare graphs of one network."
            )
        known, other = find_tensors(first, strict=False), find_tensors(second, strict=False)
        both = known.flowing(TensorProto.FLOAT) & other.flowing(TensorProto.FLOAT)
        made = {name: node for node in first.graph.node for name in node.output}
        makes = {name for node in second.graph.node for name in node.output}
        self.tensors = tuple(name for name in made if name in both & makes)
        if not self.tensors:
            raise InputError("The graphs have no float32 tensor of one name; compare graphs of one network.")
        self._makers = made
        pair = _Pair(first, second, known, other)
        threads = threads or default_threads()
        groups = _grouped(self.tensors, known, part_bytes)
        self._parts = [part.opened(threads) for part in pair.cut(groups)]

    def errors(self, inputs: Iterable[NDArray[Any]]) -> tuple[TensorError, ...]:
        """Every tensor's error over the inputs, each as the graphs take it, in the order of computation.

        Raises InputError for no input.
        """
        rows = [self._run(tensor) for tensor in inputs]
        if not rows:
            raise InputError("Graphs are compared on frames and none were given.")
        count, highest, lowest, powers, errors = np.moveaxis(np.array(rows, np.float64), -1, 0)
        largest = np.maximum(highest, -lowest).max(0)
        power, error, worst = (powers / count).mean(0), (errors / count).mean(0), (errors / count).max(0)
        ratios = {name: ratio_db(power[k], error[k]) for k, name in enumerate(self.tensors)}
        given = self._given(ratios)
        rms = np.sqrt(power)
        return tuple(
            TensorError(
                name,
                self._makers[name].name,
                ratios[name],
                given[name],
                float(largest[k]),
                float(worst[k]),
                float(rms[k]),
            )
            for k, name in enumerate(self.tensors)
        )

    def values(self, name: str, tensor: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """What either graph makes of one of `tensors` for an input; nothing after it is run."""
        live = self._begin(tensor)
        for part in self._parts:
            if name in part.tensors:
                return part.values(name, live)
            self._step(part, live)
        raise KeyError(name)

    def _begin(self, tensor: NDArray[Any]) -> dict[str, Any]:
        return {self._source: self._onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor))}

    def _run(self, tensor: NDArray[Any]) -> list[list[float]]:
        live = self._begin(tensor)
        return [row for part in self._parts for row in self._step(part, live)]

    def _step(self, part: _OpenPart, live: dict[str, Any]) -> list[list[float]]:
        """Run a part: the numbers of its tensors; what later parts read is live then."""
        with as_it_runs():
            made = part.session.run_with_ort_values(list(part.outputs), {name: live[name] for name in part.inputs})
        values = dict(zip(part.outputs, made, strict=True))
        rows = [[float(values.pop(f"{name}{end}").numpy()) for end in NUMBERS] for name in part.tensors]
        live.update(values)
        for name in part.last:
            live.pop(name, None)
        return rows

    def _given(self, ratios: Mapping[str, float]) -> dict[str, float]:
        """What each node was given, at worst; through tensors that are not compared to those that are."""
        of: dict[str, float] = {}
        given: dict[str, float] = {}
        for name, node in self._makers.items():
            given[name] = min((of[each] for each in node.input if each in of), default=math.inf)
            of[name] = ratios.get(name, given[name])
        return given


def _grouped(tensors: Sequence[str], known: Tensors, part_bytes: int) -> list[list[str]]:
    """Consecutive tensors whose maps fill no more than a part each."""
    shapes = [known.whole_shape(name) for name in tensors]
    unknown = CHANNELS * max((math.prod(s[-2:]) for s in shapes if s and len(s) == 4), default=256 * 256)
    groups: list[list[str]] = [[]]
    filled = 0
    for name, shape in zip(tensors, shapes, strict=True):
        size = 4 * (unknown if shape is None else math.prod(shape))
        if groups[-1] and filled + size > part_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups


@dataclass(frozen=True)
class _OpenPart:
    """`inputs`, `outputs`: values of the pair, and the numbers of `tensors`; `last`: inputs nobody reads later."""

    model: onnx.ModelProto
    session: Any
    threads: int
    tensors: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: tuple[str, ...]

    def values(self, name: str, live: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both values of a tensor of this part, which for once are outputs."""
        asked = onnx.ModelProto()
        asked.CopyFrom(self.model)
        pair = [name, f"{SECOND}{name}"]
        del asked.graph.output[:]
        asked.graph.output.extend(onnx.ValueInfoProto(name=one) for one in pair)
        session = open_session(asked, "two graphs side by side", threads=self.threads, adjust=_frugal)
        with as_it_runs():
            first, second = session.run_with_ort_values(pair, {one: live[one] for one in self.inputs})
        return first.numpy(), second.numpy()


@dataclass(frozen=True)
class _Part:
    model: onnx.ModelProto
    tensors: tuple[str, ...]
    last: tuple[str, ...]

    def opened(self, threads: int) -> _OpenPart:
        graph = self.model.graph
        session = open_session(self.model, "two graphs side by side", threads=threads, adjust=_frugal)
        inputs, outputs = (tuple(value.name for value in values) for values in (graph.input, graph.output))
        return _OpenPart(self.model, session, threads, self.tensors, inputs, outputs, self.last)


class _Pair:
    """Nodes, constants and types of both graphs under names that do not meet."""

    def __init__(self, first: onnx.ModelProto, second: onnx.ModelProto, known: Tensors, other: Tensors) -> None:
        self._source = first.graph.input[0].name
        self._opset = max(entry.version for m in (first, second) for entry in m.opset_import if not entry.domain)
        self._ir = max(first.ir_version, second.ir_version)
        self._types = dict(known.types)
        self._types |= {self._second(name): kind for name, kind in other.types.items()}
        self._constants = {tensor.name: tensor for tensor in first.graph.initializer}
        nodes = list(first.graph.node)
        for tensor in second.graph.initializer:
            renamed = TensorProto()
            renamed.CopyFrom(tensor)
            renamed.name = self._second(tensor.name)
            self._constants[renamed.name] = renamed
        for node in second.graph.node:
            copied = NodeProto()
            copied.CopyFrom(node)
            copied.name = f"{SECOND}{node.name}"
            for names in (copied.input, copied.output):
                names[:] = [self._second(name) for name in names]
            nodes.append(copied)
        self._nodes = nodes
        self._makers = {name: k for k, node in enumerate(nodes) for name in node.output if name}

    def _second(self, name: str) -> str:
        return name if name in (self._source, "") else f"{SECOND}{name}"

    def cut(self, groups: Sequence[Sequence[str]]) -> list[_Part]:
        """One part for each group of shared tensors."""
        done: set[int] = set()
        chosen: list[list[int]] = []
        for group in groups:
            own: set[int] = set()
            left = [self._makers[name] for each in group for name in (each, self._second(each))]
            while left:
                k = left.pop()
                if k not in done and k not in own:
                    own.add(k)
                    left += [self._makers[name] for name in self._nodes[k].input if name in self._makers]
            done |= own
            chosen.append(sorted(own))
        read = [
            {name for k in own for name in self._nodes[k].input if name and name not in self._constants}
            | {name for each in group for name in (each, self._second(each))}
            for own, group in zip(chosen, groups, strict=True)
        ]
        last = {name: k for k, names in enumerate(read) for name in names}
        return [
            self._part(group, [self._nodes[n] for n in own], read[k], k, last)
            for k, (group, own) in enumerate(zip(groups, chosen, strict=True))
        ]

    def _part(
        self, group: Sequence[str], nodes: Sequence[NodeProto], read: set[str], number: int, last: Mapping[str, int]
    ) -> _Part:
        own = {name for node in nodes for name in node.output if name}
        inputs = sorted(read - own)
        kept = sorted(name for name in own if last.get(name, number) > number)
        reductions = [node for name in group for node in _reductions(name, self._second(name))]
        numbers = [f"{name}{end}" for name in group for end in NUMBERS]
        used = sorted({name for node in nodes for name in node.input if name in self._constants})
        graph = helper.make_graph(
            [*nodes, *reductions],
            "part",
            [helper.make_tensor_value_info(name, self._types[name], None) for name in inputs],
            [onnx.ValueInfoProto(name=name) for name in (*kept, *numbers)],  # types are left to ONNX Runtime
            [self._constants[name] for name in used],
        )
        opsets = [helper.make_opsetid("", self._opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self._ir)
        return _Part(model, tuple(group), tuple(name for name in {*inputs, *kept} if last[name] <= number))


def _reductions(name: str, other: str) -> list[NodeProto]:
    """Nodes that reduce a pair of tensors to the numbers of NUMBERS, in as few passes over the maps as there can be."""
    of = {end: f"{name}{end}" for end in NUMBERS}
    difference = f"{name}/difference"
    return [
        helper.make_node("Size", [name], [of["/count"]], of["/count"]),
        helper.make_node("ReduceMax", [name], [of["/highest"]], of["/highest"], keepdims=0),
        helper.make_node("ReduceMin", [name], [of["/lowest"]], of["/lowest"], keepdims=0),
        helper.make_node("ReduceSumSquare", [name], [of["/power"]], of["/power"], keepdims=0),
        helper.make_node("Sub", [name, other], [difference], difference),
        helper.make_node("ReduceSumSquare", [difference], [of["/error"]], of["/error"], keepdims=0),
    ]


def _frugal(options: Any, onnxruntime: Any) -> None:
    """As written: an optimiser that took a cast and its way back for nothing would measure nothing. And without an
    arena, of which each part would keep the largest maps."""
    as_written(options, onnxruntime)
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False
