"""Which algorithm's ranges cost the fewest decibels: each one's graph, scored on frames that calibration never saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unblur.calibration.algorithms import algorithms_for
from unblur.calibration.repairs.names import DEFAULT, EQUALISATION, ROUNDING, repairs_for
from unblur.calibration.score import HeldOut, Judge, Score
from unblur.core.artefacts import json_text, value_digest
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.core.provenance import default_threads
from unblur.graphs.rewrites.forms import Form
from unblur.images.synthetic import VERSION
from unblur.metrics.decibels import best_first
from unblur.pipeline.held_out import DRAWN, drawn_held_out, find_overlaps, refuse_overlaps
from unblur.pipeline.job import CalibrationSet
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.ranges import RUNTIMES, STAGE
from unblur.pipeline.store import Artefact, Recipe, Store


@dataclass(frozen=True)
class Scored:
    """The graph of an algorithm and of repairs, and what it costs on held-out frames."""

    algorithm: str
    graph: Artefact
    score: Score
    repairs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """ "percentile + adaptive-rounding"."""
        return " + ".join((self.algorithm, *self.repairs))


def bake_off(
    store: Store,
    of: CalibrationSet,
    size: Size,
    algorithms: Sequence[str],
    make: Callable[[str], Artefact],
    held_out: Callable[[], Sequence[HeldOut]],
    frames_digest: str,
    progress: Progress = SILENT,
) -> list[Scored]:
    """The graph that `make` gives for each algorithm, scored against the float32 graph, in the order of `best_first`.

    Graphs are scored as they are written, in the form's own numbers: what a backend's kernels add is theirs, not the
    ranges'. Scores are kept under `frames_digest`, so that `held_out` is asked only where something is new.
    """
    reference = stored_graph(store, of.checkpoint, size, of.pixels, of.opset, progress=progress)
    graphs = {name: make(name) for name in algorithms}
    recipe = Recipe(
        STAGE,
        {"what": "bake-off", "frames": frames_digest},
        {"graph": reference.digest, **{name: graph.digest for name, graph in graphs.items()}},
        RUNTIMES,
    )

    def write(path: Path) -> None:
        judge = Judge(reference.path, held_out(), of.threads or default_threads())
        scores = {
            name: judge.score(graph.path, exact=True).to_json()
            for name, graph in progress.track(graphs.items(), "scoring algorithms", len(graphs))
        }
        path.write_text(json_text(scores))

    scores = json.loads(store.make(recipe, f"{of.checkpoint.name}-bake-off.json", write).path.read_text())
    scored = [Scored(name, graph, Score.from_json(scores[name])) for name, graph in graphs.items()]
    return [scored[place] for place in best_first([one.score.fidelities_db for one in scored])]


def worth_trying(repairs: Sequence[str], form: Form) -> tuple[tuple[str, ...], ...]:
    """Repairs that a bake-off tries on its winner, the first ones on every algorithm.

    Where nobody has chosen any: none, adaptive rounding, and where residuals are 8 bits too, equalisation, alone and
    before it; elsewhere that costs (docs/numerics.md).
    """
    if tuple(repairs) != (DEFAULT,):
        return (repairs_for(form, repairs),)
    return ((), (ROUNDING,), *(((EQUALISATION,), (EQUALISATION, ROUNDING)) if form.residual else ()))


def best_of_all(
    store: Store,
    of: CalibrationSet,
    form: Form,
    make: Callable[[str, tuple[str, ...]], Artefact],
    repairs: tuple[str, ...],
    progress: Progress = SILENT,
) -> tuple[str, tuple[str, ...]]:
    """The algorithm that wins, and the repairs of `worth_trying` that win with it. Raises as `best_algorithm`."""
    first, *others = worth_trying(repairs, form)
    algorithm = best_algorithm(store, of, form, lambda name: make(name, first), progress)
    if not others:
        return algorithm, first
    ways = {" + ".join((algorithm, *more)): more for more in (first, *others)}
    try:
        scored = _on_drawn(store, of, tuple(ways), lambda name: make(algorithm, ways[name]), progress)
    except InputError as error:  # of a graph that it is not for
        progress.note(f"repairs are left out: {error}")
        return algorithm, first
    return algorithm, ways[scored[0].algorithm]


def best_algorithm(
    store: Store, of: CalibrationSet, form: Form, make: Callable[[str], Artefact], progress: Progress = SILENT
) -> str:
    """The winner on drawn frames of the manifest's size. Raises InputError where the manifest has one of them."""
    return _on_drawn(store, of, algorithms_for(form), make, progress)[0].algorithm


def _on_drawn(
    store: Store, of: CalibrationSet, names: Sequence[str], make: Callable[[str], Artefact], progress: Progress
) -> list[Scored]:
    size = of.manifest.size

    def held_out() -> Sequence[HeldOut]:
        frames = drawn_held_out(size)
        refuse_overlaps(of.manifest, find_overlaps(of.manifest, frames))
        return frames

    digest = value_digest({"drawn": DRAWN, "seed": 0, "generator": VERSION, "size": list(size)})
    return bake_off(store, of, size, names, make, held_out, digest, progress)
