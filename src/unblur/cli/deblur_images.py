"""`unblur deblur IN OUT`: pictures in, deblurred pictures out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unblur.cli.door import Arguments, door, threads
from unblur.cli.engine_options import add_contract, add_engine
from unblur.cli.output import Output
from unblur.cli.weights import add_checkpoint, open_checkpoint
from unblur.core.artefacts import file_digest, refuse_inputs
from unblur.core.errors import InputError
from unblur.core.memory import resident_bytes

if TYPE_CHECKING:
    from unblur.engines.named import NamedEngine


def arguments() -> Arguments:
    """The door's parser."""
    parser = Arguments(
        "unblur deblur",
        "Deblur a picture or a folder of pictures (8-bit PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF). Sub-folders are "
        "mirrored; what is finished is not done again; no input is ever written over.",
        "unblur deblur blurred/ restored/",
        "unblur deblur blurred.jpg restored.png --checkpoint weights.pth --precision bf16",
        "unblur deblur blurred/ restored/ --engine deblur.engine",
    )
    parser.add_argument("source", metavar="IN", type=Path, help="picture or folder")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder, or a file name for a single picture")
    add_checkpoint(parser)
    add_engine(parser)
    add_contract(parser)
    parser.add_argument("--output-name", metavar="NAME", help="the restored frame among several outputs of FILE.onnx")
    parser.add_argument(
        "--manifest", type=Path, help="calibration frames of an engine in 8 bits; the bundled ones if left out"
    )
    parser.add_argument("--threads", type=threads, help="CPU threads; all physical cores if left out")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that unblur did not write")
    return parser


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all finished; 2 usage, or some pictures could not be deblurred (the others are finished)."""
    args = arguments().parse_args(argv)
    # After the arguments: --help and a mistyped flag need no picture library, and a finished folder needs no runtime.
    from unblur.engines.catalogue import choose_engine, find_engine, is_calibrated
    from unblur.engines.named import NamedEngine, is_file_engine, name_engine
    from unblur.pipeline.deblur.folder import Opened, deblur_pictures, task_key
    from unblur.pipeline.deblur.tasks import plan_tasks, planned_sizes
    from unblur.pipeline.dependence import depends_on
    from unblur.pipeline.job import Calibration
    from unblur.pipeline.places import artefact_folder, bundled_checkpoint

    out = Output(args)
    progress = out.progress
    of_file = is_file_engine(args.engine)
    if of_file:
        named = name_engine(args.engine, args.output_name, args.contract, device=args.device)
        _refuse_beside_file(args, named)
    else:
        named = NamedEngine(find_engine(choose_engine(args.engine, args.precision, args.device)))
        if args.contract or args.output_name:
            raise InputError("--contract and --output-name are of a graph's file; name it: --engine FILE.onnx.")
    plan = plan_tasks(args.source, args.output)
    refuse_inputs((task.output for task in plan.tasks), [args.checkpoint, args.manifest, named.file])
    name = named.engine.name
    if args.engine == "auto":
        progress.note(f"engine: {name} ({named.engine.precision}; the fastest of those that run here)")
    # A file brings its own weights; a checkpoint beside it is only held against it.
    path = args.checkpoint or (None if of_file else bundled_checkpoint())
    digest = _digest(path) if path else ""
    calibration = Calibration(args.manifest)
    ranges = calibration.to_json() if is_calibrated(args.engine if of_file else name) else None

    def open_engine() -> Opened:
        from unblur.pipeline.deblur.frame_memory import FrameMemory, largest_activation
        from unblur.pipeline.opening import open_file, open_runner
        from unblur.pipeline.store import Store

        checkpoint = open_checkpoint(args, progress) if path else None
        if checkpoint and checkpoint.digest != digest:
            raise InputError(f"{path} changed while it was read; run the same command again.")
        if of_file or checkpoint is None:
            runner = open_file(args.engine, checkpoint, args.threads, args.output_name, args.contract, args.device)
            progress.note(", ".join(f"{key} {value}" for key, value in runner.description.items()))
            return Opened(runner)
        activation = largest_activation(checkpoint.network)
        runner = open_runner(
            name,
            checkpoint,
            Store(artefact_folder(), progress.note),
            lambda: planned_sizes(plan, checkpoint.contract),
            threads=args.threads,
            progress=progress,
            calibration=calibration,
            device=args.device,
        )
        progress.note(", ".join(f"{key} {value}" for key, value in runner.description.items()))
        return Opened(runner, FrameMemory(name, activation, resident_bytes()))

    depends = depends_on([named], args.device)
    outcome = deblur_pictures(
        plan,
        lambda data: task_key(data, digest, depends, ranges, args.channel_order),
        open_engine,
        overwrite=args.overwrite,
        progress=progress,
    )
    where = args.output if args.source.is_dir() else plan.tasks[0].output
    if outcome.suspects:
        progress.note(f"WARNING: {outcome.suspects} of {outcome.done} pictures look wrong; above is what and where")
    out.say(f"{outcome.done} deblurred, {outcome.skipped} finished before, {len(outcome.failed)} left out: {where}")
    out.figures({"engine": named.label, "deblurred": outcome.done, "with_warning": outcome.suspects,
                 "finished_before": outcome.skipped, "left_out": outcome.failed, "output": where})  # fmt: skip
    if outcome.failed:
        listed = "\n  ".join(outcome.failed)
        total = len(plan.tasks) + len(plan.passed_over)
        raise InputError(f"{len(outcome.failed)} of {total} pictures could not be deblurred:\n  {listed}")
    return 0


def _refuse_beside_file(args: argparse.Namespace, named: NamedEngine) -> None:
    """Raise InputError for options that would change what a file is."""
    if args.precision not in (None, named.engine.precision):
        raise InputError(f"{args.engine} has its precision ({named.engine.precision}); leave out --precision.")
    if args.manifest:
        raise InputError(f"--manifest is for engines that are made here, and {args.engine} is made; leave it out.")


def _digest(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise InputError(f"Checkpoint {path} is not a file; name the .pth, .pt or .safetensors file.")
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(f"Checkpoint {path} cannot be opened: {error.strerror}; check the name.") from error
