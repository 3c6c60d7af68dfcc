"""`unblur build`, `python export/build_engine.py`: ONNX graph or checkpoint -> TensorRT engine."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unblur.cli.door import Arguments, door, finite, inputs_of, positive
from unblur.cli.engine_options import add_contract, open_origin
from unblur.cli.weights import add_checkpoint, open_checkpoint
from unblur.core.artefacts import json_with, protect
from unblur.core.console import ConsoleProgress, Progress, printable
from unblur.core.errors import InputError
from unblur.images.contract import PIXELS

REWRITTEN = ("fp16", "bf16", "int8", "fp8")


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Build one engine, or every precision, and print what it runs."""
    arguments = _parser().parse_args(argv)
    precision = _precision(arguments)
    _refuse_conflicts(arguments, precision)

    from unblur.building.best import candidate, ranking_of
    from unblur.building.engine import rebuild_engine
    from unblur.engines.tensorrt.manifest import outputs_of
    from unblur.engines.tensorrt.product import open_product
    from unblur.engines.tensorrt.targets import parse_targets, resolve_targets

    progress = ConsoleProgress()
    output = arguments.output or arguments.rebuild
    outputs = outputs_of(output)
    if precision == "best":
        outputs[ranking_of(output)] = json_with("winner", "candidates")
        for each in ("fp32", *REWRITTEN):
            outputs |= outputs_of(candidate(output, each))
    # A rebuild over the engine itself is asked for by name.
    protect(outputs, inputs_of(arguments, "output", *(["rebuild"] if output == arguments.rebuild else [])))
    if arguments.rebuild:
        _tell(rebuild_engine(arguments.rebuild, arguments.output, progress))
        return 0
    targets = parse_targets(arguments.target)
    resolve_targets(open_product(arguments.flavor), targets)  # say what is missing before the export
    calibrated = arguments.checkpoint or arguments.contract  # a foreign graph stands for its own checkpoint
    if calibrated and precision in ("int8", "fp8", "best"):
        _calibrate_and_build(arguments, precision, targets, progress)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        graph = _graph(arguments, Path(folder) / "graph.onnx", progress)
        _build(arguments, graph, precision, targets, progress)
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "unblur build", "Compile a graph with TensorRT for RTX (no GPU needed) or TensorRT (on its GPU)."
    )
    parser.add_argument("--onnx", type=Path, help="graph written by unblur export")
    add_checkpoint(parser, "instead of --onnx: export it first")
    parser.add_argument("--height", type=positive, help="with --checkpoint: height of the frames")
    parser.add_argument("--width", type=positive, help="with --checkpoint: width of the frames")
    parser.add_argument("--dynamic", action="store_true", help="with --checkpoint: one graph for every size")
    parser.add_argument("--pixels", choices=PIXELS, default="float", help="with --checkpoint: see export")
    add_contract(parser)
    parser.add_argument("--output-name", metavar="NAME", help="with --onnx: the restored frame among several outputs")
    parser.add_argument("--rebuild", type=Path, metavar="ENGINE",
                        help="build this engine again by the recipe in its manifest")  # fmt: skip
    parser.add_argument("--precision", choices=("fp32", *REWRITTEN, "best"),
                        help="rewrite the graph to it, hold the engine to it (default: as the graph is)")  # fmt: skip
    for name in REWRITTEN:
        parser.add_argument(f"--{name}", action="store_true", help=f"--precision {name}")
    parser.add_argument("--quantised", type=Path, nargs="+", default=[], metavar="FILE",
                        help="with --precision best: quantised graphs of the same checkpoint")  # fmt: skip
    parser.add_argument("--flavor", choices=("auto", "tensorrt", "tensorrt-rtx"), default="auto",
                        help="the product; auto: TensorRT where it can be imported, else for RTX")  # fmt: skip
    parser.add_argument("--target", help="GPU families, such as sm89,sm120, or current (default: portable, Ampere and "
                        "later; TensorRT: the GPU at hand)")  # fmt: skip
    parser.add_argument("--shapes", nargs="+", action="extend", default=[], metavar="MIN:OPT:MAX",
                        help="sizes of a dynamic graph, such as 64x64:256x256:720x1280 or 720x1280")  # fmt: skip
    parser.add_argument("--shapes-from", type=Path, metavar="DIR", help="take the sizes from the pictures in a folder")
    parser.add_argument("--optimization-level", type=int, metavar="0-5", help="how long to search for fast kernels")
    parser.add_argument("--builds", type=positive, default=1, help="build so many times, keep the least bytes moved")
    parser.add_argument("--frames", type=Path, metavar="DIR",
                        help="pictures to measure a cast to FP16 or BF16 on (default: one that is drawn)")  # fmt: skip
    parser.add_argument("--fidelity-db", type=finite, metavar="DB",
                        help="to keep on the worst frame (default: fp16 60, bf16 45, int8 and fp8 40)")  # fmt: skip
    parser.add_argument("--manifest", type=Path, metavar="FILE",
                        help="8 bits: calibration frames (default: the bundled drawn ones)")  # fmt: skip
    parser.add_argument("--algorithm", metavar="NAME",
                        help="8 bits: how ranges are found (default: percentile; best: a bake-off)")  # fmt: skip
    parser.add_argument("--repair", nargs="*", metavar="NAME",
                        help="8 bits: equalisation, adaptive-rounding, bias-correction")  # fmt: skip
    parser.add_argument("--psnr-loss-db", type=finite, metavar="DB",
                        help="8 bits: what may be lost of PSNR (default: 0.05)")  # fmt: skip
    parser.add_argument("--output", type=Path, help="the engine file to write (--rebuild: over the engine itself)")
    return parser


def _precision(arguments: argparse.Namespace) -> Any:
    """The one precision that was asked for, None for that of the graph."""
    named = [name for name in REWRITTEN if getattr(arguments, name)]
    asked = [arguments.precision] if arguments.precision else []
    if len({*named, *asked}) > 1:
        flags = [f"--{name}" for name in named] + [f"--precision {name}" for name in asked]
        raise InputError(f"{' and '.join(flags)} exclude each other; give one, or --precision best to compare.")
    return next(iter([*named, *asked]), None)


def _refuse_conflicts(arguments: argparse.Namespace, precision: str | None) -> None:
    if arguments.rebuild:
        recipe = ("onnx", "checkpoint", "height", "width", "dynamic", "target", "shapes", "shapes_from", "quantised",
                  "optimization_level", "frames", "fidelity_db", "manifest", "algorithm", "repair",
                  "psnr_loss_db", "channel_order", "output_name", "contract")  # fmt: skip
        given = [f"--{name.replace('_', '-')}" for name in recipe if getattr(arguments, name)]
        if given or precision or arguments.flavor != "auto" or arguments.builds != 1:
            raise InputError(
                f"--rebuild takes everything from the manifest; only --output goes with it, not {' '.join(given)}"
                " or a choice of precision, product or builds."
            )
        return
    if arguments.output is None:
        raise InputError("--output FILE is missing: the engine file to write.")
    if (arguments.onnx is None) == (arguments.checkpoint is None):
        raise InputError(
            "Give either --onnx FILE or --checkpoint FILE --height H --width W (or --dynamic), or --rebuild ENGINE."
        )
    if arguments.onnx and (arguments.height or arguments.width or arguments.dynamic):
        raise InputError("--height, --width and --dynamic go with --checkpoint; a graph has its size.")
    if arguments.onnx and arguments.channel_order:
        raise InputError("--channel-order goes with --checkpoint; a graph has its own.")
    if arguments.contract and arguments.checkpoint:
        raise InputError("--contract goes with --onnx; a checkpoint's network has its own.")
    if arguments.output_name and arguments.checkpoint:
        raise InputError("--output-name goes with --onnx; a graph of --checkpoint has one output.")
    if arguments.shapes and arguments.shapes_from:
        raise InputError("--shapes and --shapes-from exclude each other; name the sizes, or the folder they are in.")
    if (arguments.shapes or arguments.shapes_from) and arguments.checkpoint and not arguments.dynamic:
        raise InputError("--shapes goes with --dynamic; a graph of --height and --width has one size.")
    if arguments.quantised and precision != "best":
        raise InputError("--quantised goes with --precision best; build one quantised graph with --onnx FILE --int8.")


def _graph(arguments: argparse.Namespace, graph: Path, progress: Progress) -> Path:
    """The graph that is named, or one that is exported to `graph`; a foreign one there says its pixels."""
    from unblur.export.graph import export_graph

    if arguments.onnx:
        if arguments.contract is None:
            named: Path = arguments.onnx
            return named
        import onnx

        from unblur.graphs.file import open_graph

        onnx.save(open_graph(arguments.onnx, arguments.output_name, arguments.contract)[1], graph)
        return graph

    export_graph(
        open_checkpoint(arguments, progress), graph, height=arguments.height, width=arguments.width,
        dynamic=arguments.dynamic, pixels=arguments.pixels, progress=progress,
    )  # fmt: skip
    return graph


def _build(
    arguments: argparse.Namespace, graph: Path, precision: Any, targets: tuple[str, ...], progress: Progress
) -> None:
    from unblur.building.best import build_best
    from unblur.building.engine import build_engine
    from unblur.graphs.file import read_graph

    contract = read_graph(graph, arguments.output_name).signature.contract
    options = _options(arguments, precision, targets, contract, progress)
    if precision == "best":
        _tell_best(build_best(graph, arguments.output, options, {path: {} for path in arguments.quantised},
                              progress=progress))  # fmt: skip
    else:
        _tell(build_engine(graph, arguments.output, options, progress))


def _calibrate_and_build(
    arguments: argparse.Namespace, precision: str, targets: tuple[str, ...], progress: Progress
) -> None:
    from unblur.calibration.repairs.names import check_repairs
    from unblur.pipeline.foreign import ForeignGraph
    from unblur.pipeline.job import BUNDLED, Calibration, Source
    from unblur.pipeline.making.scored_engine import PSNR_LOSS_DB, build_best_of_all, build_quantised
    from unblur.pipeline.places import artefact_folder
    from unblur.pipeline.store import Store

    checkpoint = open_origin(arguments, progress)
    repairs = BUNDLED.repairs if arguments.repair is None else check_repairs(arguments.repair)
    calibration = Calibration(arguments.manifest, arguments.algorithm or BUNDLED.algorithm, repairs)
    loss_db = PSNR_LOSS_DB if arguments.psnr_loss_db is None else arguments.psnr_loss_db
    if isinstance(checkpoint, ForeignGraph):
        size = checkpoint.size
    elif arguments.dynamic == bool(arguments.height and arguments.width):
        raise InputError("With --checkpoint give --height and --width, or --dynamic.")
    else:
        size = None if arguments.dynamic else (arguments.height, arguments.width)
    source = Source(checkpoint, size, arguments.pixels)
    options = _options(arguments, precision, targets, checkpoint.contract, progress)
    store = Store(artefact_folder(), progress.note)
    if precision == "best":
        _tell_best(build_best_of_all(store, source, arguments.output, options, calibration, loss_db, progress))
    else:
        _tell(build_quantised(store, source, arguments.output, options, calibration, loss_db, progress))


def _options(
    arguments: argparse.Namespace, precision: Any, targets: tuple[str, ...], contract: Any, progress: Progress
) -> Any:
    from unblur.building.engine import BuildOptions
    from unblur.engines.tensorrt.profiles import derive_profiles, parse_profile
    from unblur.images.sizes import padded_sizes

    profiles = tuple(parse_profile(text) for text in arguments.shapes)
    if arguments.shapes_from:
        profiles = derive_profiles(padded_sizes(arguments.shapes_from, contract))
        progress.note(f"sizes of {arguments.shapes_from}: " + ", ".join(profile.to_text() for profile in profiles))
    return BuildOptions(
        None if precision == "best" else precision, arguments.flavor, targets, profiles, arguments.optimization_level,
        arguments.builds, arguments.frames, arguments.fidelity_db, arguments.output_name,
    )  # fmt: skip


def _say(text: str) -> None:
    """Print a line with names in it that others chose."""
    print(printable(text))


def _tell_best(best: Any) -> None:
    for ranked in best.ranking:
        bounds = ", ".join(f"{gpu} {ms:.3g} ms" for gpu, ms in ranked.bounds_ms.items()) or "no GPU known"
        measured = "" if ranked.latency_ms is None else f"  {ranked.latency_ms:.3g} ms measured"
        _say(f"{ranked.precision:<5} {ranked.score:.3f}{measured}  lower bound: {bounds}  {ranked.built.path}")
    for name, reason in best.left_out:
        _say(f"{name:<5} left out: {reason.splitlines()[0]}")
    _say(f"best: {best.why}")
    _tell(best.winner)
    _say(f"ranking {best.report_path}")


def _tell(built: Any) -> None:
    from unblur.calibration.score import Score
    from unblur.metrics.decibels import decibels_from_json, decibels_text

    manifest = built.manifest
    _say(f"{built.path}: {manifest['product']} {manifest['version']}, {manifest['precision']}, "
          f"{manifest['engine_bytes'] / 1e6:.1f} MB in {manifest['build_seconds']:.1f} s")  # fmt: skip
    if cast := manifest.get("cast"):
        known_db = decibels_from_json(cast["fidelity_db"])
        fidelity = "nothing lost" if math.isinf(known_db) else f"{known_db:.1f} dB of fidelity"
        islands = ", ".join(f"{island['nodes']} {island['operator']}" for island in cast["islands"])
        _say(f"cast: {fidelity} on {cast['frames']}; kept in FP32 for it: {islands or 'nothing'}")
    if calibration := manifest.get("calibration"):
        _say(f"calibrated by {calibration['algorithm']} on {calibration['frames']} frames of "
              f"{calibration['manifest']}, repairs: {', '.join(calibration['repairs']) or 'none'}")  # fmt: skip
    if score := manifest.get("score"):
        known = Score.from_json(score)
        mean, worst = decibels_text(known.fidelity_db_mean, 1), decibels_text(known.fidelity_db_worst, 1)
        lost = decibels_text(known.psnr_loss_db, 4, signed=True)
        _say(f"score: {mean} dB of fidelity (worst {worst}), {lost} dB of PSNR lost on {score['frames']}"
             f"{known.loss_remark}")  # fmt: skip
    builds = manifest["builds"]
    if len(builds) > 1:
        different = len({attempt["sha256"] for attempt in builds})
        _say(f"{len(builds)} builds gave {different} different engine(s); kept number {manifest['chosen_build'] + 1}")
    at = f" at {'x'.join(map(str, manifest['seen_at']))}" if manifest["seen_at"] else ""
    for target, kernels in manifest["targets"].items():
        realised = ", ".join(f"{count} {kind}" for kind, count in sorted(kernels["convolutions_run_in"].items()))
        _say(f"{target}: {kernels['kernels']} kernels move {kernels['bytes_moved'] / 1e9:.3f} GB a frame{at}; "
              f"convolutions run in: {realised}")  # fmt: skip
    _say(f"manifest {built.manifest_path}, compiled graph {built.graph_path}")
