"""The precision search with the store: a report, and every point of it as a graph again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from unblur.calibration.algorithms import BEST, check_algorithm
from unblur.calibration.manifest import Manifest
from unblur.calibration.score import HeldOut
from unblur.calibration.search.groups import find_groups, kept_convolutions
from unblur.calibration.search.ledger import Ledger
from unblur.calibration.search.page import SearchReport, write_search
from unblur.calibration.search.search import Assignment, Budget, search
from unblur.core.artefacts import atomic_path, json_text, value_digest
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.core.provenance import default_threads, machine
from unblur.core.reading import parse_json, read_regular
from unblur.graphs.facts import read_facts
from unblur.graphs.metadata import CALIBRATION_KEY, add_properties
from unblur.graphs.rewrites.forms import Form, find_form
from unblur.graphs.rewrites.keeping import NONE
from unblur.graphs.rewrites.ranges import Ranges
from unblur.pipeline.foreign import Origin
from unblur.pipeline.held_out import digest_of_frames, find_overlaps, refuse_overlaps
from unblur.pipeline.job import OPSET, CalibrationSet
from unblur.pipeline.making.bake_off import best_algorithm
from unblur.pipeline.making.eight_bits import stored_quantised
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.ranges import stored_ranges
from unblur.pipeline.search_bench import COMPILED, Assignments, Bench, Question
from unblur.pipeline.store import RUNTIMES, Store, toolchain

RANGES = "ranges.json"
KEEP = "keep.txt"
"""Names of the convolutions that the chosen point leaves wider than 8 bits: what `--keep` takes."""


@dataclass(frozen=True)
class Calibrated:
    """Ranges, and in words what they were measured on: for the recipe."""

    ranges: Ranges
    about: dict[str, Any]


def calibrated(
    store: Store, checkpoint: Origin, manifest: Manifest, form: Form, algorithm: str, held_out: Sequence[HeldOut],
    threads: int | None = None, progress: Progress = SILENT,
) -> Calibrated:  # fmt: skip
    """Ranges of a manifest's frames out of the store.

    `algorithm`: one of `algorithms_for(form)`, or "best" for the winner of a bake-off. Raises InputError for another
    one, for a held-out frame that is also in the manifest, and as `stored_ranges`.
    """
    refuse_overlaps(manifest, find_overlaps(manifest, held_out))
    of = CalibrationSet(checkpoint, manifest, threads=threads or default_threads())
    if algorithm == BEST:
        algorithm = best_algorithm(
            store, of, form, lambda name: stored_quantised(store, store.root, of, manifest.size, form, name, (),
                                                           progress), progress,
        )  # fmt: skip
    chosen = check_algorithm(algorithm, form)
    graph = stored_graph(store, checkpoint, manifest.size, of.pixels, of.opset, progress=progress)
    ranges = stored_ranges(store, store.root, graph, of, chosen, progress)
    about = {
        "algorithm": algorithm,
        "repairs": [],
        "manifest": manifest.path.name,
        "manifest_sha256": manifest.digest,
        "frames": len(manifest),
        "overlaps_with_evaluation": list(manifest.overlaps),
    }
    return Calibrated(Ranges.from_json(ranges.path.read_text()), about)


def search_precision(
    question: Question,
    store: Store,
    checkpoint: Origin,
    size: Size,
    calibrated: Calibrated,
    frames: Sequence[HeldOut],
    folder: Path,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> SearchReport:
    """Search at one (height, width); write report.json, .md, .html, ranges.json and keep.txt into `folder`.

    A killed search goes on from its ledger there, and another budget asks it first. `frames` have that size, and
    truths where the budget is one of PSNR. Raises InputError and BudgetError as `search`, and as the engine.
    """
    threads = threads or default_threads()
    if question.budget.psnr_loss_db is not None and any(held.truth is None for held in frames):
        raise InputError(
            "The budget is a loss of PSNR, but not every frame has a truth; give --truth, or a budget of fidelity."
        )
    graph = stored_graph(store, checkpoint, size, progress=progress)
    model = onnx.load(graph.path)
    recipe = {
        "engine": question.engine,
        "objective": question.objective,
        "form": _rules(question.form),
        "gpu": question.gpu if question.engine == COMPILED else None,
        "levels": list(question.levels),
        "network": checkpoint.name,
        "checkpoint_sha256": checkpoint.digest,
        "channel_order": checkpoint.contract.channel_order,
        "size": list(size),
        "opset": OPSET,
        "graph_sha256": _digest(model),
        "calibration": calibrated.about,
        "ranges_sha256": calibrated.ranges.digest,
        "frames": len(frames),
        "frames_sha256": digest_of_frames(frames),
        "threads": threads,
        "toolchain": toolchain(RUNTIMES),
        "machine": machine(),
    }
    # Decibels and costs do not depend on the budget.
    ledger = Ledger(folder / f"ledger-{value_digest(recipe)[:16]}.jsonl")
    bench = Bench(question, checkpoint, graph.path, calibrated.ranges, frames, threads, ledger)
    with closing(bench):
        result = search(
            bench.assignments.groups, question.levels, bench.score, bench.price, question.budget, ledger, progress,
            macs=read_facts(model, 0, 0).macs, price_together=bench.price_together if bench.is_noisy else None,
        )  # fmt: skip
        notes = bench.realised(result.chosen.assignment)
    pairs = f"Scored on {len(frames)} held-out frames of {size[0]}x{size[1]}."
    recipe["budget"] = asdict(question.budget)
    report = SearchReport(result, question.unit, _sentence(question.budget), recipe, (pairs, *notes))
    others = {RANGES: calibrated.ranges.to_json(), KEEP: _wide_names(model, question.form, result.chosen.assignment)}
    write_search(report, folder, {folder / name: text.encode() for name, text in others.items()})
    return report


def write_point(
    folder: Path, number: int, store: Store, checkpoint: Origin, output: Path, progress: Progress = SILENT
) -> Path:
    """Write the graph of a point of a search's report, as it was scored: for a compiled engine its FP16 graph.

    Raises InputError for a folder without a report, a number that is none of its points, ranges that are not the
    report's, another checkpoint, and a network that is exported differently today.
    """
    recipe, assignment = _point(folder, number)
    if checkpoint.digest != recipe["checkpoint_sha256"]:
        raise InputError(
            f"{folder} searched {recipe['network']} ({recipe['checkpoint_sha256'][:12]}...), {checkpoint.path} is "
            f"another ({checkpoint.digest[:12]}...); give that one with --checkpoint."
        )
    order = checkpoint.contract.channel_order
    if recipe.get("channel_order", order) != order:
        raise InputError(f"{folder} searched for weights trained on {recipe['channel_order']}; say --channel-order.")
    try:
        ranges = Ranges.from_json((folder / RANGES).read_text())
    except OSError as error:
        raise InputError(f"{folder / RANGES} cannot be read ({error.strerror}); search again.") from error
    if ranges.digest != recipe["ranges_sha256"]:
        raise InputError(f"{folder / RANGES} is not what the report was made with; search again.")
    form = find_form(recipe["form"]["name"])
    graph = stored_graph(store, checkpoint, tuple(recipe["size"]), opset=recipe["opset"], progress=progress)
    model = onnx.load(graph.path)
    if _digest(model) != recipe["graph_sha256"] or _rules(form) != recipe["form"]:
        raise InputError(
            f"This unblur exports {checkpoint.name} or writes form {form.name} differently from the one that made "
            f"{folder}; search again."
        )
    made = Assignments(model, form, ranges, recipe["engine"] == COMPILED).graph(assignment)
    if 8 in assignment.values():
        add_properties(made, {CALIBRATION_KEY: json_text(recipe["calibration"], indent=None)})
    with atomic_path(output) as temporary:
        onnx.save(made, temporary)
    return output


def _point(folder: Path, number: int) -> tuple[dict[str, Any], Assignment]:
    path = folder / "report.json"
    try:
        report = parse_json(read_regular(path))
        recipe, points = report["recipe"], {point["number"]: point["assignment"] for point in report["points"]}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name the --output of a search.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not the report of a search ({error}); name the --output of a search.") from error
    if number not in points:
        raise InputError(f"{path} has the points 1 to {len(points)}, not {number}; report.md lists them.")
    return recipe, points[number]


def _wide_names(model: onnx.ModelProto, form: Form, assignment: Assignment) -> str:
    eight = frozenset(name for name, bits in assignment.items() if bits == 8)
    names = sorted(kept_convolutions(model, form, find_groups(model, form), eight))
    return "".join(f"{name}\n" for name in names or [NONE])


def _sentence(budget: Budget) -> str:
    parts = []
    if budget.psnr_loss_db is not None:
        parts.append(f"at most {budget.psnr_loss_db:g} dB of PSNR lost")
    if budget.fidelity_db is not None:
        parts.append(f"at least {budget.fidelity_db:g} dB of fidelity")
    if budget.worst_db is not None:
        parts.append(f"at least {budget.worst_db:g} dB of fidelity on the worst frame")
    text = " and ".join(parts)
    return text[0].upper() + text[1:]


def _rules(form: Form) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(form)))  # as a report holds them: lists for tuples
    return values


def _digest(model: onnx.ModelProto) -> str:
    """Of what the graph computes: its metadata name versions of tools, which may change without it."""
    return value_digest(model.graph.SerializeToString(deterministic=True).hex())
