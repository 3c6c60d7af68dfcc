"""Which algorithm's ranges cost the fewest decibels: each one's graph, scored on frames that calibration never saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from unblur.calibration.fingerprint import fingerprint, same_picture
from unblur.calibration.forms import Form
from unblur.calibration.manifest import Manifest
from unblur.calibration.score import HeldOut, Judge, Score
from unblur.core.artefacts import json_text, value_digest
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.engines.catalogue import default_threads
from unblur.images.contract import Frame
from unblur.images.synthetic import VERSION, synthetic_pair
from unblur.metrics.decibels import best_first
from unblur.pipeline.calibrate import RUNTIMES, STAGE, CalibrationSet, algorithms_for
from unblur.pipeline.graphs import Size, stored_graph
from unblur.pipeline.store import Artefact, Recipe, Store

DRAWN = 4
"""Frames that algorithms are scored on where nobody names others."""


@dataclass(frozen=True)
class Scored:
    """One algorithm's graph and what it costs on held-out frames."""

    algorithm: str
    graph: Artefact
    score: Score


def drawn_held_out(size: Size, count: int = DRAWN, seed: int = 0) -> list[HeldOut]:
    """Pairs drawn from pictures and a random stream that calibration frames are never drawn from."""
    return [HeldOut(*synthetic_pair(seed + k, *size, "heldout")) for k in range(count)]


def find_overlaps(manifest: Manifest, frames: Sequence[HeldOut]) -> tuple[str, ...]:
    """Which frames to score on are also in the calibration set, by their pixels' fingerprints."""
    return tuple(
        f"held-out frame {number} is the calibration frame {name}"
        for number, held in enumerate(frames, start=1)
        for name in calibration_frames_like(manifest, held.frame)
    )


def calibration_frames_like(manifest: Manifest, frame: Frame) -> tuple[str, ...]:
    """Names of the manifest's frames that are the same picture, by fingerprint."""
    own = fingerprint(frame)
    return tuple(entry.name for entry in manifest.entries if same_picture(own, int(entry.fingerprint, 16)))


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


def best_algorithm(
    store: Store, of: CalibrationSet, form: Form, make: Callable[[str], Artefact], progress: Progress = SILENT
) -> str:
    """The winner on drawn frames of the manifest's size. Raises InputError where the manifest has one of them."""
    size = of.manifest.size

    def held_out() -> Sequence[HeldOut]:
        frames = drawn_held_out(size)
        refuse_overlaps(of.manifest, find_overlaps(of.manifest, frames))
        return frames

    digest = value_digest({"drawn": DRAWN, "seed": 0, "generator": VERSION, "size": list(size)})
    scored = bake_off(store, of, size, algorithms_for(form), make, held_out, digest, progress)
    return scored[0].algorithm


def refuse_overlaps(manifest: Manifest, overlaps: Sequence[str]) -> None:
    """Raise InputError naming frames that are in both sets."""
    if overlaps:
        raise InputError(
            f"{manifest.path}: {'; '.join(overlaps[:5])}. Its score would flatter the ranges: score on other frames, "
            "or say --allow-overlap and the report will tell."
        )


def digest_of_frames(frames: Sequence[HeldOut]) -> str:
    """SHA-256 of the pixels of frames and truths."""
    pictures = [picture for held in frames for picture in (held.frame, held.truth)]
    return value_digest([p is not None and [*p.shape, sha256(p.tobytes()).hexdigest()] for p in pictures])
