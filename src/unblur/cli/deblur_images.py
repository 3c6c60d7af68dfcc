"""`unblur deblur IN OUT`: pictures in, deblurred pictures out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door, threads
from unblur.cli.output import Output
from unblur.cli.weights import add_checkpoint, open_checkpoint
from unblur.core.artefacts import file_digest, refuse_inputs
from unblur.core.errors import InputError
from unblur.core.memory import resident_bytes


def arguments() -> Arguments:
    """The door's parser."""
    parser = Arguments(
        "unblur deblur",
        "Deblur a picture or a folder of pictures (8-bit PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF). Sub-folders are "
        "mirrored; what is finished is not done again; no input is ever written over.",
        "unblur deblur blurred/ restored/",
        "unblur deblur blurred.jpg restored.png --checkpoint weights.pth --precision bf16",
    )
    parser.add_argument("source", metavar="IN", type=Path, help="picture or folder")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder, or a file name for a single picture")
    add_checkpoint(parser)
    parser.add_argument(
        "--engine",
        choices=(
            "auto",
            "torch",
            "onnxruntime",
            "openvino",
            "onnxruntime-int8",
            "openvino-int8",
            "tensorrt",
            "tensorrt-rtx",
        ),
        default="auto",
        help="backend; the last two need an NVIDIA GPU",
    )
    parser.add_argument(
        "--precision", choices=("f32", "fp16", "bf16", "int8"), default="f32", help="of the engine's arithmetic"
    )
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
    from unblur.engines.catalogue import is_calibrated
    from unblur.engines.choice import choose_engine
    from unblur.pipeline.deblur.folder import Opened, deblur_pictures, task_key
    from unblur.pipeline.deblur.tasks import plan_tasks, planned_sizes
    from unblur.pipeline.job import Calibration
    from unblur.pipeline.places import artefact_folder, bundled_checkpoint

    out = Output(args)
    progress = out.progress
    plan = plan_tasks(args.source, args.output)
    refuse_inputs((task.output for task in plan.tasks), [args.checkpoint, args.manifest])
    name = choose_engine(args.engine, args.precision)
    if args.engine == "auto":
        progress.note(f"engine: {name} (the fastest backend that is installed)")
    path = args.checkpoint or bundled_checkpoint()
    digest = _digest(path)
    calibration = Calibration(args.manifest)
    ranges = calibration.to_json() if is_calibrated(name) else None

    def open_engine() -> Opened:
        from unblur.pipeline.deblur.frame_memory import FrameMemory, largest_activation
        from unblur.pipeline.opening import open_runner
        from unblur.pipeline.store import Store

        checkpoint = open_checkpoint(args, progress)
        if checkpoint.digest != digest:
            raise InputError(f"{path} changed while it was read; run the same command again.")
        activation = largest_activation(checkpoint.network)
        runner = open_runner(
            name,
            checkpoint,
            Store(artefact_folder(), progress.note),
            lambda: planned_sizes(plan, checkpoint.contract),
            threads=args.threads,
            progress=progress,
            calibration=calibration,
        )
        progress.note(", ".join(f"{key} {value}" for key, value in runner.description.items()))
        return Opened(runner, FrameMemory(name, activation, resident_bytes()))

    outcome = deblur_pictures(
        plan,
        lambda data: task_key(data, digest, name, ranges, args.channel_order),
        open_engine,
        overwrite=args.overwrite,
        progress=progress,
    )
    where = args.output if args.source.is_dir() else plan.tasks[0].output
    out.say(f"{outcome.done} deblurred, {outcome.skipped} finished before, {len(outcome.failed)} left out: {where}")
    out.figures({"engine": name, "deblurred": outcome.done, "finished_before": outcome.skipped,
                 "left_out": outcome.failed, "output": where})  # fmt: skip
    if outcome.failed:
        listed = "\n  ".join(outcome.failed)
        total = len(plan.tasks) + len(plan.passed_over)
        raise InputError(f"{len(outcome.failed)} of {total} pictures could not be deblurred:\n  {listed}")
    return 0


def _digest(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise InputError(f"Checkpoint {path} is not a file; name the .pth, .pt or .safetensors file.")
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(f"Checkpoint {path} cannot be opened: {error.strerror}; check the name.") from error
