"""`--precision best`: build every precision, rank them, keep all, name the winner and why.

Where a GPU is at hand that runs the candidates, they are timed in turns on it. Elsewhere nothing is run: then the
ranking is by the roofline's lower bound, which is a bound and no latency.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.building.cast_frames import Smaller
from unblur.building.engine import AS_IT_IS, BuildOptions, BuiltEngine, build_engine, graph_facts, write_engine
from unblur.building.precision import PRECISIONS, Precision, precision_of
from unblur.core.artefacts import write_json
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError, MissingRuntimeError, UnblurError
from unblur.core.exclusive import exclusive
from unblur.engines.catalogue import pick_engine
from unblur.engines.tensorrt.file import EngineFile, read_engine
from unblur.engines.tensorrt.product import find_device, open_product
from unblur.engines.tensorrt.profiles import profiles_from_json
from unblur.engines.tensorrt.runner import TensorRtRunner
from unblur.engines.xray.gpus import gpus_of
from unblur.engines.xray.kernels import Kernel
from unblur.engines.xray.roofline import NOTE, can_run, roofline
from unblur.graphs.file import GraphFile, open_graph
from unblur.metrics.stopwatch import Protocol, Timed, measure

TIE = 0.01
"""Bounds or medians closer than this say nothing about which engine is faster; the more exact one is then taken."""

EXACTNESS: tuple[Precision, ...] = PRECISIONS
"""From the most exact to the least: bits of the mantissa 23, 10, 7, then the 8-bit ones."""


@dataclass(frozen=True)
class Ranked:
    """A candidate with its lower bounds in milliseconds by "GPU (target)"; `score` 1 is the least on every GPU.

    latency_ms: median of a frame's way through the engine, host to host; None where it was not measured, and where it
    was, the score is by it.
    """

    built: BuiltEngine
    precision: Precision
    bounds_ms: Mapping[str, float]
    score: float
    latency_ms: float | None = None


@dataclass(frozen=True)
class Latencies:
    """Medians in milliseconds on the GPU of that name, one for each candidate."""

    gpu: str
    medians_ms: tuple[float, ...]


@dataclass(frozen=True)
class Best:
    """The winner under its final name, all candidates from best to worst, those left out with the reason, and why."""

    winner: BuiltEngine
    ranking: tuple[Ranked, ...]
    left_out: tuple[tuple[str, str], ...]
    why: str
    report_path: Path


def ranking_of(output: Path) -> Path:
    """Where the ranking of the candidates for an engine file lies."""
    return output.with_name(output.name + ".best.json")


def candidate(output: Path, precision: str) -> Path:
    """Where the candidate of a precision lies."""
    return output.with_name(output.name + ".candidates") / f"{precision}.engine"


def build_best(
    graph: Path,
    output: Path,
    options: BuildOptions = AS_IT_IS,
    quantised: Mapping[Path, Mapping[str, Any]] | None = None,
    missing: Sequence[tuple[str, str]] = (),
    progress: Progress = SILENT,
    smaller: Smaller | None = None,
) -> Best:
    """Build a float32 graph as FP32, FP16 and BF16, and graphs of the same checkpoint that are quantised already.

    `quantised`: graph -> what its manifest shall say besides. `missing`: precisions that are not among them, and why.
    `smaller`: as `build_engine`.

    All engines stay in `<output>.candidates/`; the winner is copied to `output`, the ranking is `<output>.best.json`.
    A precision that the target or the compiler does not take is left out, with the reason. Raises InputError where
    none is left, for a graph that is not float32 and for quantised graphs of something else, and as `build_engine`.
    """
    source, model = open_graph(graph, options.output_name)
    given = precision_of(graph_facts(model, source))
    if given != "fp32":
        raise InputError(f"{graph} is {given} already; --precision best starts from the float32 graph.")
    jobs: list[tuple[Precision, Path]] = [("fp32", graph), ("fp16", graph), ("bf16", graph)]
    jobs += [(_quantised_as(path, source), path) for path in quantised or {}]
    report = ranking_of(output)
    with exclusive(report, progress.note):
        built: list[tuple[Precision, BuiltEngine]] = []
        left_out = list(missing)
        for precision, path in jobs:
            try:
                asked = replace(options, precision=precision)
                about = (quantised or {}).get(path)
                made = build_engine(path, candidate(output, precision), asked, progress, about=about, smaller=smaller)
            except MissingRuntimeError:
                raise
            except UnblurError as error:
                progress.note(f"{precision} is left out: {error}")
                left_out.append((precision, str(error)))
            else:
                built.append((precision, made))
        if not built:
            raise InputError("No precision can be built:\n" + "\n".join(f"  {p}: {why}" for p, why in left_out))
        latencies = measure_here([made for _, made in built], progress)
        ranking = rank(built, latencies)
        why = explain(ranking, latencies)
        first = ranking[0].built
        winner = write_engine(output, first.graph_path.read_bytes(), first.path.read_bytes(), dict(first.manifest))
        write_json(report, _to_json(ranking, left_out, why, output, latencies))
    return Best(winner, ranking, tuple(left_out), why, report)


def measure_here(built: Sequence[BuiltEngine], progress: Progress = SILENT) -> Latencies | None:
    """Time engines of one graph in turns on the GPU at hand; None, with a note, where none runs all of them."""
    product = open_product(built[0].manifest["product"])
    try:
        gpu = find_device(0, product).name
    except MissingRuntimeError as error:
        progress.note(f"nothing is measured, the lower bound decides: {error}")
        return None
    with ExitStack() as stack:
        timed = []
        for engine in built:
            file = read_engine(engine.path)
            try:
                runner = stack.enter_context(TensorRtRunner(pick_engine(file.product, file.precision).name, file))
            except (InputError, MissingRuntimeError) as error:
                progress.note(f"nothing is measured, the lower bound decides: {error}")
                return None
            timed.append(Timed(str(engine.path), _run(runner, _noise(file))))
        progress.note(f"timing {len(timed)} engines on {gpu}")
        session = measure(timed, Protocol())
    return Latencies(gpu, tuple(median(session.latencies_ms(one.name)) for one in timed))


def _run(runner: TensorRtRunner, tensor: NDArray[Any]) -> Callable[[int], object]:
    return lambda _: runner.run(tensor)


def _noise(file: EngineFile) -> NDArray[Any]:
    """Arithmetic takes as long on any pixels."""
    best = profiles_from_json(file.manifest["profiles"])[0].best
    return file.contract.encode(np.random.default_rng(0).integers(0, 256, (*best, 3), dtype=np.uint8))


def rank(built: Sequence[tuple[Precision, BuiltEngine]], latencies: Latencies | None = None) -> tuple[Ranked, ...]:
    """From best to worst: by the median measured, else by the mean, over the GPUs of the targets, of the lower bound
    over the least one there.

    A GPU for which a candidate has no rate does not count. Without any known GPU the bytes that the kernels move take
    the bound's place (the table of GPUs has none of sm121, for one).
    """
    bounds = [_bounds(engine) for _, engine in built]
    shared = [gpu for gpu in bounds[0] if all(gpu in each for each in bounds)]
    moved = [_moved(engine) for _, engine in built]
    if latencies:
        scores = [ms / min(latencies.medians_ms) for ms in latencies.medians_ms]
    else:
        scores = [
            fmean([bounds[k][gpu] / min(each[gpu] for each in bounds) for gpu in shared] or [moved[k] / min(moved)])
            for k in range(len(built))
        ]
    medians: Sequence[float | None] = latencies.medians_ms if latencies else [None] * len(built)
    least = min(scores)

    def order(k: int) -> tuple[float, int]:
        tied = scores[k] <= least * (1 + TIE)
        return (least if tied else scores[k], EXACTNESS.index(built[k][0]))

    return tuple(
        Ranked(built[k][1], built[k][0], {gpu: bounds[k][gpu] for gpu in shared}, scores[k], medians[k])
        for k in sorted(range(len(built)), key=order)
    )


def explain(ranking: Sequence[Ranked], latencies: Latencies | None = None) -> str:
    """Why the first is first, in a sentence or two."""
    first, *others = ranking
    if not others:
        return f"{first.precision} is the only precision that could be built."
    by = (
        f"its median on {latencies.gpu}"
        if latencies
        else "its lower bound"
        if first.bounds_ms
        else "what its kernels move (no GPU of this target is in the table)"
    )
    caveat = "" if latencies else f" Nothing was measured; a bound is {NOTE}."
    tied = [r.precision for r in others if r.score <= min(o.score for o in ranking) * (1 + TIE)]
    if tied:
        return (
            f"{first.precision}: by {by} it is level with {', '.join(tied)} (within {TIE:.0%}), and it is the more "
            f"exact.{caveat}"
        )
    return (
        f"{first.precision}: {by} is the least, {others[0].score / first.score:.2f} times less than that of "
        f"{others[0].precision}.{caveat}"
    )


def _quantised_as(path: Path, source: GraphFile) -> Precision:
    other, model = open_graph(path)
    if (other.checkpoint, other.signature) != (source.checkpoint, source.signature):
        raise InputError(
            f"{path} is of another checkpoint, size or pixel contract than {source.path}; quantise that very graph."
        )
    precision = precision_of(graph_facts(model, other))
    if precision not in ("int8", "fp8"):
        raise InputError(f"{path} is not quantised: it is {precision}; leave it out of --quantised.")
    return precision


def _bounds(engine: BuiltEngine) -> dict[str, float]:
    bounds = {}
    for target, listed in engine.manifest["targets"].items():
        kernels = [Kernel.from_json(kernel) for kernel in listed["each_kernel"]]
        for gpu in gpus_of(target):
            if can_run(kernels, gpu):
                bounds[f"{gpu.name} ({target})"] = roofline(kernels, gpu).ms
    return bounds


def _moved(engine: BuiltEngine) -> int:
    return sum(listed["bytes_moved"] for listed in engine.manifest["targets"].values())


def _to_json(
    ranking: Sequence[Ranked], left_out: Sequence[tuple[str, str]], why: str, output: Path, latencies: Latencies | None
) -> dict[str, Any]:
    return {
        "winner": ranking[0].precision,
        "why": why,
        "measured": latencies is not None,
        "gpu": latencies.gpu if latencies else None,
        "candidates": [
            {
                "precision": ranked.precision,
                "engine": ranked.built.path.relative_to(output.parent).as_posix(),
                "engine_sha256": ranked.built.manifest["engine_sha256"],
                "score": round(ranked.score, 4),
                "latency_ms_median": None if ranked.latency_ms is None else round(ranked.latency_ms, 4),
                "lower_bound_ms": {gpu: round(ms, 4) for gpu, ms in ranked.bounds_ms.items()},
                "kernels": {t: v["kernels"] for t, v in ranked.built.manifest["targets"].items()},
                "bytes_moved": {t: v["bytes_moved"] for t, v in ranked.built.manifest["targets"].items()},
            }
            for ranked in ranking
        ],
        "left_out": [{"precision": precision, "reason": reason} for precision, reason in left_out],
    }
