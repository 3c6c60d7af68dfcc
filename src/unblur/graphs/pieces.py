"""A graph run piece by piece, so that every inner map can be looked at once and let go.

The wanted maps of ten blocks at 720p are some 20 GB: they cannot all be outputs of one run. Running the graph again
for each group of them would cost dozens of runs per frame; reducing them inside the graph needs operators that ONNX
does not have (a histogram) and leaves it to the runtime when a map is freed. So the graph is cut after every node that
makes a wanted map, and the pieces are run one after another: each operation once per frame, as in the whole graph, on
whole maps and therefore exact at every border. In memory are the values that later pieces read, and one piece's work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from unblur.core.errors import InputError, nearest
from unblur.core.heap import trim_heap
from unblur.graphs.file import read_graph
from unblur.graphs.sessions import WHO, as_it_runs, open_onnxruntime, open_session
from unblur.graphs.shapes import find_tensors
from unblur.images.contract import Frame

CHANNEL_PARTS = 4
"""So many parts a transposed convolution is run in."""

SMALL_BYTES = 1 << 16
"""Values up to this size are shapes and strips, not maps."""


@dataclass(frozen=True)
class _Piece:
    """One ONNX Runtime session, None where nothing is computed. `inputs` and `outputs` are values of the graph, `last`
    those that nobody reads later."""

    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: tuple[str, ...]


class Walk:
    """Frames that are run side by side: every piece for all of them before the next, so memory grows with their pixels.

    Iterated it gives for each piece, in the order of computation, the wanted tensors that it makes, by name: a list in
    the order of the frames, valid until the next ones are asked for. Each wanted tensor comes once. `done`: pieces that
    are behind, those just given included.
    """

    def __init__(
        self, pieces: Sequence[_Piece], wanted: Collection[str], live: list[dict[str, Any]], made: Callable[[Any], Any]
    ) -> None:
        self._pieces, self._wanted, self._live, self._made = pieces, wanted, live, made
        self.done = 0

    def __iter__(self) -> Iterator[dict[str, list[NDArray[np.float32]]]]:
        for piece in self._pieces[self.done :]:
            for values in self._live:
                if piece.session is not None:  # the first gives the frames themselves
                    given = {name: values[name] for name in piece.inputs}
                    with as_it_runs():
                        made = piece.session.run_with_ort_values(list(piece.outputs), given)
                    values.update((name, self._apart(v)) for name, v in zip(piece.outputs, made, strict=True))
                    del made, given
            found = {name: [values[name] for values in self._live] for name in piece.outputs if name in self._wanted}
            for values in self._live:
                for name in piece.last:
                    del values[name]
            self.done += 1
            yield {name: [value.numpy() for value in values] for name, values in found.items()}
            del found

    def _apart(self, value: Any) -> Any:
        """A small value copied: in ONNX Runtime 1.31 each result of a run keeps all results of that run alive, and a
        number that later blocks read would hold maps of 50 to 170 MB that nobody does."""
        return self._made(value.numpy()) if value.tensor_size_in_bytes() <= SMALL_BYTES else value

    def __len__(self) -> int:
        """Pieces that are left."""
        return len(self._pieces) - self.done

    @property
    def live_bytes(self) -> int:
        """Of the values that later pieces read."""
        return sum(value.tensor_size_in_bytes() for values in self._live for value in values.values())

    def live(self) -> dict[str, NDArray[Any]]:
        """These values, by the number of the frame and their name."""
        return {f"{k}/{name}": value.numpy() for k, values in enumerate(self._live) for name, value in values.items()}

    def resume(self, done: int, live: Mapping[str, NDArray[Any]]) -> None:
        """Go on behind so many pieces of a walk of the same frames, whose `live` these are."""
        self.done = done
        self._live = [{} for _ in self._live]
        for key, array in live.items():
            number, _, name = key.partition("/")
            self._live[int(number)][name] = self._made(array)


class PiecewiseGraph:
    """A float32 graph of one input, opened to give wanted inner tensors frame by frame."""

    def __init__(self, graph: Path | onnx.ModelProto, tensors: Sequence[str], threads: int) -> None:
        """A model may be any that takes one tensor; a file says what its pixels are, and takes frames too.

        Raises InputError as `read_graph`, for a tensor that is not a float map of this graph, and for a graph that
        ONNX Runtime refuses; MissingRuntimeError without it.
        """
        if isinstance(graph, onnx.ModelProto):
            self._signature, model, what = None, graph, f"the graph {graph.graph.name}"
        else:
            self._signature, model, what = read_graph(graph).signature, onnx.load(graph), str(graph)
        self._onnxruntime = open_onnxruntime(WHO)
        self._input = model.graph.input[0].name
        found = find_tensors(model, strict=False)
        types = {name: kind for name, kind in found.types.items() if name not in found.constants}
        for tensor in tensors:
            if types.get(tensor) != TensorProto.FLOAT:
                known = [name for name, kind in types.items() if kind == TensorProto.FLOAT]
                raise InputError(
                    f"{what} has no float32 tensor {tensor!r} between its nodes{nearest(tensor, known)}; "
                    "ask for inputs and outputs of its nodes by name."
                )
        self._wanted = frozenset(tensors)
        self._pieces = self._cut(model, types, what, threads)
        del model, found, types
        trim_heap()  # serialising and opening all pieces left three times the weights there

    def maps(self, frames: Sequence[Frame]) -> Walk:
        """A walk of (H, W, 3) RGB uint8 frames through the pieces. Raises InputError as `Signature.check`."""
        assert self._signature is not None, "a model takes tensors, by `walk`"
        tensors = [self._signature.contract.encode(frame) for frame in frames]
        for tensor in tensors:
            self._signature.check(tensor)
        return self.walk(tensors)

    def walk(self, tensors: Sequence[NDArray[Any]]) -> Walk:
        """A walk of tensors, as the graph takes them, through the pieces."""
        entry = _Piece(None, (), (self._input,), ())
        made = self._onnxruntime.OrtValue.ortvalue_from_numpy
        live = [{self._input: made(tensor)} for tensor in tensors]
        return Walk([entry, *self._pieces], self._wanted, live, made)

    def _cut(self, model: onnx.ModelProto, types: dict[str, int], what: str, threads: int) -> list[_Piece]:
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        groups: list[list[NodeProto]] = [[]]
        for node in model.graph.node:
            groups[-1].extend(_by_channels(node, weights))
            if not self._wanted.isdisjoint(node.output):
                groups.append([])
        groups.pop()  # what comes after the last wanted tensor is not run
        read = [{name for node in group for name in node.input if name and name not in weights} for group in groups]
        last_reader = {name: k for k, names in enumerate(read) for name in names}
        pieces = []
        for k, group in enumerate(groups):
            own = {name for node in group for name in node.output if name}
            inputs = sorted(read[k] - own)
            outputs = sorted(name for name in own if name in self._wanted or last_reader.get(name, k) > k)
            session = self._open(model, group, weights, inputs, outputs, types, what, threads)
            last = [name for name in {*inputs, *outputs} if last_reader.get(name, k) <= k]
            pieces.append(_Piece(session, tuple(inputs), tuple(outputs), tuple(last)))
        return pieces

    def _open(
        self, model: onnx.ModelProto, nodes: list[NodeProto], weights: dict[str, TensorProto],
        inputs: list[str], outputs: list[str], types: dict[str, int], what: str, threads: int,
    ) -> Any:  # fmt: skip
        used = sorted({name for node in nodes for name in node.input if name in weights})
        graph = helper.make_graph(
            nodes,
            "piece",
            [helper.make_tensor_value_info(name, types[name], None) for name in inputs],
            [helper.make_tensor_value_info(name, types[name], None) for name in outputs],
            [weights[name] for name in used],
        )
        piece = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        return open_session(piece, f"a part of {what}", threads=threads, adjust=_frugal)


def _frugal(options: Any, onnxruntime: Any) -> None:
    # The level above changes the layout of maps, which costs a second copy of each.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False  # one for each piece would keep that piece's largest maps


def _by_channels(node: NodeProto, weights: dict[str, TensorProto]) -> list[NodeProto]:
    """A transposed convolution as several of fewer output channels each, whose weights are added to `weights`.

    ONNX Runtime keeps a column for each input pixel, kernel element and output channel: 0.9 GB for 64 at 720p.
    Output channels do not depend on each other, so the parts together are bit for bit the whole.
    """
    names = [name for name in node.input[1:] if name]
    grouped = any(attribute.name == "group" and attribute.i != 1 for attribute in node.attribute)
    if node.op_type != "ConvTranspose" or grouped or not all(name in weights for name in names):
        return [node]
    kernel = numpy_helper.to_array(weights[names[0]])
    slices = [part for part in np.array_split(np.arange(kernel.shape[1]), CHANNEL_PARTS) if part.size]
    parts = []
    for k, part in enumerate(slices):
        own = [f"{name}.part_{k}" for name in names]
        arrays = [kernel[:, part], *(numpy_helper.to_array(weights[name])[part] for name in names[1:])]
        weights |= {name: numpy_helper.from_array(array, name) for name, array in zip(own, arrays, strict=True)}
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name = f"{node.name}/part_{k}"
        del copy.input[1:], copy.output[:]
        copy.input.extend(own)
        copy.output.append(f"{node.output[0]}.part_{k}")
        parts.append(copy)
    return [*parts, helper.make_node("Concat", [copy.output[0] for copy in parts], [node.output[0]], axis=1)]
