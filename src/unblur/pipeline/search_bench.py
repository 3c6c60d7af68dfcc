"""What a precision search asks of an assignment: its graph, its decibels, its cost, on the engine it is for.

On a CPU an assignment is scored and timed as the engine runs it. For TensorRT for RTX, which needs a GPU to run, it
is scored as its FP16 graph is written (`unblur.graphs.rewrites.emulation`) and costs what the X-ray says: bytes, or the
roofline's lower bound, never called a latency.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import onnx

from unblur.calibration.realised import Backend, realised_on_cpu
from unblur.calibration.score import HeldOut, Judge
from unblur.calibration.search.groups import Group, find_groups, kept_convolutions
from unblur.calibration.search.ledger import Ledger
from unblur.calibration.search.search import Assignment, Budget, Outcome
from unblur.core.errors import InputError
from unblur.core.leftovers import temporary_folder
from unblur.engines.catalogue import open_engine
from unblur.engines.runner import Runner
from unblur.engines.tensorrt.builder import compile_engine
from unblur.engines.xray.audit import realised_precision
from unblur.engines.xray.gpus import find_gpu
from unblur.engines.xray.kernels import XRay
from unblur.engines.xray.roofline import roofline
from unblur.graphs.facts import read_facts
from unblur.graphs.rewrites.casting import cast_graph
from unblur.graphs.rewrites.emulation import widen
from unblur.graphs.rewrites.forms import Form
from unblur.graphs.rewrites.quantise import QuantisedGraph, quantise
from unblur.graphs.rewrites.ranges import Ranges
from unblur.metrics.stopwatch import Protocol, Timed, measure
from unblur.pipeline.foreign import ForeignGraph, Origin

Objective = Literal["latency", "bytes", "macs"]
COMPILED = "tensorrt-rtx"
BACKENDS: tuple[Backend, ...] = ("openvino", "onnxruntime")
FORMS_OF: Mapping[str, tuple[str, ...]] = {
    "openvino": ("openvino", "onnxruntime"),
    "onnxruntime": ("onnxruntime", "openvino"),
    COMPILED: ("tensorrt-rtx", "tensorrt", "fp8"),
}
"""Forms that an engine runs, its own first."""

EXACT_DB = 200.0
"""Fidelity of what does not differ at all, so that reports hold a number."""

QUICK = Protocol(rounds=7, warmup_window=2, warmup_tolerance=0.1, warmup_rounds_max=4, warmup_s_max=20.0)
"""A price is one of dozens; those that come close are measured again."""

ROUNDS_MAX, ROUNDS_S = 30, 5.0
"""A network that is quick gets more rounds, as far as the widest graph's fill so many seconds."""


@dataclass(frozen=True)
class Question:
    """What to search for: an engine of FORMS_OF, an objective, a budget, a form; for COMPILED a GPU to bound.

    levels: bits a group may have, () for 8 and 32 on a CPU, 8 and 16 on a GPU. Raises InputError for what does not go
    together.
    """

    engine: str
    objective: Objective
    budget: Budget
    form: Form
    gpu: str = "RTX 4090"
    levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.engine not in FORMS_OF:
            raise InputError(f"A search runs for {', '.join(FORMS_OF)}; got {self.engine!r}.")
        if self.form.name not in FORMS_OF[self.engine]:
            known = " or ".join(FORMS_OF[self.engine])
            raise InputError(f"{self.engine} does not run form {self.form.name} in 8 bits; take {known}.")
        if self.objective == "bytes" and self.engine != COMPILED:
            raise InputError(f"Bytes are read from the X-ray: search for --engine {COMPILED}, or for latency or macs.")
        gpu = find_gpu(self.gpu) if self.engine == COMPILED else None
        if gpu and self.form.precision == "fp8" and gpu.fp8 is None:
            raise InputError(f"{gpu.name} has no FP8; take form tensorrt-rtx, or a GPU from SM 8.9 on.")
        if not self.levels:
            object.__setattr__(self, "levels", (8, 16) if self.engine == COMPILED else (8, 32))
        if self.engine != COMPILED and 16 in self.levels:
            raise InputError(f"{self.engine} computes what is not 8 bits in float32; search with levels 8 and 32.")

    @property
    def unit(self) -> str:
        """Of the cost."""
        if self.objective == "macs":
            return "G multiply-accumulates, each weighted with its bits / 32"
        if self.objective == "bytes":
            return f"GB moved a frame ({find_gpu(self.gpu).target})"
        if self.engine == COMPILED:
            return f"ms a frame at least on {find_gpu(self.gpu).name} (roofline, not a latency)"
        return f"ms a frame ({self.engine}, this machine)"


class Assignments:
    """Assignments of one float32 graph of one size, as graphs.

    groups: what is decided on. Raises InputError as `find_groups`.
    """

    def __init__(self, model: onnx.ModelProto, form: Form, ranges: Ranges, cast_to_fp16: bool) -> None:
        self.model, self._form, self._ranges, self._cast = model, form, ranges, cast_to_fp16
        self.groups: tuple[Group, ...] = find_groups(model, form)

    def quantised(self, assignment: Assignment) -> QuantisedGraph | None:
        """With its Q/DQ and the rest in float32; None where no group is in 8 bits. Raises InputError as `quantise`."""
        eight = frozenset(name for name, bits in assignment.items() if bits == 8)
        if not eight:
            return None
        keep = kept_convolutions(self.model, self._form, self.groups, eight)
        return quantise(self.model, self._ranges, self._form, keep=keep)

    def graph(self, assignment: Assignment) -> onnx.ModelProto:
        """What the engine is given: for a compiled one the rest is FP16 but for groups of 32 bits."""
        quantised = self.quantised(assignment)
        model = quantised.model if quantised else self.model
        if not self._cast:
            return model
        wide = {
            name: "the search left it in FP32"
            for group in self.groups
            if assignment[group.name] == 32
            for name in group.convolutions
        }
        return cast_graph(model, "fp16", wide).model


class Bench:
    """Scores and prices assignments of a question."""

    def __init__(
        self,
        question: Question,
        checkpoint: Origin,
        graph: Path,
        ranges: Ranges,
        frames: Sequence[HeldOut],
        threads: int,
        ledger: Ledger,
    ) -> None:
        """`graph`: the float32 graph of one size. `ledger`: what latencies of a killed search were scaled with.

        Raises InputError as `Judge` and `Assignments`.
        """
        self._question, self._checkpoint, self._threads, self._ledger = question, checkpoint, threads, ledger
        self.assignments = Assignments(onnx.load(graph), question.form, ranges, question.engine == COMPILED)
        self._judge = Judge(graph, frames, threads)
        self._widest: Runner | None = None

    def score(self, assignment: Assignment) -> Outcome:
        """Fidelity, at most EXACT_DB, and the loss of PSNR. Raises InputError for NaN or infinity."""
        model = self.assignments.graph(assignment)
        if self._question.engine == COMPILED:
            score = self._judge.score(widen(model, "fp16"), exact=True)
        else:
            with closing(self._open(model)) as runner:
                score = self._judge.compare(runner.run(tensor) for tensor in self._judge.inputs)
        mean_db, worst_db = (min(value, EXACT_DB) for value in (score.fidelity_db_mean, score.fidelity_db_worst))
        return Outcome(mean_db, score.psnr_loss_db, worst_db)

    def price(self, assignment: Assignment) -> float:
        """The cost in `Question.unit`."""
        question = self._question
        if question.objective == "macs":
            return sum(group.macs * assignment[group.name] for group in self.assignments.groups) / 32e9
        if question.engine == COMPILED:
            xray = self._xray(self.assignments.graph(assignment))
            bound_ms = roofline(xray.kernels, find_gpu(question.gpu)).ms
            return xray.bytes_moved / 1e9 if question.objective == "bytes" else bound_ms
        return self._latencies_ms([self.assignments.graph(assignment)])[0]

    def realised(self, assignment: Assignment) -> tuple[str, ...]:
        """Sentences of what the engine makes of an assignment: a graph may ask for 8 bits and not get them."""
        quantised = self.assignments.quantised(assignment)
        if quantised is None:
            return ()
        if self._question.engine == COMPILED:
            target = find_gpu(self._question.gpu).target
            model = self.assignments.graph(assignment)
            facts = read_facts(model, 0, 0)
            kinds = realised_precision(self._xray(model), [c.name for c in facts.convolutions])
            macs = Counter[str]()
            for convolution in facts.convolutions:
                macs[kinds[convolution.name]] += convolution.macs
            shares = ", ".join(f"{count / facts.macs:.1%} in {kind}" for kind, count in macs.most_common())
            return (f"Compiled for {target} it runs, of the multiply-accumulates, {shares}.",)
        backend = next(name for name in BACKENDS if name == self._question.engine)
        found = realised_on_cpu(quantised, backend)
        emulated = f", {len(found.emulated)} in floating point though 8 bits were asked for" if found.emulated else ""
        return (f"{backend} runs {found.macs_share:.1%} of the multiply-accumulates in 8 bits{emulated}.",)

    def close(self) -> None:
        """Release the engine that prices are compared with."""
        if self._widest is not None:
            self._widest.close()

    @property
    def is_noisy(self) -> bool:
        """Whether a price is a measurement of time."""
        return self._question.objective == "latency" and self._question.engine != COMPILED

    def price_together(self, assignments: Sequence[Assignment]) -> list[float]:
        """Latencies measured in turn with each other, in more rounds than `price` has."""
        return self._latencies_ms([self.assignments.graph(assignment) for assignment in assignments], 3)

    def _latencies_ms(self, models: Sequence[onnx.ModelProto], more: int = 1) -> list[float]:
        """Medians of rounds in turn with the widest graph, scaled by what that one took when it was first timed.

        A search takes minutes; a machine that slows down meanwhile would otherwise favour what was priced first.
        """
        tensor = self._judge.inputs[0]

        def timed(name: str, runner: Runner) -> Timed:
            return Timed(name, lambda _: runner.run(tensor))

        def first() -> float:
            return median(measure([timed("widest", widest)], QUICK).latencies_ms("widest"))

        widest = self._widest = self._widest or self._open(self.assignments.model)
        first_ms = float(self._ledger.get("latency of the widest, ms", first))
        rounds = max(QUICK.rounds, min(ROUNDS_MAX, round(ROUNDS_S * 1000 / first_ms)))
        with ExitStack() as opened:
            runners = [widest, *(opened.enter_context(closing(self._open(model))) for model in models)]
            candidates = [timed(str(k), runner) for k, runner in enumerate(runners)]
            session = measure(candidates, replace(QUICK, rounds=more * rounds))
        samples = np.array([session.latencies_ms(candidate.name) for candidate in candidates])
        ratios: list[float] = np.median(samples[1:] / samples[0], axis=1).tolist()
        return [first_ms * ratio for ratio in ratios]

    def _xray(self, model: onnx.ModelProto) -> XRay:
        compiled = compile_engine(model.SerializeToString(), (find_gpu(self._question.gpu).target,))
        return next(iter(compiled.xrays.values()))

    def _open(self, model: onnx.ModelProto) -> Runner:
        of = None if isinstance(self._checkpoint, ForeignGraph) else self._checkpoint
        with temporary_folder() as folder:  # for no longer: a search opens hundreds
            onnx.save(model, folder / "graph.onnx")
            return open_engine(self._question.engine, of, folder / "graph.onnx", self._threads)
