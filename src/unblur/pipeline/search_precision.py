"""The precision search on a real network: graphs from the store, scores and costs from the engine they are for.

On a CPU an assignment is scored and timed as the engine runs it. For TensorRT for RTX, which needs a GPU to run, it
is scored as the graph is written (ONNX Runtime, optimisations off, the rest in float32; what FP16 loses besides is
measured once) and costs what the X-ray's roofline says: a lower bound, never called a latency.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from unblur.calibration.forms import Form, find_form
from unblur.calibration.groups import Group, find_groups, kept_convolutions
from unblur.calibration.ledger import Ledger
from unblur.calibration.quantise import quantise, tensors_to_measure
from unblur.calibration.ranges import Ranges
from unblur.calibration.search import Assignment, Budget, Outcome, search
from unblur.calibration.search_page import SearchReport, write_search
from unblur.compare.frames import FrameFile
from unblur.core.artefacts import value_digest
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.engines.catalogue import default_threads, open_engine
from unblur.engines.gpus import find_gpu
from unblur.engines.roofline import roofline
from unblur.engines.runner import Runner
from unblur.engines.tensorrt_builder import compile_engine
from unblur.engines.written_graph import WrittenGraph
from unblur.export.casting import cast_graph
from unblur.images.contract import Frame, PixelContract
from unblur.metrics.quality import psnr_db
from unblur.metrics.stopwatch import Protocol, Timed, measure
from unblur.networks.checkpoints import Checkpoint

Objective = Literal["latency", "bytes", "macs"]
CPU_ENGINES = ("onnxruntime", "openvino")
COMPILED = "tensorrt-rtx"

QUICK = Protocol(rounds=7, warmup_window=2, warmup_tolerance=0.1, warmup_rounds_max=4, warmup_s_max=20.0)
"""A price is one of dozens; the choice is measured again, with care, by a comparison."""


@dataclass(frozen=True)
class Question:
    """What to search for: an engine (CPU_ENGINES or COMPILED), an objective, a budget; for COMPILED a GPU to bound."""

    engine: str
    objective: Objective
    budget: Budget
    form: Form
    gpu: str = "RTX 4090"

    def __post_init__(self) -> None:
        if self.engine not in (*CPU_ENGINES, COMPILED):
            raise InputError(f"A search runs for {', '.join((*CPU_ENGINES, COMPILED))}; got {self.engine!r}.")
        if self.objective == "bytes" and self.engine != COMPILED:
            raise InputError(f"Bytes are read from the X-ray: search for --engine {COMPILED}, or for latency or macs.")

    @property
    def levels(self) -> tuple[int, ...]:
        """Bits a group may have: a CPU computes the rest in float32, a GPU in FP16."""
        return (8, 32) if self.engine in CPU_ENGINES else (8, 16)

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


def default_form(engine: str) -> Form:
    """The form made for an engine of a search."""
    return find_form(engine)


def search_precision(
    question: Question,
    checkpoint: Checkpoint,
    graph: Path,
    ranges: Callable[[Sequence[str]], Ranges],
    frames: Sequence[FrameFile],
    folder: Path,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> SearchReport:
    """Search and write report.json, .md and .html into `folder`, where a killed search also goes on from.

    `graph`: the float32 graph of one size; `ranges` gives the ranges of tensors it is asked for; `frames` have that
    size, and truths where the budget is one of PSNR. Raises InputError and BudgetError as `search`, and as the engine.
    """
    model = onnx.load(graph)
    groups = find_groups(model, question.form)
    widest = kept_convolutions(model, question.form, groups, frozenset(group.name for group in groups))
    measured = ranges(tensors_to_measure(model, question.form, widest))
    bench = _Bench(question, checkpoint, model, groups, measured, frames, threads or default_threads())
    recipe = bench.recipe()
    ledger = Ledger(folder / f"ledger-{value_digest(recipe)[:16]}.jsonl")
    with closing(bench):
        result = search(groups, question.levels, bench.score, bench.price, question.budget, ledger, progress)
    budget = " and ".join(
        text
        for text, value in (
            (f"at most {question.budget.psnr_loss_db} dB of PSNR lost", question.budget.psnr_loss_db),
            (f"at least {question.budget.fidelity_db} dB of fidelity", question.budget.fidelity_db),
        )
        if value is not None
    )
    report = SearchReport(result, question.unit, budget[0].upper() + budget[1:], recipe)
    write_search(report, folder)
    return report


class _Bench:
    """Realises assignments as graphs, scores and prices them."""

    def __init__(
        self,
        question: Question,
        checkpoint: Checkpoint,
        model: onnx.ModelProto,
        groups: Sequence[Group],
        ranges: Ranges,
        frames: Sequence[FrameFile],
        threads: int,
    ) -> None:
        self._question, self._checkpoint, self._model, self._groups = question, checkpoint, model, tuple(groups)
        self._ranges, self._threads = ranges, threads
        self._pairs = [frame.read() for frame in frames]
        self._digests = [value_digest(frame.tobytes().hex()) for frame, _ in self._pairs]
        self._contract = PixelContract.from_json(_property(model, "unblur.pixel_contract"))
        self._folder = tempfile.TemporaryDirectory(prefix="unblur-")
        self._widest: tuple[Runner, float] | None = None
        reference = WrittenGraph(model, threads=threads)
        self._expected = [self._through(reference, frame) for frame, _ in self._pairs]

    def recipe(self) -> dict[str, Any]:
        """All that the results depend on."""
        question = self._question
        return {
            "engine": question.engine,
            "objective": question.objective,
            "form": question.form.name,
            "gpu": question.gpu if question.engine == COMPILED else None,
            "budget": asdict(question.budget),
            "levels": list(question.levels),
            "checkpoint_sha256": self._checkpoint.digest,
            "graph_sha256": value_digest(self._model.SerializeToString().hex()),
            "ranges": self._ranges.algorithm,
            "ranges_sha256": self._ranges.digest,
            "frames_sha256": value_digest(self._digests),
            "threads": self._threads,
        }

    def realise(self, assignment: Assignment) -> onnx.ModelProto:
        """The graph of an assignment, the rest in float32."""
        eight = frozenset(name for name, bits in assignment.items() if bits == 8)
        if not eight:
            return self._model
        keep = kept_convolutions(self._model, self._question.form, self._groups, eight)
        return quantise(self._model, self._ranges, self._question.form, keep=keep).model

    def score(self, assignment: Assignment) -> Outcome:
        model = self.realise(assignment)
        if self._question.engine == COMPILED:
            graph = WrittenGraph(model, threads=self._threads)
            got = [self._through(graph, frame) for frame, _ in self._pairs]
        else:
            with closing(self._open(model)) as runner:
                got = [runner.run(self._contract.encode(frame)) for frame, _ in self._pairs]
        span = self._contract.high - self._contract.low
        fidelity = fmean(min(psnr_db(a, b, peak=span), 200.0) for a, b in zip(self._expected, got, strict=True))
        losses = [
            psnr_db(self._decode(a, truth), truth, peak=255) - psnr_db(self._decode(b, truth), truth, peak=255)
            for a, b, (_, truth) in zip(self._expected, got, self._pairs, strict=True)
            if truth is not None
        ]
        return Outcome(fidelity, fmean(losses) if losses else None)

    def price(self, assignment: Assignment) -> float:
        question = self._question
        if question.objective == "macs":
            return sum(group.macs * assignment[group.name] for group in self._groups) / 32e9
        if question.engine == COMPILED:
            gpu = find_gpu(question.gpu)
            wide = {
                name: "the search left it in FP32"
                for group in self._groups
                if assignment[group.name] == 32
                for name in group.convolutions
            }
            cast = cast_graph(self.realise(assignment), "fp16", wide).model
            xray = next(iter(compile_engine(cast.SerializeToString(), (gpu.target,)).xrays.values()))
            return xray.bytes_moved / 1e9 if question.objective == "bytes" else roofline(xray.kernels, gpu).ms
        return self._latency_ms(self.realise(assignment))

    def close(self) -> None:
        """Release the engine that prices are compared with, and the temporary graphs."""
        if self._widest is not None:
            self._widest[0].close()
        self._folder.cleanup()

    def _latency_ms(self, model: onnx.ModelProto) -> float:
        """Median of rounds in turn with the widest graph, scaled by what that one took when it was first timed.

        A search takes minutes; a machine that slows down meanwhile would otherwise favour what was priced first.
        """
        tensor = self._contract.encode(self._pairs[0][0])
        if self._widest is None:
            runner = self._open(self._model)
            session = measure([Timed("widest", lambda _: runner.run(tensor))], QUICK)
            self._widest = (runner, median(session.latencies_ms("widest")))
        widest, first_ms = self._widest
        with closing(self._open(model)) as runner:
            candidates = [Timed("widest", lambda _: widest.run(tensor)), Timed("it", lambda _: runner.run(tensor))]
            session = measure(candidates, QUICK)
        ratios = [a / b for a, b in zip(session.latencies_ms("it"), session.latencies_ms("widest"), strict=True)]
        return first_ms * median(ratios)

    def _open(self, model: onnx.ModelProto) -> Runner:
        path = Path(self._folder.name) / "candidate.onnx"
        onnx.save(model, path)
        return open_engine(self._question.engine, self._checkpoint, path, self._threads)

    def _through(self, graph: WrittenGraph, frame: Frame) -> NDArray[np.float32]:
        return next(iter(graph.run(self._contract.encode(frame)).values()))

    def _decode(self, tensor: NDArray[Any], truth: Frame) -> Frame:
        return self._contract.decode(tensor, truth.shape[0], truth.shape[1])


def _property(model: onnx.ModelProto, key: str) -> str:
    properties: Mapping[str, str] = {entry.key: entry.value for entry in model.metadata_props}
    return properties[key]
