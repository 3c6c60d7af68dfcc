"""`unblur compare`: fidelity, quality and latency of engines, as a report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door, positive
from unblur.cli.report_folder import check_output
from unblur.cli.sizes import size
from unblur.core.console import ConsoleProgress


def _parser() -> Arguments:
    parser = Arguments(
        "unblur compare",
        "Compare engines, as `unblur deblur` runs them, with eager float32 PyTorch: fidelity to it, quality against "
        "sharp pictures, latency; writes report.json, report.md and report.html. Exit code 3: a budget is broken; 2: a "
        "frame failed.",
    )
    parser.add_argument("--frames", type=Path, required=True, help="folder of blurred pictures, or one picture")
    parser.add_argument("--truth", type=Path, help="folder of their sharp partners: same relative path and stem")
    parser.add_argument(
        "--engines",
        default="onnxruntime,openvino",
        help="names of engines separated by commas; BACKEND:FILE.onnx runs a graph of your own",
    )
    parser.add_argument("--checkpoint", type=Path, help="weights; the bundled demonstration network if left out")
    parser.add_argument("--channel-order", choices=("bgr", "rgb"), help="that the weights were trained with")
    parser.add_argument("--output", type=Path, required=True, help="folder for the report")
    parser.add_argument(
        "--manifest", type=Path, help="calibration frames of engines in 8 bits; the bundled ones if left out"
    )
    parser.add_argument("--threads", type=positive, help="CPU threads of each engine; physical cores if left out")
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
    check_output(args.output)
    # After the arguments: --help and a mistyped flag import no runtime.
    from unblur.cli.report_table import print_report
    from unblur.compare.budgets import parse_budgets
    from unblur.compare.comparison import Settings, compare_engines
    from unblur.compare.frames import find_frames
    from unblur.compare.write import write_report
    from unblur.metrics.stopwatch import Protocol
    from unblur.networks.checkpoints import load_checkpoint
    from unblur.pipeline.candidates import make_candidate
    from unblur.pipeline.engine_graph import Calibration, refuse_calibration_frames
    from unblur.pipeline.places import artefact_folder, bundled_checkpoint
    from unblur.pipeline.store import Store

    progress = ConsoleProgress()
    budgets = parse_budgets(args.budget)
    frames = find_frames(args.frames, args.truth)
    checkpoint = load_checkpoint(args.checkpoint or bundled_checkpoint(), args.channel_order)
    store = Store(artefact_folder())
    names = [name.strip() for name in args.engines.split(",") if name.strip()]
    calibration = Calibration(args.manifest)
    engines = [
        make_candidate(name, store, checkpoint, args.threads, progress, calibration, dynamic=True) for name in names
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
    report = compare_engines(checkpoint, engines, frames, settings, progress)
    written = write_report(report, args.output)
    print_report(report)
    print(f"report  {written.html}")
    report.enforce()
    return 0
