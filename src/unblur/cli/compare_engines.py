"""`unblur compare`: fidelity, quality and latency of engines, as a report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door, inputs_of, positive, threads
from unblur.cli.engine_options import add_contract, add_device
from unblur.cli.report_folder import check_output
from unblur.cli.sizes import size
from unblur.cli.weights import add_checkpoint, open_checkpoint
from unblur.core.console import ConsoleProgress
from unblur.core.errors import InputError


def _parser() -> Arguments:
    parser = Arguments(
        "unblur compare",
        "Compare engines, as `unblur deblur` runs them, with eager float32 PyTorch: fidelity to it, quality against "
        "sharp pictures, latency; writes report.json, report.md and report.html. Exit code 3: a budget is broken; 2: a "
        "frame failed.",
    )
    parser.add_argument(
        "--frames",
        type=Path,
        required=True,
        help="folder of blurred pictures, one picture, or the test part of a data set with its truth: gopro:FOLDER, "
        "hide:FOLDER, realblur:FOLDER",
    )
    parser.add_argument("--truth", type=Path, help="folder of their sharp partners: same relative path and stem")
    parser.add_argument(
        "--engines",
        default="onnxruntime,openvino",
        help="engines separated by commas: names, files (FILE.onnx, FILE.engine), or NAME:FILE",
    )
    parser.add_argument("--output-name", metavar="NAME", help="the restored frame among several outputs of FILE.onnx")
    add_contract(parser)
    add_device(parser)
    add_checkpoint(parser)
    parser.add_argument(
        "--reference", type=Path, metavar="FILE.onnx", help="hold engines against this float32 graph instead of PyTorch"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the report")
    parser.add_argument(
        "--manifest", type=Path, help="calibration frames of engines in 8 bits; the bundled ones if left out"
    )
    parser.add_argument("--threads", type=threads, help="CPU threads of each engine; physical cores if left out")
    parser.add_argument("--rounds", type=positive, default=20, help="timed rounds")
    parser.add_argument("--latency-size", type=size, metavar="HxW", help="the most frequent size if left out")
    parser.add_argument("--no-latency", action="store_true", help="measure fidelity and quality only")
    parser.add_argument("--pictures", type=positive, default=3, help="frames that the report shows")
    parser.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="[ENGINE:]KEY=VALUE",
        help="fidelity_db_min, psnr_loss_db_max, latency_ms_max, speedup_min; may be repeated",
    )
    parser.add_argument(
        "--skip-missing", action="store_true", help="list engines this machine cannot run instead of stopping"
    )
    return parser


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    return _parser().parse_args(argv)


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write the report, print its table; then exit 3 for a broken budget or 2 for failed frames."""
    args = _arguments(argv)
    check_output(args.output, inputs_of(args, "output"), "Engines of ", "network", "engines", "latency")
    if args.reference and (args.checkpoint or args.channel_order or args.manifest):
        raise InputError("--reference takes the place of --checkpoint, --channel-order and --manifest; leave them out.")
    # After the arguments: --help and a mistyped flag import no runtime.
    from unblur.cli.report_table import print_report
    from unblur.compare.comparison import Reference, Settings, compare_engines
    from unblur.compare.judge.budgets import parse_budgets
    from unblur.compare.measure.frames import find_frames
    from unblur.compare.tell.write import write_report
    from unblur.metrics.stopwatch import Protocol
    from unblur.networks.checkpoints import Checkpoint
    from unblur.pipeline.job import Calibration
    from unblur.pipeline.opening import graph_reference, make_candidate, make_file_candidate, refuse_calibration_frames
    from unblur.pipeline.places import artefact_folder
    from unblur.pipeline.store import Store

    progress = ConsoleProgress()
    budgets = parse_budgets(args.budget)
    frames = find_frames(args.frames, args.truth, progress)
    store = Store(artefact_folder(), progress.note)
    names = [name.strip() for name in args.engines.split(",") if name.strip()]
    calibration = Calibration(args.manifest)
    if args.reference:
        against: Reference | Checkpoint = graph_reference(args.reference, args.threads, args.output_name, args.contract)
        engines = [
            make_file_candidate(
                name, args.reference, args.threads, args.output_name, device=args.device, contract=args.contract
            )
            for name in names
        ]
    else:
        against = checkpoint = open_checkpoint(args, progress)
        engines = [
            make_candidate(
                name,
                store,
                checkpoint,
                args.threads,
                progress,
                calibration,
                args.output_name,
                dynamic=True,
                device=args.device,
                contract=args.contract,
            )
            for name in names
        ]
        refuse_calibration_frames(store, names, calibration, frames, progress)
    settings = Settings(
        threads=args.threads,
        protocol=None if args.no_latency else Protocol(rounds=args.rounds),
        latency_size=args.latency_size,
        budgets=budgets,
        pictures=args.pictures,
        skip_missing=args.skip_missing,
    )
    report = compare_engines(against, engines, frames, settings, progress)
    written = write_report(report, args.output)
    print_report(report)
    print(f"report  {written.html}")
    report.enforce()
    return 0
