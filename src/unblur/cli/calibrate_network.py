"""`unblur calibrate`, `python calibration/calibrate_network.py`: an 8-bit graph, and what it costs in decibels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unblur.cli.door import Arguments, door, finite, inputs_of, positive, threads
from unblur.cli.engine_options import add_foreign, open_origin
from unblur.cli.weights import add_checkpoint
from unblur.core.artefacts import json_with, protect
from unblur.core.console import ConsoleProgress
from unblur.core.errors import InputError
from unblur.images.contract import PIXELS

if TYPE_CHECKING:
    from unblur.calibration.score import HeldOut, Score
    from unblur.compare.measure.frames import FrameFile
    from unblur.pipeline.calibrate_network import Calibrated

FORMS = ("openvino", "onnxruntime", "tensorrt", "tensorrt-rtx", "fp8")
DRAWN = 4


def _parser() -> Arguments:
    parser = Arguments(
        "unblur calibrate",
        "Measure ranges on calibration frames, write the network's graph in 8 bits and score it on held-out frames. "
        "Killed, the same command goes on. Exit code 3: the budget cannot be met; then nothing is written.",
    )
    add_checkpoint(parser)
    add_foreign(parser)
    parser.add_argument("--manifest", type=Path, help="calibration frames; the bundled ones if left out")
    parser.add_argument("--height", type=positive, help="of the graph; that of the manifest's frames if left out")
    parser.add_argument("--width", type=positive, help="likewise")
    parser.add_argument("--pixels", choices=PIXELS, default="float", help="that the graph takes")
    parser.add_argument("--form", choices=FORMS, default="openvino", help="how 8 bits are written: for which runtime")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--algorithm", metavar="NAME", default="percentile",
                       help="minmax, moving-average, percentile, entropy or mse")  # fmt: skip
    which.add_argument("--bake-off", action="store_true", help="score every algorithm and take the best")
    parser.add_argument(
        "--repair", nargs="+", default=[], metavar="NAME", help="equalisation, adaptive-rounding, bias-correction"
    )
    parser.add_argument("--frames", type=Path, help="folder of held-out blurred pictures to score on, or "
                        "gopro:FOLDER, hide:FOLDER, realblur:FOLDER")  # fmt: skip
    parser.add_argument("--truth", type=Path, help="folder of their sharp partners: same relative path and stem")
    parser.add_argument("--drawn", type=positive, metavar="N", help=f"drawn pairs instead of --frames ({DRAWN})")
    parser.add_argument("--allow-overlap", action="store_true",
                        help="score on frames of the manifest too; the report will tell")  # fmt: skip
    parser.add_argument("--fidelity-db", type=finite, metavar="DB", help="that the worst frame must keep")
    parser.add_argument("--psnr-loss-db", type=finite, metavar="DB", help="mean PSNR that may be lost against truth")
    parser.add_argument("--threads", type=threads, help="CPU threads; physical cores if left out")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx file to write; a .json appears beside it")
    return parser


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, write the graph and its report."""
    arguments = _parser().parse_args(argv)
    _check(arguments)
    # After the arguments: --help and a mistyped flag import no runtime.
    from unblur.calibration.algorithms import algorithms_for, check_algorithm
    from unblur.calibration.repairs.names import check_repairs
    from unblur.compare.measure.frames import find_frames
    from unblur.graphs.file import is_exported
    from unblur.graphs.rewrites.forms import find_form
    from unblur.pipeline.calibrate_network import Limits, calibrate_network, report_of, write_calibrated
    from unblur.pipeline.job import CalibrationSet
    from unblur.pipeline.making.ranges import stored_manifest
    from unblur.pipeline.places import artefact_folder, bundled_manifest
    from unblur.pipeline.store import Store

    outputs = {arguments.output: is_exported, report_of(arguments.output): json_with("unblur", "graph_sha256")}
    protect(outputs, inputs_of(arguments, "output"))
    form = find_form(arguments.form)
    names = algorithms_for(form) if arguments.bake_off else (check_algorithm(arguments.algorithm, form).name,)
    repairs = check_repairs(arguments.repair)
    progress = ConsoleProgress()
    # What is wrong with pairs, their names and headers tell: before the minutes that the rest takes.
    files = find_frames(arguments.frames, arguments.truth, progress) if arguments.frames else []
    checkpoint = open_origin(arguments, progress)
    store = Store(artefact_folder(), progress.note)
    manifest = stored_manifest(store, arguments.manifest or bundled_manifest(), progress)
    of = CalibrationSet(checkpoint, manifest, arguments.pixels, threads=arguments.threads or 0)
    size = (arguments.height, arguments.width) if arguments.height else manifest.size
    limits = Limits(arguments.fidelity_db, arguments.psnr_loss_db)
    found = calibrate_network(
        store, of, size, form, names, repairs, _held_out(files, size, arguments.drawn or DRAWN), limits,
        allow_overlap=arguments.allow_overlap, progress=progress,
    )  # fmt: skip
    report = write_calibrated(found, arguments.output)
    _print(found)
    print(f"graph  {arguments.output}")
    print(f"report {report}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.height is None) != (arguments.width is None):
        raise InputError("--height and --width go together.")
    if arguments.truth and not arguments.frames:
        raise InputError("--truth goes with --frames: the folder of the blurred pictures.")
    if arguments.drawn and arguments.frames:
        raise InputError("--drawn and --frames exclude each other; score on pictures, or on drawn pairs.")
    if arguments.psnr_loss_db is not None and arguments.frames and not _has_truth(arguments):
        raise InputError("--psnr-loss-db needs the sharp pictures: name their folder with --truth.")
    if arguments.output.suffix != ".onnx":
        raise InputError(f"--output {arguments.output}: the graph's name ends in .onnx, a report .json lies beside it.")


def _has_truth(arguments: argparse.Namespace) -> bool:
    from unblur.images.pairs import named_layout

    return bool(arguments.truth or named_layout(arguments.frames)[0])


def _held_out(files: Sequence[FrameFile], size: tuple[int, int], drawn: int) -> list[HeldOut]:
    from unblur.calibration.score import HeldOut
    from unblur.pipeline.held_out import drawn_held_out

    return [HeldOut(*file.read()) for file in files] if files else drawn_held_out(size, drawn)


def _print(found: Calibrated) -> None:
    repaired = f" + {', '.join(found.repairs)}" if found.repairs else ""
    print(f"{'ranges by':<16}{'fidelity, mean':>16}{'worst frame':>14}{'PSNR lost':>14}   (dB)")
    for one in found.scored:
        _row(one.algorithm, one.score, "  <- taken" if one is found.chosen else "")
    if found.unrepaired:
        _row(found.chosen.algorithm, found.unrepaired, "  without repairs")
    print(
        f"best: {found.chosen.algorithm}{repaired}; {found.macs_share:.1%} of the multiply-accumulates in 8 bits "
        f"(form {found.form.name}), ranges from {len(found.of.manifest)} frames of {found.of.manifest.path.name}"
    )
    if found.chosen.score.loss_remark:
        print(f"PSNR lost by {found.chosen.algorithm}:{found.chosen.score.loss_remark}")
    for text in found.overlaps:
        print(f"NOT HELD OUT: {text}")


def _row(name: str, score: Score, note: str) -> None:
    from unblur.metrics.decibels import decibels_text

    mean, worst = decibels_text(score.fidelity_db_mean), decibels_text(score.fidelity_db_worst)
    loss = decibels_text(score.psnr_loss_db, 4, signed=True)
    print(f"{name:<16}{mean:>16}{worst:>14}{loss:>14}{note}")
