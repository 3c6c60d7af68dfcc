"""Checkpoint -> 8-bit engine: calibrate, quantise in the product's form, make the rest FP16, hold it to a budget of
decibels, build. Everything up to the engine comes out of the store, so that the second build calibrates nothing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import onnx

from unblur.building.best import Best, build_best
from unblur.building.cast_frames import CROP, Smaller
from unblur.building.engine import BuildOptions, BuiltEngine, build_engine
from unblur.calibration.score import HeldOut, Judge, Score
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import BudgetError, InputError
from unblur.core.provenance import default_threads
from unblur.engines.tensorrt.product import ProductName, open_product
from unblur.engines.tensorrt.targets import CURRENT
from unblur.engines.xray.gpus import gpus_of
from unblur.graphs.rewrites.casting import cast_graph
from unblur.graphs.rewrites.forms import FP8, Form, find_form
from unblur.pipeline.config import PSNR_LOSS_DB
from unblur.pipeline.foreign import ForeignGraph, Origin
from unblur.pipeline.held_out import DRAWN, Named, find_overlaps, refuse_overlaps
from unblur.pipeline.job import BUNDLED, Calibration, CalibrationSet, Source
from unblur.pipeline.making.eight_bits import stored_quantised
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.ranges import stored_manifest
from unblur.pipeline.search_bench import COMPILED
from unblur.pipeline.store import Store

NOBODY = Named()
EightBits = Literal["int8", "fp8"]
LARGEST = 4
"""Graphs of up to so many times the manifest's pixels are scored themselves: larger ones would take minutes."""

FIDELITY_DB = 40.0
"""What 8 bits must keep on the worst held-out frame, unless the caller says; PSNR_LOSS_DB may be lost on the mean."""


def form_of(precision: EightBits, product: ProductName) -> Form:
    """How a product wants 8 bits written."""
    return FP8 if precision == "fp8" else find_form(product)


def build_quantised(
    store: Store,
    source: Source,
    output: Path,
    options: BuildOptions,
    calibration: Calibration = BUNDLED,
    psnr_loss_db: float = PSNR_LOSS_DB,
    progress: Progress = SILENT,
    named: Named = NOBODY,
    caches: Path | None = None,
) -> BuiltEngine:
    """Build the engine of `options.precision`, "int8" or "fp8". The score on `named` stands in its manifest. `caches`:
    as `build_engine`.

    Raises as `scored_graph` and `build_engine`.
    """
    precision: EightBits = "fp8" if options.precision == "fp8" else "int8"
    product = open_product(options.flavor).name  # say what is missing before minutes of work
    graph, about = scored_graph(
        store, source, precision, product, calibration, options.fidelity_db, psnr_loss_db, progress, named,
        options.targets,
    )  # fmt: skip
    return build_engine(graph, output, options, progress, about=about, caches=caches)


def build_best_of_all(
    store: Store,
    source: Source,
    output: Path,
    options: BuildOptions,
    calibration: Calibration = BUNDLED,
    psnr_loss_db: float = PSNR_LOSS_DB,
    progress: Progress = SILENT,
    named: Named = NOBODY,
) -> Best:
    """`build_best` with an INT8 and an FP8 graph of the same checkpoint among the candidates.

    One that breaks its budget of decibels, or has no convolution for 8 bits, is left out with the reason. Raises
    InputError for a manifest that cannot be used, and as `build_best`.
    """
    product = open_product(options.flavor).name
    stored_manifest(store, calibration.path, progress)
    quantised, left_out = {}, []
    for precision in get_args(EightBits):
        try:
            graph, about = scored_graph(
                store, source, precision, product, calibration, options.fidelity_db, psnr_loss_db, progress, named,
                options.targets,
            )  # fmt: skip
        except (BudgetError, InputError) as error:
            left_out.append((precision, str(error)))
        else:
            quantised[graph] = about
    exported = stored_graph(store, source.checkpoint, source.size, source.pixels, source.opset, progress=progress)
    smaller = smaller_graph(store, source, progress)
    return build_best(exported.path, output, options, quantised, left_out, progress, smaller)


def smaller_graph(store: Store, source: Source, progress: Progress = SILENT) -> Smaller:
    """Gives the graph of the same weights and pixels for frames of CROP, out of the store; not proven, which would
    take longer than the judgement."""
    size = source.checkpoint.contract.padded_size(CROP, CROP)
    return lambda: (
        stored_graph(store, source.checkpoint, size, source.pixels, source.opset, progress=progress, check=False).path
    )


def scored_graph(
    store: Store,
    source: Source,
    precision: EightBits,
    product: ProductName,
    calibration: Calibration = BUNDLED,
    fidelity_db: float | None = None,
    psnr_loss_db: float = PSNR_LOSS_DB,
    progress: Progress = SILENT,
    named: Named = NOBODY,
    targets: Sequence[str] = (),
) -> tuple[Path, dict[str, Any]]:
    """The quantised graph, and what a manifest shall say of it: its score on the pictures that were named, else on
    drawn ones. `targets`: that the engine is for.

    What is scored is what will be compiled, as it is written, against float32; for sizes much larger than the
    manifest's, and for every size, at the manifest's: ranges, repairs and what stays FP16 are the same.

    Raises InputError as `stored_quantised`, as `Named.at`, and where the manifest has one of the frames; BudgetError,
    with the command that finds what fits, where the score is below `fidelity_db` (None: FIDELITY_DB) on the worst
    frame, or more PSNR is lost than `psnr_loss_db` on the mean.
    """
    of = CalibrationSet(
        source.checkpoint, stored_manifest(store, calibration.path, progress), source.pixels, source.opset,
        keep=calibration.keep,
    )  # fmt: skip
    form = form_of(precision, product)
    graph = stored_quantised(
        store, store.root, of, source.size, form, calibration.algorithm, calibration.repairs, progress
    )
    size = of.manifest.size
    if source.size is not None and source.size[0] * source.size[1] <= LARGEST * size[0] * size[1]:
        size = source.size
    scored = graph
    if source.size not in (None, size):
        scored = stored_quantised(
            store, store.root, of, size, form, calibration.algorithm, calibration.repairs, progress
        )
    frames, what = named.at(size, source.checkpoint.contract.padded_size)
    score = _score(store, of, size, source.size is None, scored.path, frames, progress)
    fidelity_db = FIDELITY_DB if fidelity_db is None else fidelity_db
    try:
        score.enforce(f"{source.checkpoint.name} in {precision}", fidelity_db, psnr_loss_db)
    except BudgetError as error:
        loss_db = None if score.psnr_loss_db is None else psnr_loss_db
        search = search_command(
            source.checkpoint, form, source.size or size, calibration, fidelity_db, loss_db, named, targets
        )
        raise BudgetError(
            f"{error} Judged on: {what}. Nothing was built; --fp16 is the next wider precision, and which layers fit "
            f"in 8 bits is found by\n  {search}"
        ) from error
    return graph.path, {"score": score.to_json() | {"frames": what, "size": list(size)}}


def origin_flags(origin: Origin) -> list[object]:
    """What names it on a command line."""
    if isinstance(origin, ForeignGraph):
        return ["--onnx", origin.path, "--contract", origin.contract.name, "--output-name", origin.output]
    return ["--checkpoint", origin.path, "--channel-order", origin.contract.channel_order]


def search_command(
    origin: Origin,
    form: Form,
    size: Size,
    calibration: Calibration,
    fidelity_db: float,
    psnr_loss_db: float | None,
    named: Named,
    targets: Sequence[str] = (),
) -> str:
    """What to type to find which convolutions keep a budget in 8 bits: a line of a shell, on the same frames."""
    words: list[object] = ["unblur", "search", *origin_flags(origin), "--engine", COMPILED, "--form", form.name]
    words += ["--size", f"{size[0]}x{size[1]}", "--worst-db", f"{fidelity_db:g}"]
    words += [] if psnr_loss_db is None else ["--budget-db", f"{psnr_loss_db:g}"]
    words += ["--manifest", calibration.path, "--algorithm", calibration.algorithm]
    gpu = next((gpu for target in targets if target != CURRENT for gpu in gpus_of(target)), None)
    words += ["--gpu", gpu.name] if gpu else []
    words += ["--frames", named.blurred] if named.blurred else ["--drawn", DRAWN]
    words += ["--truth", named.sharp] if named.sharp else []
    return shlex.join(str(word) for word in words)


def _score(
    store: Store, of: CalibrationSet, size: Size, dynamic: bool, quantised: Path, frames: Sequence[HeldOut],
    progress: Progress,
) -> Score:  # fmt: skip
    refuse_overlaps(of.manifest, find_overlaps(of.manifest, frames))
    reference = stored_graph(store, of.checkpoint, None if dynamic else size, of.pixels, of.opset, progress=progress)
    progress.note(f"scoring what will be compiled on {len(frames)} held-out frames of {size[0]}x{size[1]}")
    judge = Judge(reference.path, frames, of.threads or default_threads())
    return judge.score(cast_graph(onnx.load(quantised), "fp16").model, exact=True)
