"""`--precision best`: build every precision, rank them by their kernels, keep all, name the winner and why.

Nothing is run: the ranking is by the roofline's lower bound, which is a bound and no latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from unblur.core.artefacts import write_json
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError, MissingRuntimeError, UnblurError
from unblur.core.exclusive import exclusive
from unblur.engines.gpus import gpus_of
from unblur.engines.graph_file import GraphFile, read_graph
from unblur.engines.roofline import NOTE, can_run, roofline
from unblur.engines.xray import Kernel
from unblur.export.build import AS_IT_IS, BuildOptions, BuiltEngine, build_engine, graph_facts, write_engine
from unblur.export.precision import PRECISIONS, Precision, precision_of

TIE = 0.01
"""Lower bounds closer than this say nothing about which engine is faster; the more exact one is then taken."""

EXACTNESS: tuple[Precision, ...] = PRECISIONS
"""From the most exact to the least: bits of the mantissa 23, 10, 7, then the 8-bit ones."""


@dataclass(frozen=True)
class Ranked:
    """A candidate with its lower bounds in milliseconds by "GPU (target)"; `score` 1 is the least on every GPU."""

    built: BuiltEngine
    precision: Precision
    bounds_ms: Mapping[str, float]
    score: float


@dataclass(frozen=True)
class Best:
    """The winner under its final name, all candidates from best to worst, those left out with the reason, and why."""

    winner: BuiltEngine
    ranking: tuple[Ranked, ...]
    left_out: tuple[tuple[str, str], ...]
    why: str
    report_path: Path


def build_best(
    graph: Path,
    output: Path,
    options: BuildOptions = AS_IT_IS,
    quantised: Sequence[Path] = (),
    progress: Progress = SILENT,
) -> Best:
    """Build a float32 graph as FP32, FP16 and BF16, and graphs of the same checkpoint that are quantised already.

    All engines stay in `<output>.candidates/`; the winner is copied to `output`, the ranking is `<output>.best.json`.
    A precision that the target or the compiler does not take is left out, with the reason. Raises InputError where
    none is left, for a graph that is not float32 and for quantised graphs of something else, and as `build_engine`.
    """
    source = read_graph(graph)
    given = precision_of(graph_facts(onnx.load(graph), source))
    if given != "fp32":
        raise InputError(f"{graph} is {given} already; --precision best starts from the float32 graph.")
    jobs: list[tuple[Precision, Path]] = [("fp32", graph), ("fp16", graph), ("bf16", graph)]
    jobs += [(_quantised_as(path, source), path) for path in quantised]
    folder = output.with_name(output.name + ".candidates")
    with exclusive(output.with_name(output.name + ".best.json"), progress.note):
        built: list[tuple[Precision, BuiltEngine]] = []
        left_out: list[tuple[str, str]] = []
        for precision, path in jobs:
            try:
                made = build_engine(
                    path, folder / f"{precision}.engine", replace(options, precision=precision), progress
                )
            except MissingRuntimeError:
                raise
            except UnblurError as error:
                progress.note(f"{precision} is left out: {error}")
                left_out.append((precision, str(error)))
            else:
                built.append((precision, made))
        if not built:
            raise InputError("No precision can be built:\n" + "\n".join(f"  {p}: {why}" for p, why in left_out))
        ranking = rank(built)
        why = explain(ranking)
        first = ranking[0].built
        winner = write_engine(output, first.graph_path.read_bytes(), first.path.read_bytes(), dict(first.manifest))
        report = output.with_name(output.name + ".best.json")
        write_json(report, _to_json(ranking, left_out, why, output))
    return Best(winner, ranking, tuple(left_out), why, report)


def rank(built: Sequence[tuple[Precision, BuiltEngine]]) -> tuple[Ranked, ...]:
    """From best to worst: by the mean, over the GPUs of the targets, of the lower bound over the least one there.

    A GPU for which a candidate has no rate does not count. Without any known GPU the bytes that the kernels move take
    the bound's place (the table of GPUs has none of sm121, for one).
    """
    bounds = [_bounds(engine) for _, engine in built]
    shared = [gpu for gpu in bounds[0] if all(gpu in each for each in bounds)]
    moved = [_moved(engine) for _, engine in built]
    scores = []
    for k in range(len(built)):
        ratios = [bounds[k][gpu] / min(each[gpu] for each in bounds) for gpu in shared] or [moved[k] / min(moved)]
        scores.append(sum(ratios) / len(ratios))
    least = min(scores)

    def order(k: int) -> tuple[float, int]:
        tied = scores[k] <= least * (1 + TIE)
        return (least if tied else scores[k], EXACTNESS.index(built[k][0]))

    return tuple(
        Ranked(built[k][1], built[k][0], {gpu: bounds[k][gpu] for gpu in shared}, scores[k])
        for k in sorted(range(len(built)), key=order)
    )


def explain(ranking: Sequence[Ranked]) -> str:
    """Why the first is first, in a sentence."""
    first, *others = ranking
    if not others:
        return f"{first.precision} is the only precision that could be built."
    by = "its lower bound" if first.bounds_ms else "what its kernels move (no GPU of this target is in the table)"
    tied = [r.precision for r in others if r.score <= min(o.score for o in ranking) * (1 + TIE)]
    if tied:
        return (
            f"{first.precision}: by {by} it is level with {', '.join(tied)} (within {TIE:.0%}), and it is the more "
            f"exact. Nothing was measured; a bound is {NOTE}."
        )
    return (
        f"{first.precision}: {by} is the least, {others[0].score / first.score:.2f} times less than that of "
        f"{others[0].precision}. Nothing was measured; a bound is {NOTE}."
    )


def _quantised_as(path: Path, source: GraphFile) -> Precision:
    other = read_graph(path)
    if (other.checkpoint, other.signature) != (source.checkpoint, source.signature):
        raise InputError(
            f"{path} is of another checkpoint, size or pixel contract than {source.path}; quantise that very graph."
        )
    precision = precision_of(graph_facts(onnx.load(path), other))
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


def _to_json(ranking: Sequence[Ranked], left_out: Sequence[tuple[str, str]], why: str, output: Path) -> dict[str, Any]:
    return {
        "winner": ranking[0].precision,
        "why": why,
        "measured": False,
        "candidates": [
            {
                "precision": ranked.precision,
                "engine": ranked.built.path.relative_to(output.parent).as_posix(),
                "engine_sha256": ranked.built.manifest["engine_sha256"],
                "score": round(ranked.score, 4),
                "lower_bound_ms": {gpu: round(ms, 4) for gpu, ms in ranked.bounds_ms.items()},
                "kernels": {t: v["kernels"] for t, v in ranked.built.manifest["targets"].items()},
                "bytes_moved": {t: v["bytes_moved"] for t, v in ranked.built.manifest["targets"].items()},
            }
            for ranked in ranking
        ],
        "left_out": [{"precision": precision, "reason": reason} for precision, reason in left_out],
    }
