"""`unblur build`, `python export/build_engine.py`: ONNX graph or checkpoint -> TensorRT engine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unblur.cli.door import Arguments, door, inputs_of
from unblur.cli.engine_options import add_contract
from unblur.cli.flags import PRECISIONS, add_flags, resolve, rows_of, tell_taken
from unblur.cli.output import Output
from unblur.cli.tell_built import tell_best, tell_built
from unblur.core.artefacts import json_with, protect
from unblur.core.errors import BudgetError, InputError

if TYPE_CHECKING:
    from unblur.building.engine import BuildOptions
    from unblur.core.bounds import Size
    from unblur.images.contract import PixelContract
    from unblur.pipeline.job import Job
    from unblur.pipeline.resolve import Resolved


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Build what pipeline.toml says, or one engine; the last line is the path of the (last) engine."""
    arguments = _parser().parse_args(argv)
    _refuse_conflicts(arguments)
    out = Output(arguments)
    resolved = resolve(arguments, "build")
    precisions = _precisions(arguments, resolved)
    if arguments.onnx and arguments.frames and precisions == ("",):
        raise InputError("--frames measures what a precision costs, and a graph keeps its own; name one, as --fp16.")
    if arguments.rebuild or arguments.output:
        _protect(arguments, resolved, precisions)
    if arguments.rebuild:
        from unblur.building.engine import rebuild_engine

        built = rebuild_engine(arguments.rebuild, arguments.output, out.progress)
        tell_built(out, built)
        return _end(out, [built], arguments.output or arguments.rebuild)

    from unblur.engines.tensorrt.product import open_product
    from unblur.engines.tensorrt.targets import resolve_targets
    from unblur.pipeline.job import Job

    progress = out.progress
    build = resolved.config.build
    resolve_targets(open_product(build.flavor), build.targets)  # say what is missing before the export
    tell_taken(
        resolved, "build", progress, used=lambda key: not arguments.onnx or _for_a_graph(key, arguments, precisions)
    )
    job = Job.of(resolved.config, progress)
    if arguments.frames and not arguments.onnx:
        _refuse_small_frames(job)
    if arguments.onnx:
        return _build_graph(out, arguments, job, arguments.onnx, precisions[0])
    if arguments.shapes_from:
        job = _with_shapes_from(arguments.shapes_from, job, job.checkpoint.contract)
    if arguments.output and precisions == ("best",):
        return _build_best(out, arguments, job)
    return _build_stage(out, arguments, job, precisions)


def _parser() -> Arguments:
    parser = Arguments(
        "unblur build",
        "Compile a graph with TensorRT for RTX (no GPU needed) or TensorRT (on its GPU).",
        "unblur build --fp16",
        'unblur build --checkpoint weights.pth --size 720x1280 --int8 --target "RTX 4090" --output my.engine',
        "unblur build --onnx my.onnx --fp16 --output my.engine",
    )
    add_flags(parser, "build")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="a graph file in the place of the checkpoint's")
    add_contract(parser)
    parser.add_argument("--output-name", metavar="NAME", help="with --onnx: the restored frame among several outputs")
    parser.add_argument("--rebuild", type=Path, metavar="ENGINE",
                        help="build this engine again by the recipe in its manifest")  # fmt: skip
    parser.add_argument("--quantised", type=Path, nargs="+", default=[], metavar="FILE",
                        help="with --onnx --precision best: quantised graphs of the same checkpoint")  # fmt: skip
    parser.add_argument("--shapes-from", type=Path, metavar="DIR", help="take the sizes from the pictures in a folder")
    text = "the engine file to write, a copy of the store's; left out, below paths.artifacts, or the rebuilt"
    parser.add_argument("--output", type=Path, metavar="FILE", help=text)
    return parser


def _refuse_conflicts(arguments: argparse.Namespace) -> None:
    given = {name for name, value in vars(arguments).items() if value not in (None, False, [])}
    if arguments.rebuild:
        others = given - {"rebuild", "output", "config", "quiet", "verbose", "json"}
        if others:
            flags = sorted(f"--{name.replace('_', '-')}" for name in others)
            raise InputError(
                f"--rebuild takes everything from the manifest; only --output goes with it, not {' '.join(flags)}."
            )
        return
    if arguments.onnx and arguments.checkpoint:
        raise InputError("Give either --onnx FILE or --checkpoint FILE, or neither for that of pipeline.toml.")
    if arguments.onnx and given & {"height", "width", "size", "dynamic"}:
        raise InputError("--size, --height, --width and --dynamic go with --checkpoint; a graph has its size.")
    if arguments.onnx and arguments.channel_order:
        raise InputError("--channel-order goes with --checkpoint; a graph has its own.")
    if arguments.onnx and not arguments.output:
        raise InputError("--output FILE is missing: the engine file to write from --onnx.")
    if arguments.contract and not arguments.onnx:
        raise InputError("--contract goes with --onnx; the network of a checkpoint has its own.")
    if arguments.output_name and not arguments.onnx:
        raise InputError("--output-name goes with --onnx; a graph of a checkpoint has one output.")
    if arguments.shapes and arguments.shapes_from:
        raise InputError("--shapes and --shapes-from exclude each other; name the sizes, or the folder they are in.")
    if arguments.quantised and not (arguments.precision == "best" and arguments.onnx):
        raise InputError("--quantised goes with --onnx and --precision best; build one quantised graph with --int8.")


def _refuse_small_frames(job: Job) -> None:
    """What a person names is used, or refused; what pipeline.toml has for the comparison may be too small."""
    from unblur.pipeline.stages import judged_on

    for size in job.sizes:
        if not judged_on(job, size).files:
            raise InputError("No picture of --frames is as large as the graph; name larger ones, or a smaller --size.")


def _precisions(arguments: argparse.Namespace, resolved: Resolved) -> tuple[str, ...]:
    """The precisions to build. "" is that of the graph: of --onnx, and of a checkpoint that is named with --output."""
    flags = [row.flag for row in rows_of("build") if row.key == "build.precisions"]
    asked = tuple(resolved.config.build.precisions)
    if resolved.origin("build.precisions") in (*flags, "--set"):
        return asked
    if arguments.onnx or arguments.rebuild:
        return ("",)
    if arguments.output and len(asked) > 1:
        if arguments.checkpoint:
            return ("fp32",)
        raise InputError(
            f"--output names one engine, and build.precisions has {', '.join(asked)}; choose one, such as --fp16."
        )
    return asked


def _for_a_graph(key: str, arguments: argparse.Namespace, precisions: Sequence[str]) -> bool:
    """Whether a key says anything where a graph is named: it has its network, its size, and a precision unless one is
    asked for."""
    section = key.partition(".")[0]
    if section == "frames":
        return arguments.frames is not None
    if section in ("calibration", "paths") or key == "build.psnr_loss_db":
        return bool(arguments.contract)
    return section == "build" and (key != "build.precisions" or precisions != ("",))


def _protect(arguments: argparse.Namespace, resolved: Resolved, precisions: Sequence[str]) -> None:
    from unblur.building.best import candidate, ranking_of
    from unblur.engines.tensorrt.manifest import outputs_of

    output = arguments.output or arguments.rebuild
    outputs = outputs_of(output)
    if precisions == ("best",):
        outputs[ranking_of(output)] = json_with("winner", "candidates")
        for each in PRECISIONS[:-1]:
            outputs |= outputs_of(candidate(output, each))
    # A rebuild over the engine itself is asked for by name.
    inputs = inputs_of(arguments, "output", *(["rebuild"] if output == arguments.rebuild else []))
    protect(outputs, [*inputs, *([] if arguments.onnx else [resolved.config.network.checkpoint])])


def _build_stage(out: Output, arguments: argparse.Namespace, job: Job, precisions: Sequence[str]) -> int:
    """Engines out of the store, each under its name; one of them copied to --output. What breaks its budget is told
    after the others are built."""
    from unblur.engines.tensorrt.manifest import companions
    from unblur.pipeline.run import Stages
    from unblur.pipeline.stable_names import copy_to

    if job.config.build.shapes and not job.config.graph.dynamic:
        raise InputError("--shapes goes with --dynamic; a graph of --size has one size.")
    if arguments.output and len(job.sizes) > 1:
        raise InputError("--output names one engine, and graph.sizes has several; choose one with --size HxW.")
    stage, refused, made = Stages(job), [], []
    sizes: tuple[Size | None, ...] = job.sizes
    for size in sizes:
        for precision in precisions:
            try:
                built = stage.engine(size, precision)
            except BudgetError as error:
                if len(sizes) * len(precisions) == 1:
                    raise
                refused.append(str(error))
                continue
            path = built.path
            if arguments.output:
                path = arguments.output
                copy_to(path, built.path, *companions(built.path))
            made.append(replace(built, path=path))
            tell_built(out, made[-1])
            out.say(str(path))
    _show(out, made)
    if refused:
        raise BudgetError("\n".join(refused))
    return 0


def _build_graph(out: Output, arguments: argparse.Namespace, job: Job, graph: Path, precision: str) -> int:
    """A graph that is named, to --output."""
    from unblur.building.best import build_best
    from unblur.building.engine import build_engine
    from unblur.engines.tensorrt.profiles import parse_profile
    from unblur.graphs.file import read_graph
    from unblur.pipeline.stages import build_options

    contract = read_graph(graph, arguments.output_name, arguments.contract).signature.contract
    if arguments.shapes_from:
        job = _with_shapes_from(arguments.shapes_from, job, contract)
    profiles = tuple(parse_profile(text) for text in job.config.build.shapes)
    options = replace(build_options(job, (0, 0), precision), profiles=profiles, output_name=arguments.output_name,
                      frames=arguments.frames)  # fmt: skip
    if arguments.contract:
        return _build_foreign(out, arguments, job, graph, precision, replace(options, output_name=None))
    if precision == "best":
        quantised: dict[Path, dict[str, Any]] = {path: {} for path in arguments.quantised}
        best = build_best(graph, arguments.output, options, quantised, progress=job.progress)
        tell_best(out, best)
        return _end(out, [best.winner], arguments.output)
    built = build_engine(graph, arguments.output, options, job.progress)
    tell_built(out, built)
    return _end(out, [built], arguments.output)


def _build_foreign(
    out: Output, arguments: argparse.Namespace, job: Job, graph: Path, precision: str, options: BuildOptions
) -> int:
    """A graph whose pixels were said: it stands in the place of a checkpoint, and 8 bits are calibrated."""
    from unblur.building.engine import build_engine
    from unblur.pipeline.foreign import open_foreign
    from unblur.pipeline.job import Source
    from unblur.pipeline.making.scored_engine import build_best_of_all, build_quantised
    from unblur.pipeline.stages import EXACT

    origin = open_foreign(graph, arguments.contract, arguments.output_name)
    if precision in (*EXACT, ""):
        built = build_engine(origin.stored(job.store, origin.size).path, arguments.output, options, job.progress)
        tell_built(out, built)
        return _end(out, [built], arguments.output)
    given = (
        job.store, Source(origin, origin.size), arguments.output, options, job.calibration,
        job.config.build.psnr_loss_db, job.progress,
    )  # fmt: skip
    if precision == "best":
        best = build_best_of_all(*given)
        tell_best(out, best)
        return _end(out, [best.winner], arguments.output)
    built = build_quantised(*given)
    tell_built(out, built)
    return _end(out, [built], arguments.output)


def _build_best(out: Output, arguments: argparse.Namespace, job: Job) -> int:
    """Every precision of one graph, to --output, where the candidates stay."""
    from unblur.pipeline.making.scored_engine import build_best_of_all
    from unblur.pipeline.stages import build_options, judged_on

    size = job.sizes[0]
    named = judged_on(job, size)
    options = replace(build_options(job, size, None), frames=named.blurred)
    best = build_best_of_all(
        job.store, job.source(size), arguments.output, options, job.calibration,
        job.config.build.psnr_loss_db, job.progress, named,
    )  # fmt: skip
    tell_best(out, best)
    return _end(out, [best.winner], arguments.output)


def _with_shapes_from(folder: Path, job: Job, contract: PixelContract) -> Job:
    """The job with the sizes of a folder's pictures."""
    from unblur.engines.tensorrt.profiles import derive_profiles
    from unblur.images.sizes import padded_sizes

    shapes = tuple(profile.to_text() for profile in derive_profiles(padded_sizes(folder, contract)))
    job.progress.note(f"sizes of {folder}: {', '.join(shapes)}")
    build = job.config.build.model_copy(update={"shapes": shapes})
    return replace(job, config=job.config.model_copy(update={"build": build}))


def _end(out: Output, made: Sequence[Any], path: Path) -> int:
    """The last line of a door is the path of its result."""
    out.say(str(path))
    _show(out, made)
    return 0


def _show(out: Output, made: Sequence[Any]) -> None:
    out.figures({"engines": [{"path": built.path, "manifest": built.manifest} for built in made]})
