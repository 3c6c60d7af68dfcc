"""A network's 8-bit graph for whoever ships it: the algorithms side by side, the best of them held to a budget."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from unblur.calibration.repairs.names import check_repairs
from unblur.calibration.scales import demand_fitting_scales, misfit_scales
from unblur.calibration.score import HeldOut, Score
from unblur.core.artefacts import atomic_paths, json_bytes
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import BudgetError, InputError
from unblur.graphs.facts import read_facts
from unblur.graphs.file import read_graph
from unblur.graphs.metadata import calibration_of
from unblur.graphs.rewrites.forms import Form
from unblur.metrics.decibels import best_first
from unblur.pipeline.held_out import digest_of_frames, find_overlaps, refuse_overlaps
from unblur.pipeline.job import CalibrationSet
from unblur.pipeline.making.bake_off import Scored, bake_off, worth_trying
from unblur.pipeline.making.eight_bits import stored_quantised
from unblur.pipeline.store import RUNTIMES, Artefact, Store, toolchain

FORMAT = "unblur calibration 1"


@dataclass(frozen=True)
class Limits:
    """A budget in dB, None where nothing is demanded: fidelity of the worst frame, loss of mean PSNR against truth."""

    fidelity_db: float | None = None
    psnr_loss_db: float | None = None

    def enforce(self, what: str, score: Score) -> None:
        """Raise BudgetError where the score breaks them."""
        score.enforce(what, self.fidelity_db, self.psnr_loss_db)


@dataclass(frozen=True)
class Calibrated:
    """`scored`: the best mean fidelity first, one for each algorithm with the repairs that were asked for; where nobody
    chose any and several compete, one for each without, and the winner with those of `worth_trying` besides. `chosen`
    is the first within the budget.

    `unrepaired`: the chosen algorithm's score without repairs, None where there are none. `overlaps`: calibration
    frames that are evaluation frames too, because a person insisted.
    """

    of: CalibrationSet
    size: Size
    form: Form
    scored: tuple[Scored, ...]
    chosen: Scored
    unrepaired: Score | None
    overlaps: tuple[str, ...]
    macs_share: float


def calibrate_network(
    store: Store,
    of: CalibrationSet,
    size: Size,
    form: Form,
    algorithms: Sequence[str],
    repairs: Sequence[str],
    held_out: Sequence[HeldOut],
    limits: Limits,
    *,
    allow_overlap: bool = False,
    progress: Progress = SILENT,
) -> Calibrated:
    """Quantise with the ranges of each algorithm and score it on the held-out frames; the winner of several also with
    repairs, where none was asked for.

    Raises InputError as the steps do, for a held-out frame of another size before any of them, and for one that is also
    in the manifest unless `allow_overlap`;
    BudgetError where no algorithm keeps the limits, telling what the best one reaches, and, where there are limits,
    for a scale that does not fit its map.
    """
    repairs = check_repairs(repairs)
    first, *others = worth_trying(repairs, form) if len(algorithms) > 1 else (repairs,)
    for number, held in enumerate(held_out, start=1):
        if of.checkpoint.contract.padded_size(*held.frame.shape[:2]) != size:
            height, width = held.frame.shape[:2]
            raise InputError(
                f"Held-out frame {number} is {height}x{width}, the graph {size[0]}x{size[1]}; crop it, or say --height "
                "and --width."
            )
    overlaps = find_overlaps(of.manifest, held_out)
    if not allow_overlap:
        refuse_overlaps(of.manifest, overlaps)
    digest = digest_of_frames(held_out)

    def score(names: Sequence[str], repairs: tuple[str, ...]) -> list[Scored]:
        def make(name: str) -> Artefact:
            return stored_quantised(store, store.root, of, size, form, name, repairs, progress)

        found = bake_off(store, of, size, names, make, lambda: held_out, digest, progress)
        return [replace(one, repairs=tuple(calibration_of(onnx.load(one.graph.path))["repairs"])) for one in found]

    scored = score(algorithms, first)
    if others:
        winner = scored[0].algorithm
        for more in others:
            try:
                scored += score([winner], more)
            except InputError as error:  # of a graph that they are not for
                progress.note(f"{' + '.join(more)} is left out: {error}")
        scored = [scored[place] for place in best_first([one.score.fidelities_db for one in scored])]
    chosen = _choose(scored, limits, f"{of.checkpoint.name} in form {form.name}")
    graph = onnx.load(chosen.graph.path)
    if limits != Limits():
        contract = read_graph(chosen.graph.path).signature.contract
        demand_fitting_scales(misfit_scales(graph, form, [contract.encode(held.frame) for held in held_out]))
    unrepaired = score([chosen.algorithm], ())[0].score if chosen.repairs else None
    kept = calibration_of(graph)["kept"]
    facts = read_facts(graph, *size)
    share = sum(c.macs for c in facts.convolutions if c.name not in kept) / facts.macs
    return Calibrated(of, size, form, tuple(scored), chosen, unrepaired, (*of.manifest.overlaps, *overlaps), share)


def report_of(output: Path) -> Path:
    """Where the JSON beside a graph lies."""
    return output.with_suffix(".json")


def write_calibrated(found: Calibrated, output: Path) -> Path:
    """Write the chosen graph, and beside it the JSON that tells how it came about; gives the JSON's path."""
    graph = onnx.load(found.chosen.graph.path)
    report = report_of(output)
    with atomic_paths(output, report) as (made, told):
        shutil.copyfile(found.chosen.graph.path, made)
        told.write_bytes(json_bytes(_to_json(found, calibration_of(graph))))
    return report


def _choose(scored: Sequence[Scored], limits: Limits, what: str) -> Scored:
    for one in scored:
        try:
            limits.enforce(what, one.score)
        except BudgetError:
            continue
        return one
    best, count = scored[0], len({one.algorithm for one in scored})
    others = f", the best of {count} algorithms" if count > 1 else ""
    limits.enforce(f"{what}, ranges by {best.name}{others}", best.score)
    raise AssertionError("the best was among those that broke the budget")


def _to_json(found: Calibrated, about: dict[str, Any]) -> dict[str, Any]:
    of, asked = found.of, min((one.repairs for one in found.scored), key=len)
    return {
        "unblur": FORMAT,
        "network": of.checkpoint.name,
        "checkpoint_sha256": of.checkpoint.digest,
        "channel_order": of.checkpoint.contract.channel_order,
        "height": found.size[0],
        "width": found.size[1],
        "pixels": of.pixels,
        "opset": of.opset,
        **about,
        "overlaps_with_evaluation": list(found.overlaps),
        "graph_sha256": found.chosen.graph.digest,
        "macs_share_8_bits": round(found.macs_share, 4),
        "scores": {one.algorithm if one.repairs == asked else one.name: one.score.to_json() for one in found.scored},
        "score_without_repairs": found.unrepaired.to_json() if found.unrepaired else None,
        "toolchain": toolchain(RUNTIMES),
    }
