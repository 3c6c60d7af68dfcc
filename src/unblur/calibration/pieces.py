"""A graph run piece by piece, so that every inner map can be looked at once and let go.

The wanted maps of BANet-18M at 720p are some 20 GB: they cannot all be outputs of one run. Running the graph again
for each group of them would cost dozens of runs per frame; reducing them inside the graph needs operators that ONNX
does not have (a histogram) and leaves it to the runtime when a map is freed. So the graph is cut after every node that
makes a wanted map, and the pieces are run one after another: each operation once per frame, as in the whole graph, on
whole maps and therefore exact at every border. In memory are the values that later pieces read, and one piece's work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, shape_inference

from unblur.core.errors import InputError, nearest
from unblur.engines.graph_file import read_graph
from unblur.engines.onnxruntime_runner import PROVIDER, open_onnxruntime
from unblur.images.contract import Frame

WHO = "calibration"


@dataclass(frozen=True)
class _Piece:
    """One ONNX Runtime session; `inputs` and `outputs` are values of the graph, `last` those nobody reads later."""

    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: tuple[str, ...]


class PiecewiseGraph:
    """A float32 graph of one input, opened to give wanted inner tensors frame by frame."""

    def __init__(self, path: Path, tensors: Sequence[str], threads: int) -> None:
        """Raises InputError as `read_graph`, for a tensor that is not a float map of this graph, and for a graph that
        ONNX Runtime refuses; MissingRuntimeError without it."""
        self._signature = read_graph(path).signature
        self._onnxruntime = open_onnxruntime(WHO)
        model = shape_inference.infer_shapes(onnx.load(path))
        self._input = model.graph.input[0].name
        types = _types(model)
        for tensor in tensors:
            if types.get(tensor) != TensorProto.FLOAT:
                known = [name for name, kind in types.items() if kind == TensorProto.FLOAT]
                raise InputError(
                    f"{path} has no float32 tensor {tensor!r} between its nodes{nearest(tensor, known)}; "
                    "ask for inputs and outputs of its nodes by name."
                )
        self._wanted = frozenset(tensors)
        self._pieces = self._cut(model, types, path, threads)

    def maps(self, frame: Frame) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Each wanted tensor of one (H, W, 3) RGB uint8 frame with its name, once, in the order of computation.

        A map is valid until the next one is asked for. Raises InputError as `Signature.check`.
        """
        tensor = self._signature.contract.encode(frame)
        self._signature.check(tensor)
        live = {self._input: self._onnxruntime.OrtValue.ortvalue_from_numpy(tensor)}
        if self._input in self._wanted:
            yield self._input, tensor
        for piece in self._pieces:
            made = piece.session.run_with_ort_values(list(piece.outputs), {name: live[name] for name in piece.inputs})
            live.update(zip(piece.outputs, made, strict=True))
            del made
            for name in piece.outputs:
                if name in self._wanted:
                    yield name, live[name].numpy()
            for name in piece.last:
                del live[name]

    def _cut(self, model: onnx.ModelProto, types: dict[str, int], path: Path, threads: int) -> list[_Piece]:
        groups: list[list[NodeProto]] = [[]]
        for node in model.graph.node:
            groups[-1].append(node)
            if not self._wanted.isdisjoint(node.output):
                groups.append([])
        groups.pop()  # what comes after the last wanted tensor is not run
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        read = [{name for node in group for name in node.input if name and name not in weights} for group in groups]
        last_reader = {name: k for k, names in enumerate(read) for name in names}
        pieces = []
        for k, group in enumerate(groups):
            own = {name for node in group for name in node.output if name}
            inputs = sorted(read[k] - own)
            outputs = sorted(name for name in own if name in self._wanted or last_reader.get(name, k) > k)
            session = self._open(model, group, weights, inputs, outputs, types, path, threads)
            last = [name for name in {*inputs, *outputs} if last_reader.get(name, k) <= k]
            pieces.append(_Piece(session, tuple(inputs), tuple(outputs), tuple(last)))
        return pieces

    def _open(
        self, model: onnx.ModelProto, nodes: list[NodeProto], weights: dict[str, TensorProto],
        inputs: list[str], outputs: list[str], types: dict[str, int], path: Path, threads: int,
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
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # an arena would keep the largest map of every piece
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            return self._onnxruntime.InferenceSession(piece.SerializeToString(), options, providers=[PROVIDER])
        except Exception as error:  # ONNX Runtime's classes have no common base
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            first = str(error).splitlines()[0]
            raise InputError(f"ONNX Runtime cannot run a part of {path} ({first}); export it again.") from error


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every value that a frame flows through: the input, and what nodes make."""
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    weights = {tensor.name for tensor in model.graph.initializer}
    return {value.name: value.type.tensor_type.elem_type for value in values if value.name not in weights}
