"""`unblur search`, `python calibration/search_precision.py`: the cheapest precisions within a budget of decibels."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unblur.cli.door import Arguments, door, inputs_of, positive
from unblur.cli.flags import add_flags, resolve, tell_taken
from unblur.cli.output import Output
from unblur.cli.report_folder import check_output
from unblur.core.artefacts import protect
from unblur.core.console import Progress
from unblur.core.errors import InputError

if TYPE_CHECKING:
    from unblur.calibration.score import HeldOut
    from unblur.calibration.search.page import SearchReport
    from unblur.pipeline.config import FramesSection
    from unblur.pipeline.resolve import Resolved

FIRST_SEED = 1000
"""Drawn frames that no bake-off of algorithms scored on."""


def _parser() -> Arguments:
    parser = Arguments(
        "unblur search",
        "Find the cheapest choice of 8, 16 or 32 bits for each group of convolutions that keeps a budget of decibels; "
        "writes report.json, report.md and report.html. Killed, the same command goes on; with another budget it is "
        "quick. Exit code 3: the budget cannot be met.",
        "unblur search --budget-db 0.02 --engine openvino",
        "unblur search --reproduce artifacts/search --point 1 --output point-1.onnx",
    )
    add_flags(parser, "search")
    parser.add_argument("--output", type=Path, help="folder of the report; left out, search-... below paths.artifacts; "
                        "with --reproduce the .onnx file to write")  # fmt: skip
    parser.add_argument("--reproduce", type=Path, metavar="DIR", help="write a point of this report as a graph instead")
    parser.add_argument("--point", type=positive, metavar="N", help="with --reproduce: its number in report.md")
    return parser


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Search, print the choice; or write a point of an earlier search as a graph. Last comes the result's path."""
    arguments = _parser().parse_args(argv)
    if arguments.reproduce:
        return _reproduce(arguments)
    if arguments.point:
        raise InputError("--point goes with --reproduce DIR, the folder of a search.")
    resolved = resolve(arguments, "search")
    config, asked = resolved.config, resolved.config.search
    # After the arguments: --help and a mistyped flag import no runtime.
    from unblur.calibration.search.search import Budget
    from unblur.graphs.rewrites.forms import find_form
    from unblur.pipeline.job import Job
    from unblur.pipeline.making.ranges import stored_manifest
    from unblur.pipeline.search_bench import Question
    from unblur.pipeline.search_precision import calibrated, search_precision

    out = Output(arguments)
    progress = out.progress
    typed = {key for key in ("psnr_loss_db", "fidelity_db", "worst_db") if resolved.origin(f"search.{key}")[:2] == "--"}
    only_fidelity = typed and "psnr_loss_db" not in typed
    budget = Budget(None if only_fidelity else asked.psnr_loss_db, asked.fidelity_db, asked.worst_db)
    form = find_form(asked.form or asked.engine)
    question = Question(asked.engine, asked.objective, budget, form, asked.gpu, asked.levels)
    if arguments.output:
        check_output(arguments.output, inputs_of(arguments, "output"), "Precision search", "points", "recipe")
    tell_taken(resolved, "search", progress)
    job = Job.of(config, progress)
    frames, at = _held_out(resolved, job.origin.contract.padded_size, progress)
    folder = arguments.output or job.store.root / f"search-{job.origin.name}-{form.name}-{asked.engine}"
    check_output(folder, [config.network.checkpoint], "Precision search", "points", "recipe")
    manifest = stored_manifest(job.store, config.calibration.manifest, progress)
    ranges = calibrated(job.store, job.origin, manifest, form, asked.algorithm, frames, job.threads, progress)
    report = search_precision(question, job.store, job.origin, at, ranges, frames, folder, job.threads, progress)
    for line in _lines(report, folder):
        out.say(line)
    out.figures({"path": folder / "report.json", **report.to_json()})
    return 0


def _held_out(
    resolved: Resolved, padded: Callable[[int, int], tuple[int, int]], progress: Progress
) -> tuple[list[HeldOut], tuple[int, int]]:
    """Frames to score on, and the size of the graph that takes them: to one that a flag names they are cut."""
    from unblur.calibration.score import HeldOut
    from unblur.compare.measure.frames import find_frames
    from unblur.pipeline.held_out import Named, drawn_held_out

    given: FramesSection = resolved.config.frames
    size, *others = resolved.config.graph.sizes
    if not given.blurred:
        if others:
            raise InputError("A search is for one size, and graph.sizes has several; choose one with --size HxW.")
        return drawn_held_out(size, given.generated, FIRST_SEED), size
    files = find_frames(given.blurred, given.sharp, progress)
    if resolved.origin("graph.sizes") == "--size":
        return Named(tuple(files)).at(size, padded, len(files))[0], size
    frames = [HeldOut(*file.read()) for file in files]
    at = padded(*frames[0].frame.shape[:2])
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
    alone = {"reproduce", "point", "output", "checkpoint", "channel_order", "onnx", "contract", "output_name", "config",
             "assignments", "quiet", "verbose", "json"}  # fmt: skip
    defaults = vars(_parser().parse_args([]))
    given = [f"--{key.replace('_', '-')}" for key, value in vars(arguments).items()
             if key not in alone and value != defaults[key]]  # fmt: skip
    if given:
        raise InputError(f"--reproduce takes everything else from the report, not {' '.join(given)}.")
    from unblur.graphs.file import is_exported
    from unblur.pipeline.job import Job
    from unblur.pipeline.search_precision import write_point

    config = resolve(arguments, "search").config
    protect({arguments.output: is_exported}, [*inputs_of(arguments, "output"), config.network.checkpoint])
    out = Output(arguments)
    job = Job.of(config, out.progress)
    said = write_point(arguments.reproduce, arguments.point, job.store, job.origin, arguments.output, job.progress)
    out.say(str(said))
    out.figures({"graph": arguments.output, "report": arguments.reproduce, "point": arguments.point})
    return 0


def _lines(report: SearchReport, folder: Path) -> Iterator[str]:
    from unblur.calibration.search.page import summary

    chosen = report.result.chosen
    yield summary(report)
    yield from report.notes
    for bits in sorted(set(chosen.assignment.values())):
        groups = [name for name, own in chosen.assignment.items() if own == bits]
        yield (f"{bits:>2} bits: {len(groups)} groups: {', '.join(groups)}")
    yield (f"point  {chosen.number} of {len(report.result.points)}; as a graph: unblur search --reproduce {folder} "
          f"--point {chosen.number} --output FILE.onnx")  # fmt: skip
    yield str(folder / "report.html")
