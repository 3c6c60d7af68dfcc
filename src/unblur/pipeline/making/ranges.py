"""Ranges out of the store: statistics once per graph and frames, ranges once per algorithm."""

from __future__ import annotations

from pathlib import Path

import onnx

from unblur.calibration.algorithms import Algorithm
from unblur.calibration.manifest import Manifest, load_manifest
from unblur.calibration.statistics import VERSION, load_statistics, measure_statistics, save_statistics
from unblur.core.artefacts import value_digest
from unblur.core.console import SILENT, Progress
from unblur.core.provenance import default_threads
from unblur.graphs.rewrites.forms import FORMS
from unblur.graphs.rewrites.quantise import tensors_to_measure
from unblur.pipeline.job import CalibrationSet
from unblur.pipeline.store import Artefact, Recipe, Store

STAGE = "calibration"
RUNTIMES = frozenset({"onnxruntime", "onnxruntime-gpu"})


def stored_manifest(store: Store, path: Path, progress: Progress = SILENT) -> Manifest:
    """A verified manifest whose drawn frames are kept in the store. Raises InputError as `load_manifest`."""
    return load_manifest(path, store.root / STAGE / "frames", progress)


def stored_statistics(
    store: Store, root: Path, graph: Artefact, of: CalibrationSet, histograms: bool, progress: Progress = SILENT
) -> Artefact:
    """Statistics of every tensor that any form may quantise, measured once; a killed measurement goes on.

    `graph`: a float32 graph that takes the manifest's frames. `root`: the folder for what a killed measurement leaves.
    Raises as `measure_statistics`.
    """
    model = onnx.load(graph.path)
    tensors = sorted({name for form in FORMS.values() for name in tensors_to_measure(model, form, {})})
    recipe = Recipe(
        STAGE,
        {"what": "statistics", "version": VERSION, "tensors": value_digest(tensors), "histograms": histograms},
        {"graph": graph.digest, "checkpoint": of.checkpoint.digest, "manifest": of.manifest.digest},
        RUNTIMES,
    )

    def write(path: Path) -> None:
        statistics = measure_statistics(
            graph.path,
            tensors,
            of.manifest,
            histograms=histograms,
            threads=of.threads or default_threads(),
            progress=progress,
            state=root / STAGE / f"state-{recipe.key[:16]}",
        )
        save_statistics(path, statistics)

    return store.make(recipe, f"{of.checkpoint.name}-statistics.npz", write)


def stored_ranges(
    store: Store, root: Path, graph: Artefact, of: CalibrationSet, algorithm: Algorithm, progress: Progress = SILENT
) -> Artefact:
    """A file that `Ranges.from_json` reads. Raises as `stored_statistics` and `Algorithm.ranges`."""
    statistics = stored_statistics(store, root, graph, of, algorithm.needs_histogram, progress)
    recipe = Recipe(
        STAGE,
        {"what": "ranges", "algorithm": str(algorithm)},
        {"statistics": statistics.digest, "manifest": of.manifest.digest},
    )

    def write(path: Path) -> None:
        path.write_text(algorithm.ranges(load_statistics(statistics.path)).to_json())

    return store.make(recipe, f"{of.checkpoint.name}-{algorithm.name}-{algorithm.grid}.json", write)
