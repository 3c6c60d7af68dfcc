"""`unblur calibrate`, `python calibration/calibrate_network.py`: an 8-bit graph, and what it costs in decibels."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unblur.cli.door import Arguments, door, inputs_of
from unblur.cli.flags import add_flags, resolve, tell_taken
from unblur.cli.output import Output
from unblur.core.artefacts import json_with, protect
from unblur.core.errors import InputError
from unblur.core.reading import parse_json

if TYPE_CHECKING:
    from unblur.calibration.score import HeldOut, Score
    from unblur.compare.measure.frames import FrameFile
    from unblur.pipeline.calibrate_network import Calibrated
    from unblur.pipeline.config import FramesSection


def _parser() -> Arguments:
    parser = Arguments(
        "unblur calibrate",
        "Measure ranges on calibration frames, write the network's graph in 8 bits and score it on held-out frames. "
        "Killed, the same command goes on. Exit code 3: the budget cannot be met; then nothing is written.",
        "unblur calibrate --form openvino --repair bias-correction",
        "unblur calibrate --manifest frames.toml --size 720x1280 --bake-off --psnr-loss-db 0.05 --output int8.onnx",
    )
    add_flags(parser, "calibrate")
    parser.add_argument("--allow-overlap", action="store_true",
                        help="score on frames of the manifest too; the report will tell")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="the .onnx file to write, a .json beside it; "
                        "left out, they have their names below paths.artifacts")  # fmt: skip
    return parser


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, write the graph and its report; the last line is the path of the graph."""
    arguments = _parser().parse_args(argv)
    if arguments.output and arguments.output.suffix != ".onnx":
        raise InputError(f"--output {arguments.output}: the graph's name ends in .onnx, a report .json lies beside it.")
    resolved = resolve(arguments, "calibrate")
    config, section = resolved.config, resolved.config.calibration
    _check(config.frames, section.psnr_loss_db)
    # After the arguments: --help and a mistyped flag import no runtime.
    from unblur.calibration.algorithms import BEST, algorithms_for, check_algorithm
    from unblur.compare.measure.frames import find_frames
    from unblur.graphs.file import is_exported
    from unblur.graphs.rewrites.forms import find_form
    from unblur.pipeline.calibrate_network import Limits, calibrate_network, report_of, write_calibrated
    from unblur.pipeline.foreign import ForeignGraph
    from unblur.pipeline.job import CalibrationSet, Job, read_keep
    from unblur.pipeline.making.ranges import stored_manifest
    from unblur.pipeline.stages import size_text

    form = find_form(section.form)
    algorithm = section.algorithm
    names = algorithms_for(form) if algorithm == BEST else (check_algorithm(algorithm, form).name,)
    out = Output(arguments)
    progress = out.progress
    job = Job.of(config, progress)
    if arguments.output:
        _protect(arguments, arguments.output, config.network.checkpoint)
    tell_taken(resolved, "calibrate", progress)
    # What is wrong with pairs, their names and headers tell: before the minutes that the rest takes.
    files = find_frames(config.frames.blurred, config.frames.sharp, progress) if config.frames.blurred else []
    origin = job.origin  # and what is wrong with the network, loading it
    manifest = stored_manifest(job.store, section.manifest, progress)
    of = CalibrationSet(
        origin, manifest, config.graph.pixels, config.graph.opset, job.threads or 0, read_keep(section.keep)
    )
    sizes = (manifest.size,) if resolved.origin("graph.sizes") == "default" else config.graph.sizes
    if isinstance(origin, ForeignGraph) and origin.size and not resolved.origin("graph.sizes").startswith("--"):
        sizes = (origin.size,)  # it has one; those of pipeline.toml are of the checkpoint that is named there
    if arguments.output and len(sizes) > 1:
        raise InputError("--output names one graph, and graph.sizes has several; choose one with --size HxW.")
    pixels = "" if config.graph.pixels == "float" else f"-{config.graph.pixels}"
    made = []
    for size in sizes:
        output = arguments.output or job.store.root / (f"{origin.name}-{size_text(size)}{pixels}-int8-{form.name}.onnx")
        protect({output: is_exported, report_of(output): json_with("unblur", "graph_sha256")}, [])
        found = calibrate_network(
            job.store, of, size, form, names, section.repairs, _held_out(files, size, config.frames),
            Limits(section.fidelity_db, section.psnr_loss_db), allow_overlap=arguments.allow_overlap, progress=progress,
        )  # fmt: skip
        report = write_calibrated(found, output)
        for line in _lines(found):
            out.say(line)
        out.say(f"report {report}")
        out.say(str(output))
        made.append({"path": output, "report": report, **parse_json(report.read_bytes())})
    out.figures({"graphs": made})
    return 0


def _check(frames: FramesSection, psnr_loss_db: float | None) -> None:
    from unblur.images.pairs import named_layout

    if psnr_loss_db is None or frames.blurred is None or frames.sharp or named_layout(frames.blurred)[0]:
        return
    raise InputError("--psnr-loss-db needs the sharp pictures: name their folder with --truth.")


def _protect(arguments: argparse.Namespace, output: Path, checkpoint: Path) -> None:
    from unblur.graphs.file import is_exported
    from unblur.pipeline.calibrate_network import report_of

    outputs = {output: is_exported, report_of(output): json_with("unblur", "graph_sha256")}
    protect(outputs, [*inputs_of(arguments, "output"), checkpoint])


def _held_out(files: Sequence[FrameFile], size: tuple[int, int], frames: FramesSection) -> list[HeldOut]:
    from unblur.calibration.score import HeldOut
    from unblur.pipeline.held_out import drawn_held_out

    return [HeldOut(*f.read()) for f in files] if files else drawn_held_out(size, frames.generated, frames.seed)


def _lines(found: Calibrated) -> Iterator[str]:
    chosen = found.chosen
    repaired = f" + {', '.join(chosen.repairs)}" if chosen.repairs else ""
    names = ["".join(f" + {repair}" for repair in one.repairs) for one in found.scored]
    width = max(16, *(len(one.algorithm + name) + 2 for one, name in zip(found.scored, names, strict=True)))
    yield (f"{'ranges by':<{width}}{'fidelity, mean':>16}{'worst frame':>14}{'PSNR lost':>14}   (dB)")
    for one, name in zip(found.scored, names, strict=True):
        yield _row(one.algorithm + name, one.score, "  <- taken" if one is chosen else "", width)
    if found.unrepaired and all(one.repairs for one in found.scored):
        yield _row(chosen.algorithm, found.unrepaired, "  without repairs", width)
    yield (
        f"taken: {found.chosen.algorithm}{repaired}; {found.macs_share:.1%} of the multiply-accumulates in 8 bits "
        f"(form {found.form.name}), ranges from {len(found.of.manifest)} frames of {found.of.manifest.path.name}"
    )
    if found.chosen.score.loss_remark:
        yield (f"PSNR lost by {found.chosen.algorithm}:{found.chosen.score.loss_remark}")
    for text in found.overlaps:
        yield (f"NOT HELD OUT: {text}")


def _row(name: str, score: Score, note: str, width: int) -> str:
    from unblur.metrics.decibels import decibels_text

    mean, worst = decibels_text(score.fidelity_db_mean), decibels_text(score.fidelity_db_worst)
    loss = decibels_text(score.psnr_loss_db, 4, signed=True)
    return f"{name:<{width}}{mean:>16}{worst:>14}{loss:>14}{note}"
