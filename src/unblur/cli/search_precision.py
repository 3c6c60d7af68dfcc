"""`unblur search`, `python calibration/search_precision.py`: the cheapest precisions within a budget of decibels."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unblur.cli.door import Arguments, door, finite, inputs_of, positive, threads
from unblur.cli.engine_options import add_foreign, open_origin
from unblur.cli.report_folder import check_output
from unblur.cli.sizes import size
from unblur.cli.weights import add_checkpoint
from unblur.core.artefacts import protect
from unblur.core.console import ConsoleProgress, Progress
from unblur.core.errors import InputError

if TYPE_CHECKING:
    from unblur.calibration.score import HeldOut
    from unblur.calibration.search.page import SearchReport

LOSS_DB, DRAWN, SIZE = 0.02, 4, (256, 256)
FIRST_SEED = 1000
"""Drawn frames that no bake-off of algorithms scored on."""


def _parser() -> Arguments:
    parser = Arguments(
        "unblur search",
        "Find the cheapest choice of 8, 16 or 32 bits for each group of convolutions that keeps a budget of decibels; "
        "writes report.json, report.md and report.html. Killed, the same command goes on; with another budget it is "
        "quick. Exit code 3: the budget cannot be met.",
    )
    add_checkpoint(parser)
    add_foreign(parser)
    parser.add_argument("--engine", choices=("openvino", "onnxruntime", "tensorrt-rtx"), default="openvino",
                        help="what shall run it; tensorrt-rtx needs no GPU here")  # fmt: skip
    parser.add_argument("--objective", choices=("latency", "bytes", "macs"), default="latency",
                        help="what shall be small: measured time (tensorrt-rtx: the roofline's lower bound), bytes "
                        "moved (tensorrt-rtx), or multiply-accumulates by their bits")  # fmt: skip
    parser.add_argument("--budget-db", type=finite, metavar="DB", help="PSNR against truth that may be lost or gained, "
                        f"on average over the frames; {LOSS_DB} where no budget is given")  # fmt: skip
    parser.add_argument("--fidelity-db", type=finite, metavar="DB", help="mean fidelity to float32 to keep")
    parser.add_argument("--form", help="how 8 bits are written; the engine's own if left out, fp8 for tensorrt-rtx")
    parser.add_argument("--levels", metavar="BITS", help="that a group may have, as 8,16,32 (default: 8,32 on a CPU, "
                        "8,16 with tensorrt-rtx)")  # fmt: skip
    parser.add_argument("--gpu", default="RTX 4090", help="of tensorrt-rtx: whose roofline")
    parser.add_argument("--size", type=size, metavar="HxW", help="of the graph; that of --frames, else 256x256")
    parser.add_argument("--frames", type=Path, help="folder of held-out blurred pictures of one size")
    parser.add_argument("--truth", type=Path, help="folder of their sharp partners: same relative path and stem")
    parser.add_argument("--drawn", type=positive, metavar="N", help=f"drawn pairs instead of --frames ({DRAWN})")
    parser.add_argument("--manifest", type=Path, help="calibration frames; the bundled synthetic-16 if left out")
    parser.add_argument("--algorithm", default="best", help="of the ranges, or best: that of a bake-off")
    parser.add_argument("--threads", type=threads, help="CPU threads; physical cores if left out")
    parser.add_argument("--output", type=Path, help="folder of the report (default: artifacts/reports/search-...); "
                        "with --reproduce the .onnx file to write")  # fmt: skip
    parser.add_argument("--reproduce", type=Path, metavar="DIR", help="write a point of this report as a graph instead")
    parser.add_argument("--point", type=positive, metavar="N", help="with --reproduce: its number in report.md")
    return parser


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Search, print the choice; or write a point of an earlier search as a graph."""
    arguments = _parser().parse_args(argv)
    if arguments.reproduce:
        return _reproduce(arguments)
    if arguments.point:
        raise InputError("--point goes with --reproduce DIR, the folder of a search.")
    if arguments.truth and not arguments.frames:
        raise InputError("--truth goes with --frames: the folder of the blurred pictures.")
    if arguments.drawn and arguments.frames:
        raise InputError("--drawn and --frames exclude each other; score on pictures, or on drawn pairs.")
    levels = _levels(arguments.levels)
    if arguments.output:
        check_output(arguments.output, inputs_of(arguments, "output"), "Precision search", "points", "recipe")
    # After the arguments: --help and a mistyped flag import no runtime.
    from unblur.calibration.search.search import Budget
    from unblur.graphs.rewrites.forms import find_form
    from unblur.pipeline.making.ranges import stored_manifest
    from unblur.pipeline.places import artefact_folder, bundled_manifest
    from unblur.pipeline.search_bench import Question
    from unblur.pipeline.search_precision import calibrated, search_precision
    from unblur.pipeline.store import Store

    progress = ConsoleProgress()
    loss_db = LOSS_DB if arguments.budget_db is None and arguments.fidelity_db is None else arguments.budget_db
    question = Question(
        arguments.engine, arguments.objective, Budget(loss_db, arguments.fidelity_db),
        find_form(arguments.form or arguments.engine), arguments.gpu, levels,
    )  # fmt: skip
    checkpoint = open_origin(arguments, progress)
    frames, at = _held_out(arguments, checkpoint.contract.padded_size, progress)
    store = Store(artefact_folder(), progress.note)
    manifest = stored_manifest(store, arguments.manifest or bundled_manifest(), progress)
    ranges = calibrated(
        store, checkpoint, manifest, question.form, arguments.algorithm, frames, arguments.threads, progress
    )
    name = f"search-{checkpoint.name}-{question.form.name}-{question.engine}-{question.objective}"
    folder = arguments.output or artefact_folder() / "reports" / name
    report = search_precision(question, store, checkpoint, at, ranges, frames, folder, arguments.threads, progress)
    _tell(report, folder)
    return 0


def _levels(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--levels {text}: write bits separated by commas, as 8,16,32.") from error


def _held_out(
    arguments: argparse.Namespace, padded: Callable[[int, int], tuple[int, int]], progress: Progress
) -> tuple[list[HeldOut], tuple[int, int]]:
    """Frames to score on, and the size of the graph that takes them."""
    from unblur.calibration.score import HeldOut
    from unblur.compare.measure.frames import find_frames
    from unblur.pipeline.held_out import drawn_held_out

    if not arguments.frames:
        at = arguments.size or SIZE
        return drawn_held_out(at, arguments.drawn or DRAWN, FIRST_SEED), at
    files = find_frames(arguments.frames, arguments.truth, progress)
    frames = [HeldOut(*file.read()) for file in files]
    at = arguments.size or padded(*frames[0].frame.shape[:2])
    for file, held in zip(files, frames, strict=True):
        height, width = held.frame.shape[:2]
        if padded(height, width) != at:
            raise InputError(
                f"{file.path} is {height}x{width}, the search is for {at[0]}x{at[1]}: one graph takes one size; crop "
                "the pictures, or leave out --size and give pictures of one size."
            )
    return frames, at


def _reproduce(arguments: argparse.Namespace) -> int:
    if arguments.point is None or arguments.output is None:
        raise InputError("--reproduce DIR takes --point N (see report.md) and --output FILE.onnx.")
    origin = {"checkpoint", "channel_order", "onnx", "contract", "output_name"}
    alone = {"reproduce", "point", "output", "quiet", "verbose", "json"} | origin
    defaults = vars(_parser().parse_args([]))
    given = [f"--{key.replace('_', '-')}" for key, value in vars(arguments).items()
             if key not in alone and value != defaults[key]]  # fmt: skip
    if given:
        raise InputError(f"--reproduce takes everything else from the report, not {' '.join(given)}.")
    from unblur.graphs.file import is_exported
    from unblur.pipeline.places import artefact_folder
    from unblur.pipeline.search_precision import write_point
    from unblur.pipeline.store import Store

    protect({arguments.output: is_exported}, inputs_of(arguments, "output"))
    progress: Progress = ConsoleProgress()
    checkpoint = open_origin(arguments, progress)
    store = Store(artefact_folder(), progress.note)
    print(write_point(arguments.reproduce, arguments.point, store, checkpoint, arguments.output, progress))
    return 0


def _tell(report: SearchReport, folder: Path) -> None:
    from unblur.calibration.search.page import summary

    chosen = report.result.chosen
    print(summary(report))
    for note in report.notes:
        print(note)
    for bits in sorted(set(chosen.assignment.values())):
        groups = [name for name, own in chosen.assignment.items() if own == bits]
        print(f"{bits:>2} bits: {len(groups)} groups: {', '.join(groups)}")
    print(f"point  {chosen.number} of {len(report.result.points)}; as a graph: unblur search --reproduce {folder} "
          f"--point {chosen.number} --output FILE.onnx")  # fmt: skip
    print(f"report {folder / 'report.html'}")
