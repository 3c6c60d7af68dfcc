"""Ranges out of the store: statistics once per graph and frames, ranges once per algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from unblur.calibration.algorithms import ALGORITHMS, Algorithm, Grid
from unblur.calibration.forms import FORMS, Form
from unblur.calibration.manifest import Manifest, load_manifest
from unblur.calibration.quantise import tensors_to_measure
from unblur.calibration.statistics import VERSION, load_statistics, measure_statistics, save_statistics
from unblur.core.artefacts import value_digest
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError, nearest
from unblur.engines.catalogue import default_threads
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.graphs import OPSET
from unblur.pipeline.store import Artefact, Recipe, Store

STAGE = "calibration"
RUNTIMES = frozenset({"onnxruntime", "onnxruntime-gpu"})
DEFAULT_ALGORITHM = "percentile"
"""The best mean fidelity of five in every INT8 form on the bundled network: 52.2 to 56.0 dB where min-max has 44.9 to
51.2 (4 held-out frames of 256x256); in FP8 0.4 dB behind min-max."""

BEST = "best"
"""Asks for the algorithm that costs the fewest decibels."""

WITHOUT_GRID = ("minmax", "moving-average", "percentile")
"""What suits 8-bit floating point too: the others minimise errors on an integer grid."""


@dataclass(frozen=True)
class CalibrationSet:
    """What is calibrated, and on which frames.

    pixels, opset: of the graph that shall be quantised. Ranges are measured at the size of the manifest's frames and
    serve every size: fixed graphs of one checkpoint differ in no map's name between sizes.
    """

    checkpoint: Checkpoint
    manifest: Manifest
    pixels: Literal["float", "uint8"] = "float"
    opset: int = OPSET
    threads: int = 0


def stored_manifest(store: Store, path: Path, progress: Progress = SILENT) -> Manifest:
    """A verified manifest whose drawn frames are kept in the store. Raises InputError as `load_manifest`."""
    return load_manifest(path, store.root / STAGE / "frames", progress)


def algorithms_for(form: Form) -> tuple[str, ...]:
    """Algorithms that are meant for the form's type of activations."""
    return WITHOUT_GRID if form.precision == "fp8" else tuple(ALGORITHMS)


def check_algorithm(name: str, form: Form) -> Algorithm:
    """The algorithm on the form's grid. Raises InputError for an unknown one and for one the form has no use for."""
    grid: Grid = "u8" if form.activation.affine else "s8"
    algorithm = Algorithm(name, grid)
    if name not in algorithms_for(form):
        raise InputError(
            f"{name} minimises errors on a grid of integers, which form {form.name} has not"
            f"{nearest(name, algorithms_for(form))}; take {', '.join(algorithms_for(form))}."
        )
    return algorithm


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
