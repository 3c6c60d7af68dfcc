"""Which nodes keep FP32 is measured: cast everything, look at the decibels, widen what costs most until it suffices.

On frames, against the float32 graph, with the emulation of `unblur.graphs.rewrites.emulation`. Beside the decision each
tensor gets its own signal-to-noise ratio and its largest value, so that an overflow is found before a build and a
person sees where the precision goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import onnx
from onnx import numpy_helper

from unblur.building.cast_frames import CastFrames
from unblur.core.console import SILENT, Progress
from unblur.core.errors import BudgetError, InputError
from unblur.graphs.blame import GraphPair
from unblur.graphs.facts import CONVOLUTIONS
from unblur.graphs.metadata import contract_of
from unblur.graphs.rewrites.casting import NARROW_TYPES, CastGraph, Narrow, cast_graph
from unblur.graphs.rewrites.emulation import MOVES, widen
from unblur.graphs.tensor_error import ROUNDING_DB, TensorError, first_parting, ratio_db
from unblur.metrics.decibels import check_limit, decibels_text, decibels_to_json, gain_decibels

FLOORS_DB: Mapping[Narrow, float] = {"fp16": 60.0, "bf16": 45.0}
"""Fidelity that a cast must keep on its worst frame unless the caller asks for another."""

LEAST_GAIN_DB = 0.1
"""An island that gains less is not worth its casts; then no island is left to try."""


@dataclass(frozen=True)
class Island:
    """All nodes of one operator, kept in FP32, and what that gained when it was chosen."""

    operator: str
    nodes: int
    gain_db: float


@dataclass(frozen=True)
class Judged:
    """What a cast was judged on, in words, and its fidelity on the worst frame of it."""

    on: str
    fidelity_db: float


@dataclass(frozen=True)
class MeasuredCast:
    """A cast graph with its worst-frame fidelity in dB (peak: the clamp's range), by emulation in float32.

    `tensors` are of the first that it was judged on.
    """

    cast: CastGraph
    judged: tuple[Judged, ...]
    islands: tuple[Island, ...]
    tensors: tuple[TensorError, ...]

    @property
    def fidelity_db(self) -> float:
        return min(one.fidelity_db for one in self.judged)

    def to_json(self) -> dict[str, Any]:
        """For a manifest, in strict JSON: "Infinity" is exact, "-Infinity" an overflow."""

        def rounded(value: float) -> float | str | None:
            return decibels_to_json(round(value, 2))

        return {
            "judged_on": [asdict(one) | {"fidelity_db": rounded(one.fidelity_db)} for one in self.judged],
            "fidelity_db": rounded(self.fidelity_db),
            "islands": [asdict(island) | {"gain_db": rounded(island.gain_db)} for island in self.islands],
            "tensors": [
                {"name": tensor.name, "snr_db": rounded(tensor.snr_db), "largest": tensor.largest}
                for tensor in self.tensors
            ],
        }


def cast_measured(
    model: onnx.ModelProto,
    precision: Narrow,
    frames: Sequence[CastFrames],
    floor_db: float | None = None,
    progress: Progress = SILENT,
) -> MeasuredCast:
    """Cast a float32 graph and keep in FP32 what it takes to reach `floor_db` (None: FLOORS_DB) on every frame.

    `frames`: RGB uint8 (height, width, 3) of the graph's size, or of that of their own graph of the same weights. What
    the first ask for is kept when the next are measured, which may ask for more.

    Raises InputError without frames or as `cast_graph`; BudgetError when a tensor overflows the precision on a frame
    (with its value), or when no choice of islands reaches the floor (with the best).
    """
    if not all(judged.frames for judged in frames) or not frames:
        raise InputError("A cast is measured on frames and none were given.")
    check_limit("The fidelity to keep", floor_db)
    floor_db = FLOORS_DB[precision] if floor_db is None else floor_db
    islands: tuple[Island, ...] = ()
    judged: list[Judged] = []
    tensors: tuple[TensorError, ...] = ()
    for on in frames:
        progress.note(f"measuring the graph in {precision.upper()} on {on.source}")
        bench = _Bench(model if on.model is None else on.model, precision, on, floor_db)
        reached = bench.measure(islands)
        _refuse_overflow(reached.tensors, precision)
        reached = _islands(bench, reached, floor_db, progress)
        islands, tensors = reached.islands, tensors or reached.tensors
        judged.append(Judged(on.source, reached.fidelity_db))
    return MeasuredCast(cast_graph(model, precision, _keep(model, islands, floor_db)), tuple(judged), islands, tensors)


@dataclass(frozen=True)
class _Reached:
    """What a choice of islands reaches, and the float32 nodes of the cast."""

    islands: tuple[Island, ...]
    fidelity_db: float
    tensors: tuple[TensorError, ...]
    kept: frozenset[str]


class _Bench:
    """Casts of one graph, measured on its frames."""

    def __init__(self, model: onnx.ModelProto, precision: Narrow, on: CastFrames, floor_db: float) -> None:
        self.model, self.precision, self._floor_db = model, precision, floor_db
        contract = contract_of(model)
        self._inputs = [contract.encode(frame) for frame in on.frames]

    def measure(self, islands: tuple[Island, ...]) -> _Reached:
        cast = cast_graph(self.model, self.precision, _keep(self.model, islands, self._floor_db))
        errors = GraphPair(self.model, widen(cast.model, self.precision)).errors(self._inputs)
        judged = next(error for error in errors if error.name == _judged(self.model))
        fidelity_db = ratio_db(_peak(self.model) ** 2, judged.worst_error)
        return _Reached(islands, fidelity_db, errors, frozenset(name for name, _ in cast.kept_fp32))

    def kinds(self, kept: frozenset[str]) -> dict[str, int]:
        """Operator -> number of nodes, where they may become an island: those that compute, are narrow now, and are no
        convolution."""
        kinds: dict[str, int] = {}
        for node in self.model.graph.node:
            if node.op_type not in MOVES and node.op_type not in CONVOLUTIONS and node.name not in kept:
                kinds[node.op_type] = kinds.get(node.op_type, 0) + 1
        return kinds


def _islands(bench: _Bench, reached: _Reached, floor_db: float, progress: Progress) -> _Reached:
    """The operator that gains most becomes an island, until the floor is reached."""
    while reached.fidelity_db < floor_db:
        kinds = bench.kinds(reached.kept)
        tried = []
        for kind in progress.track(sorted(kinds), "FP32 islands", len(kinds)):
            result = bench.measure((*reached.islands, Island(kind, kinds[kind], 0.0)))
            gain_db = round(gain_decibels(reached.fidelity_db, result.fidelity_db), 2)
            tried.append(replace(result, islands=(*reached.islands, Island(kind, kinds[kind], gain_db))))
        best = max(tried, key=lambda one: one.fidelity_db, default=reached)
        if gain_decibels(reached.fidelity_db, best.fidelity_db) < LEAST_GAIN_DB:
            precision = bench.precision.upper()
            parting = first_parting(reached.tensors, ROUNDING_DB[bench.precision])
            where = f" It is first lost in {parting.node} ({parting.lost_db:.0f} dB)." if parting else ""
            raise BudgetError(
                f"In {precision} the graph keeps {decibels_text(reached.fidelity_db, 1)} dB of fidelity on its "
                f"worst frame, with {', '.join(i.operator for i in reached.islands) or 'nothing'} in FP32, and "
                f"{floor_db:g} dB were asked for; take a wider precision, or ask for less.{where}"
            )
        reached = best
    return reached


def _keep(model: onnx.ModelProto, islands: Sequence[Island], floor_db: float) -> dict[str, str]:
    """Node -> why it stays in FP32."""
    kept = {island.operator for island in islands}
    return {
        node.name: f"{node.op_type} in FP32 to keep {floor_db:g} dB"
        for node in model.graph.node
        if node.op_type in kept
    }


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
    contract = contract_of(model)
    return contract.high - contract.low
