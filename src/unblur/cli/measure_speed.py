"""`unblur speed`: engines of one network at one size against eager PyTorch."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door, inputs_of, positive, threads
from unblur.cli.engine_options import add_device
from unblur.cli.report_folder import check_output
from unblur.cli.sizes import size
from unblur.cli.weights import add_checkpoint, open_checkpoint
from unblur.core.console import ConsoleProgress
from unblur.core.errors import InputError

ENGINES = "torch-channels-last,torch-compile,torch-bf16,torch-compile-bf16,onnxruntime,openvino,openvino-bf16"
SEED = 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Arguments(
        "unblur speed",
        "Measure engines against eager float32 PyTorch in interleaved rounds, on a checkpoint or on a network with "
        "random weights (as fast as trained ones); writes report.json and report.md.",
    )
    parser.add_argument("--network", help="a network by name, with random weights of a fixed seed")
    add_checkpoint(parser, "a checkpoint instead of a name")
    add_device(parser)
    parser.add_argument("--size", type=size, default=(256, 256), metavar="HxW", help="of the frames")
    parser.add_argument("--engines", default=ENGINES, help="names separated by commas; torch is always among them")
    parser.add_argument(
        "--manifest", type=Path, help="calibration frames of engines in 8 bits; the bundled ones if left out"
    )
    parser.add_argument("--threads", type=threads, help="CPU threads of each engine; physical cores if left out")
    parser.add_argument("--rounds", type=positive, default=15, help="timed rounds")
    parser.add_argument("--output", type=Path, required=True, help="folder for the report")
    args = parser.parse_args(argv)
    if (args.network is None) == (args.checkpoint is None):
        raise InputError("Name a network with --network, or a checkpoint with --checkpoint, one of the two.")
    if args.network and args.channel_order:
        raise InputError("--channel-order goes with --checkpoint: random weights were not trained with any.")
    return args


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the report, print its table. An engine this machine cannot run is listed with the reason."""
    args = _arguments(argv)
    check_output(args.output, inputs_of(args, "output"), "Speed of ", "network", "engines", "latency")
    # After the arguments: --help and a mistyped flag import no runtime.
    from unblur.compare.speed import HEADINGS, measure_speed, notes_of, rows_of, write_speed
    from unblur.metrics.stopwatch import Protocol
    from unblur.networks.random_weights import random_checkpoint
    from unblur.pipeline.job import Calibration
    from unblur.pipeline.opening import make_candidate
    from unblur.pipeline.places import artefact_folder
    from unblur.pipeline.store import Store

    progress = ConsoleProgress()
    with tempfile.TemporaryDirectory() as folder:
        if args.checkpoint:
            checkpoint, weights = open_checkpoint(args, progress), args.checkpoint.name
        else:
            checkpoint, weights = random_checkpoint(args.network, SEED, Path(folder)), f"random weights, seed {SEED}"
        store = Store(artefact_folder(), progress.note)
        names = [name.strip() for name in args.engines.split(",") if name.strip()]
        calibration = Calibration(args.manifest)
        engines = [
            make_candidate(name, store, checkpoint, args.threads, progress, calibration, device=args.device)
            for name in names
        ]
        report = measure_speed(
            checkpoint,
            engines,
            args.size,
            weights,
            threads=args.threads,
            protocol=Protocol(rounds=args.rounds),
            progress=progress,
        )
    written = write_speed(report, args.output)
    _print_table([HEADINGS, *rows_of(report)])
    for note in notes_of(report):
        print(note)
    print(f"report  {written}")
    return 0


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
