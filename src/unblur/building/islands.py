"""Which nodes keep FP32 is measured: cast everything, look at the decibels, widen what costs most until it suffices.

On frames, against the float32 graph, with the emulation of `unblur.graphs.rewrites.emulation`. Beside the decision each
tensor gets its own signal-to-noise ratio and its largest value, so that an overflow is found before a build and a
person sees where the precision goes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unblur.core.console import SILENT, Progress
from unblur.core.errors import BudgetError, InputError
from unblur.core.provenance import default_threads
from unblur.graphs.facts import CONVOLUTIONS
from unblur.graphs.rewrites.casting import NARROW_TYPES, CastGraph, Narrow, cast_graph
from unblur.graphs.rewrites.emulation import MOVES, widen
from unblur.graphs.sessions import open_session
from unblur.images.contract import METADATA_KEY, Frame, PixelContract
from unblur.metrics.decibels import check_limit, decibels_text, decibels_to_json, gain_decibels

FLOORS_DB: Mapping[Narrow, float] = {"fp16": 60.0, "bf16": 45.0}
"""Fidelity that a cast must keep on its worst frame unless the caller asks for another."""

LEAST_GAIN_DB = 0.1
"""An island that gains less is not worth its casts; then no island is left to try."""

NARROWED = "narrowed/"


@dataclass(frozen=True)
class TensorError:
    """A tensor of the cast graph over all frames: 20 log10(rms / rms error), inf if exact, and its largest |value|."""

    name: str
    snr_db: float
    largest: float


@dataclass(frozen=True)
class Island:
    """All nodes of one operator, kept in FP32, and what that gained when it was chosen."""

    operator: str
    nodes: int
    gain_db: float


@dataclass(frozen=True)
class MeasuredCast:
    """A cast graph with its worst-frame fidelity in dB (peak: the clamp's range), by emulation in float32."""

    cast: CastGraph
    fidelity_db: float
    islands: tuple[Island, ...]
    tensors: tuple[TensorError, ...]

    def to_json(self) -> dict[str, Any]:
        """For a manifest, in strict JSON: "Infinity" is exact, "-Infinity" an overflow."""

        def rounded(value: float) -> float | str | None:
            return decibels_to_json(round(value, 2))

        return {
            "fidelity_db": rounded(self.fidelity_db),
            "islands": [asdict(island) | {"gain_db": rounded(island.gain_db)} for island in self.islands],
            "tensors": [asdict(tensor) | {"snr_db": rounded(tensor.snr_db)} for tensor in self.tensors],
        }


def cast_measured(
    model: onnx.ModelProto,
    precision: Narrow,
    frames: Sequence[Frame],
    floor_db: float | None = None,
    progress: Progress = SILENT,
) -> MeasuredCast:
    """Cast a float32 graph and keep in FP32 what it takes to reach `floor_db` (None: FLOORS_DB) on every frame.

    `frames` are RGB uint8 (height, width, 3) of the graph's size, or of any that a dynamic one takes.

    Raises InputError without frames or as `cast_graph`; BudgetError when a tensor overflows the precision on a frame
    (with its value), or when no choice of islands reaches the floor (with the best).
    """
    if not frames:
        raise InputError("A cast is measured on frames and none were given.")
    check_limit("The fidelity to keep", floor_db)
    floor_db = FLOORS_DB[precision] if floor_db is None else floor_db
    contract = _contract(model)
    tensors = [contract.encode(frame) for frame in frames]
    progress.note(f"measuring the graph in {precision.upper()} on {len(frames)} frames")

    def measured(keep: Mapping[str, str], islands: Sequence[Island]) -> MeasuredCast:
        cast = cast_graph(model, precision, keep)
        fidelity_db, errors = _measure(model, widen(cast.model, precision), tensors)
        return MeasuredCast(cast, fidelity_db, tuple(islands), errors)

    keep: dict[str, str] = {}
    reached = measured(keep, [])
    _refuse_overflow(reached.tensors, precision)
    kinds = _kinds(model, reached.cast)
    while reached.fidelity_db < floor_db:
        left = sorted(set(kinds) - {island.operator for island in reached.islands})
        tried = []
        for kind in progress.track(left, "FP32 islands", len(left)):
            wider = keep | dict.fromkeys(kinds[kind], f"{kind} in FP32 to keep {floor_db:g} dB")
            result = measured(wider, reached.islands)
            gain_db = round(gain_decibels(reached.fidelity_db, result.fidelity_db), 2)
            tried.append((replace(result, islands=(*reached.islands, Island(kind, len(kinds[kind]), gain_db))), wider))
        best, wider = max(tried, key=lambda pair: pair[0].fidelity_db, default=(reached, keep))
        if gain_decibels(reached.fidelity_db, best.fidelity_db) < LEAST_GAIN_DB:
            raise BudgetError(
                f"In {precision.upper()} the graph keeps {decibels_text(reached.fidelity_db, 1)} dB of fidelity on its "
                f"worst frame, with {', '.join(i.operator for i in reached.islands) or 'nothing'} in FP32, and "
                f"{floor_db:g} dB were asked for; take a wider precision, or ask for less."
            )
        reached, keep = best, wider
    return reached


def _kinds(model: onnx.ModelProto, cast: CastGraph) -> dict[str, list[str]]:
    """Operator -> nodes that may become an island: those that compute, are narrow now, and are no convolution."""
    kept = {name for name, _ in cast.kept_fp32}
    kinds: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type not in MOVES and node.op_type not in CONVOLUTIONS and node.name not in kept:
            kinds.setdefault(node.op_type, []).append(node.name)
    return kinds


def _measure(
    model: onnx.ModelProto, wide: onnx.ModelProto, inputs: Sequence[NDArray[Any]]
) -> tuple[float, tuple[TensorError, ...]]:
    """Worst-frame fidelity in dB and every tensor's error: both graphs as one, each pair of tensors reduced to three
    numbers inside it, so that no map is kept."""
    pair = onnx.ModelProto()
    pair.CopyFrom(model)
    opset = max(entry.version for m in (model, wide) for entry in m.opset_import if not entry.domain)
    del pair.opset_import[:]
    pair.opset_import.append(helper.make_opsetid("", opset))
    graph = pair.graph
    source = graph.input[0].name

    def narrowed(name: str) -> str:
        return name if name in (source, "") else f"{NARROWED}{name}"

    for tensor in wide.graph.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = narrowed(tensor.name)
    for node in wide.graph.node:
        copied = graph.node.add()
        copied.CopyFrom(node)
        copied.name = f"{NARROWED}{node.name}"
        for names in (copied.input, copied.output):
            for k, name in enumerate(names):
                names[k] = narrowed(name)
    both = {name for node in wide.graph.node for name in node.output}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    floats = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    watched = [name for node in model.graph.node for name in node.output if name in both & floats]
    del graph.output[:], graph.value_info[:]
    for name in watched:
        other = narrowed(name)
        for suffix, steps in {
            "/largest": [("Abs", [name]), ("ReduceMax", None)],
            "/power": [("Mul", [name, name]), ("ReduceMean", None)],
            "/error": [("Sub", [name, other]), ("Mul", None), ("ReduceMean", None)],
        }.items():
            last = ""
            for k, (operator, inputs_of) in enumerate(steps):
                result = f"{name}{suffix}" + ("" if k == len(steps) - 1 else f"/{k}")
                given = inputs_of or ([last, last] if operator == "Mul" else [last])
                node = helper.make_node(operator, given, [result], result)
                if operator.startswith("Reduce"):
                    node.attribute.append(helper.make_attribute("keepdims", 0))
                graph.node.append(node)
                last = result
            graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, []))
    # As written: an optimiser that took a cast and its way back for nothing would measure nothing.
    session = open_session(pair, "the graph beside its cast", threads=default_threads())
    rows = np.array([session.run(None, {source: tensor}) for tensor in inputs], np.float64).reshape(
        len(inputs), len(watched), 3
    )
    worst = float(rows[:, watched.index(_judged(model)), 2].max())
    largest, power, error = rows[..., 0].max(0), rows[..., 1].mean(0), rows[..., 2].mean(0)
    return _ratio_db(_peak(model) ** 2, worst), tuple(
        TensorError(name, _ratio_db(power[k], error[k]), float(largest[k])) for k, name in enumerate(watched)
    )


def _ratio_db(power: float, error: float) -> float:
    if not math.isfinite(error):
        return -math.inf  # the narrow graph overflowed
    return 10 * math.log10(power / error) if power and error else math.inf


def _refuse_overflow(errors: Sequence[TensorError], precision: Narrow) -> None:
    limit = NARROW_TYPES[precision].largest
    beyond = [error for error in errors if not error.largest <= limit]  # NaN fails too
    if beyond:
        shown = ", ".join(f"{error.name} reaches {error.largest:.4g}" for error in beyond[:5])
        raise BudgetError(
            f"{len(beyond)} tensors leave the range of {precision.upper()} ({limit:.5g}) on these frames: {shown}. "
            "Build with --bf16, whose range is float32's, or check the checkpoint."
        )


def _judged(model: onnx.ModelProto) -> str:
    """The clamped picture: the last Clip, before any rounding to bytes; the output of a graph without one."""
    clips = [node for node in model.graph.node if node.op_type == "Clip"]
    return str(clips[-1].output[0] if clips else model.graph.output[0].name)


def _peak(model: onnx.ModelProto) -> float:
    """Length of the clamp's range: the peak of the fidelity."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    clips = [node for node in model.graph.node if node.op_type == "Clip"]
    if clips and all(name in stored for name in clips[-1].input[1:3]):
        low, high = (float(numpy_helper.to_array(stored[name])) for name in clips[-1].input[1:3])
        return high - low
    contract = _contract(model)
    return contract.high - contract.low


def _contract(model: onnx.ModelProto) -> PixelContract:
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return PixelContract.from_json(entry.value)
    raise InputError("The graph does not say which pixels it takes; export it with unblur.")
