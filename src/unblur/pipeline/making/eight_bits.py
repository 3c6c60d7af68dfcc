"""8-bit graphs out of the store: calibrated on a manifest, repaired where asked, the rest in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from unblur.calibration.algorithms import BEST, Algorithm, check_algorithm
from unblur.calibration.repairs.bias_correction import correct_biases, shift_biases
from unblur.calibration.repairs.equalise import equalise
from unblur.calibration.repairs.names import (
    BIAS_CORRECTION,
    DEFAULT,
    EQUALISATION,
    ROUNDING,
    check_repairs,
    repairs_for,
)
from unblur.calibration.repairs.rounding import demand_roundable, round_adaptively, with_weights
from unblur.core.artefacts import json_text
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.core.provenance import default_threads
from unblur.graphs.file import read_graph
from unblur.graphs.metadata import CALIBRATION_KEY, add_properties
from unblur.graphs.rewrites.forms import Form
from unblur.graphs.rewrites.keeping import kept
from unblur.graphs.rewrites.quantise import QuantisedGraph, quantise
from unblur.graphs.rewrites.ranges import Ranges
from unblur.pipeline.job import CalibrationSet
from unblur.pipeline.making.bake_off import best_of_all
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.ranges import RUNTIMES, stored_ranges
from unblur.pipeline.store import Artefact, Recipe, Store

STAGE = "quantised"

REPAIR_FRAMES = 16
"""So many of the manifest's frames repairs look at: they hold them in memory, and means settle with fewer."""

ROUNDING_FRAMES = 8
"""Of these; twice as many, with four times the patches, gain 0.0 to 0.5 dB (docs/lab-log.md)."""


def stored_quantised(
    store: Store,
    root: Path,
    of: CalibrationSet,
    size: Size | None,
    form: Form,
    algorithm: str,
    repairs: Sequence[str] = (DEFAULT,),
    progress: Progress = SILENT,
) -> Artefact:
    """The graph for (height, width), or (None) for every size, in 8 bits; what is not 8 bits is float32.

    Ranges, repairs and the choice of what stays in floating point are those of the manifest's size. `algorithm`: one
    of `algorithms_for(form)`, or "best" for the winner of a bake-off on drawn frames, where the form's default is asked
    for also with and without repairs that are worth trying. `repairs`: words of `repairs_for`; one that is there by
    default is left out of a graph that it is not for. `root`: the store's folder. The metadata tells what it was
    calibrated on (`CALIBRATION_KEY`) and an allowed overlap with evaluation frames.

    Raises InputError for an unknown algorithm or repair, and as the manifest, `stored_graph` and `quantise`.
    """
    if algorithm == BEST:

        def make(name: str, more: tuple[str, ...]) -> Artefact:
            return stored_quantised(store, root, of, of.manifest.size, form, name, more, progress)

        algorithm, repairs = best_of_all(store, of, form, make, check_repairs(repairs), progress)
    ranged = check_algorithm(algorithm, form)
    repairs = _fitting(store, root, of, form, ranged, repairs, progress)
    parts = _stored_parts(store, root, of, size, form, ranged, repairs, progress)
    about = {
        "form": form.name,
        "algorithm": algorithm,
        "repairs": list(repairs),
        "keep": list(of.keep),
        "manifest": of.manifest.path.name,
        "manifest_sha256": of.manifest.digest,
        "frames": len(of.manifest),
        "overlaps_with_evaluation": list(of.manifest.overlaps),
    }
    recipe = Recipe(STAGE, about | {"rules": asdict(form)}, parts.digests)
    where = "dynamic" if size is None else f"{size[0]}x{size[1]}"
    label = f"{of.checkpoint.name}-{where}-{of.pixels}-{form.name}-{algorithm}.onnx"
    return store.make(recipe, label, lambda path: _write_quantised(path, parts, form, of.keep, about))


def _fitting(
    store: Store, root: Path, of: CalibrationSet, form: Form, algorithm: Algorithm, words: Sequence[str],
    progress: Progress,
) -> tuple[str, ...]:  # fmt: skip
    """The repairs that are meant. A network can be one that a repair is not for (every convolution in groups): where
    nobody named it, that is no reason to refuse the network."""
    meant = repairs_for(form, words)

    def without(name: str, error: InputError) -> tuple[str, ...]:
        progress.note(f"{name} is left out: {error}")
        return tuple(one for one in meant if one != name)

    if EQUALISATION in meant and EQUALISATION not in words:
        try:
            float_graph(store, of, of.manifest.size, form, meant, progress)
        except InputError as error:
            meant = without(EQUALISATION, error)
    if ROUNDING in meant and ROUNDING not in words:
        graph = float_graph(store, of, of.manifest.size, form, meant, progress)
        model = onnx.load(graph.path)
        # Outside of what is tried: a wrong word of `keep` is not the repair's matter.
        made = _quantised(model, stored_ranges(store, root, graph, of, algorithm, progress), form, of)
        try:
            demand_roundable(model, made)
        except InputError as error:
            meant = without(ROUNDING, error)
    return meant


@dataclass(frozen=True)
class _Parts:
    """What an 8-bit graph is made of, all out of the store: the float32 graph, the one of the manifest's size, where
    ranges and repairs are found, the ranges, and what repairs change (None where there is none)."""

    graph: Artefact
    at_manifest: Artefact
    ranges: Artefact
    weights: Artefact | None = None
    shifts: Artefact | None = None

    @property
    def digests(self) -> dict[str, str]:
        """By name: what a key depends on."""
        return {each.name: made.digest for each in fields(self) if (made := getattr(self, each.name)) is not None}


def _stored_parts(
    store: Store,
    root: Path,
    of: CalibrationSet,
    size: Size | None,
    form: Form,
    algorithm: Algorithm,
    repairs: Sequence[str],
    progress: Progress,
) -> _Parts:
    at_manifest = float_graph(store, of, of.manifest.size, form, repairs, progress)
    graph = float_graph(store, of, size, form, repairs, progress)
    # A graph of every size names some maps differently, so it is measured itself.
    ranges = stored_ranges(store, root, graph if size is None else at_manifest, of, algorithm, progress)
    if not {ROUNDING, BIAS_CORRECTION} & set(repairs):
        return _Parts(graph, at_manifest, ranges)
    own = stored_ranges(store, root, at_manifest, of, algorithm, progress)
    weights = shifts = None
    if ROUNDING in repairs:
        weights = _stored_weights(store, of, at_manifest, own, form, progress)
    if BIAS_CORRECTION in repairs:
        shifts = _stored_shifts(store, of, at_manifest, own, form, weights, progress)
    return _Parts(graph, at_manifest, ranges, weights, shifts)


def _write_quantised(path: Path, parts: _Parts, form: Form, words: Sequence[str], about: Mapping[str, Any]) -> None:
    keep = kept(onnx.load(parts.at_manifest.path), form, words)
    made = quantise(onnx.load(parts.graph.path), Ranges.from_json(parts.ranges.path.read_text()), form, keep=keep)
    if parts.weights is not None:
        made = with_weights(made, _arrays(parts.weights))
    if parts.shifts is not None:
        made = shift_biases(made, _arrays(parts.shifts))
    add_properties(made.model, {CALIBRATION_KEY: json_text({**about, "kept": made.kept}, indent=None)})
    onnx.save(made.model, path)


def float_graph(
    store: Store, of: CalibrationSet, size: Size | None, form: Form, repairs: Sequence[str], progress: Progress = SILENT
) -> Artefact:
    """The float32 graph that is quantised: as exported, or the same function with its channels equalised."""
    graph = stored_graph(store, of.checkpoint, size, of.pixels, of.opset, progress=progress)
    if EQUALISATION not in repairs:
        return graph
    at_manifest = stored_graph(store, of.checkpoint, of.manifest.size, of.pixels, of.opset, progress=progress)
    recipe = Recipe(
        STAGE,
        {"what": EQUALISATION, "form": asdict(form), "frames": REPAIR_FRAMES, "keep": list(of.keep)},
        {"graph": at_manifest.digest, "manifest": of.manifest.digest},
        RUNTIMES,
    )

    def write(path: Path) -> None:
        progress.note(f"{EQUALISATION}: for form {form.name}")
        model = onnx.load(at_manifest.path)
        # Also for one scale a weight: evening out weights instead of maps lost 0.4 dB there (docs/lab-log.md).
        made = equalise(model, _inputs(at_manifest, of), kept(model, form, of.keep))
        onnx.save(made.model, path)

    name = f"{of.checkpoint.name}-{form.name}-equalised"
    equal = store.make(recipe, f"{name}.onnx", write)
    if graph.digest == at_manifest.digest:
        return equal
    parents = {"graph": graph.digest, "from": at_manifest.digest, "to": equal.digest}

    def rescale(path: Path) -> None:
        onnx.save(_with_weights(*(onnx.load(each.path) for each in (graph, at_manifest, equal))), path)

    where = "dynamic" if size is None else f"{size[0]}x{size[1]}"
    return store.make(Recipe(STAGE, {"what": f"{EQUALISATION} carried over"}, parents), f"{name}-{where}.onnx", rescale)


def _with_weights(model: onnx.ModelProto, before: onnx.ModelProto, after: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every constant that differs between `before` and `after`, graphs of the same network."""
    old = {t.name: t.SerializeToString(deterministic=True) for t in before.graph.initializer}
    changed = {t.name: t for t in after.graph.initializer if t.SerializeToString(deterministic=True) != old[t.name]}
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(changed.pop(tensor.name))
    if changed:
        raise InputError(f"The graph has no constant {next(iter(changed))!r}; equalisation cannot be carried over.")
    return model


def _stored_weights(
    store: Store, of: CalibrationSet, graph: Artefact, ranges: Artefact, form: Form, progress: Progress
) -> Artefact:
    """What adaptive rounding makes of the 8-bit weights, found at the manifest's size (.npz: tensor -> values)."""
    recipe = Recipe(
        STAGE,
        {"what": ROUNDING, "form": asdict(form), "frames": ROUNDING_FRAMES, "keep": list(of.keep)},
        {"graph": graph.digest, "ranges": ranges.digest, "manifest": of.manifest.digest},
        RUNTIMES,
    )

    def write(path: Path) -> None:
        model = onnx.load(graph.path)
        made = _quantised(model, ranges, form, of)
        threads = of.threads or default_threads()
        found = round_adaptively(model, made, _inputs(graph, of)[:ROUNDING_FRAMES], threads=threads, progress=progress)
        _save(path, found.weights)

    return store.make(recipe, f"{of.checkpoint.name}-{form.name}-weights.npz", write)


def _stored_shifts(
    store: Store,
    of: CalibrationSet,
    graph: Artefact,
    ranges: Artefact,
    form: Form,
    weights: Artefact | None,
    progress: Progress,
) -> Artefact:
    """What bias correction adds to each bias, found at the manifest's size (.npz: convolution -> (channels,))."""
    recipe = Recipe(
        STAGE,
        {"what": BIAS_CORRECTION, "form": asdict(form), "frames": REPAIR_FRAMES, "keep": list(of.keep)},
        {"graph": graph.digest, "ranges": ranges.digest, "manifest": of.manifest.digest}
        | ({} if weights is None else {"weights": weights.digest}),
        RUNTIMES,
    )

    def write(path: Path) -> None:
        model = onnx.load(graph.path)
        made = _quantised(model, ranges, form, of)
        if weights is not None:
            made = with_weights(made, _arrays(weights))
        threads = of.threads or default_threads()
        found = correct_biases(model, made, _inputs(graph, of), threads=threads, progress=progress)
        _save(path, found.shifts)

    return store.make(recipe, f"{of.checkpoint.name}-{form.name}-shifts.npz", write)


def _quantised(model: onnx.ModelProto, ranges: Artefact, form: Form, of: CalibrationSet) -> QuantisedGraph:
    """What a repair begins with."""
    keep = kept(model, form, of.keep)
    return quantise(model, Ranges.from_json(ranges.path.read_text()), form, keep=keep)


def _save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:  # a file: given a name, numpy would add a suffix to it
        np.savez(file, allow_pickle=False, **dict[str, Any](arrays))


def _arrays(artefact: Artefact) -> dict[str, NDArray[Any]]:
    with np.load(artefact.path, allow_pickle=False) as file:
        return dict(file)


def _inputs(graph: Artefact, of: CalibrationSet) -> list[NDArray[Any]]:
    contract = read_graph(graph.path).signature.contract
    return [contract.encode(frame) for frame in islice(of.manifest, REPAIR_FRAMES)]
