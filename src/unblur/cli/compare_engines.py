"""`unblur compare`: fidelity, quality and latency of engines, as a report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unblur.cli.door import Arguments, door, inputs_of, positive
from unblur.cli.engine_options import add_contract
from unblur.cli.flags import add_flags, resolve, tell_taken
from unblur.cli.output import Output
from unblur.cli.report_folder import check_output
from unblur.cli.sizes import size
from unblur.core.errors import InputError, MissingRuntimeError

if TYPE_CHECKING:
    from unblur.compare.candidates import Candidate, Reference
    from unblur.networks.checkpoints import Checkpoint
    from unblur.pipeline.job import Job
    from unblur.pipeline.resolve import Resolved
    from unblur.pipeline.stages import Frames

OWN = ("output", "reference", "output_name", "contract", "latency_size", "pictures")
"""Arguments that ask for a report of one's own, in the place of the one that the store keeps."""


def _parser() -> Arguments:
    parser = Arguments(
        "unblur compare",
        "Compare engines with eager float32 PyTorch: fidelity to it, quality against sharp pictures, latency; writes "
        "report.json, report.md, report.html and results.csv. Without --output it is the comparison of `unblur run`, "
        "found again where nothing changed; with it, engines run as `unblur deblur` runs them. Frames that were scored "
        "before are not run again. Exit code 3: a budget is broken; 2: a frame failed.",
        "unblur compare --frames blurred/ --truth sharp/ --engines onnxruntime,openvino",
        "unblur compare --baseline compare/baselines/nano.json",
        "unblur compare --frames gopro:GoPro --budget psnr_loss_db_max=0.01 --budget openvino:latency_ms_max=900",
    )
    add_flags(parser, "compare")
    add_contract(parser)
    parser.add_argument("--output-name", metavar="NAME", help="the restored frame among several outputs of FILE.onnx")
    parser.add_argument(
        "--reference", type=Path, metavar="FILE.onnx", help="hold engines against this float32 graph instead of PyTorch"
    )
    parser.add_argument("--latency-size", type=size, metavar="HxW", help="the most frequent size if left out")
    parser.add_argument("--pictures", type=positive, help="frames that the report shows; 3 if left out")
    parser.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="[ENGINE:]KEY=VALUE",
        help="in the place of [budgets]: fidelity_db_min, psnr_db_min, gain_db_min, psnr_loss_db_max, latency_ms_max, "
        "speedup_min; repeatable",
    )
    parser.add_argument(
        "--skip-missing", action="store_true", help="list engines this machine cannot run instead of stopping; those "
        "of pipeline.toml are"
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="folder for a report of one's own; left out, report below paths.artifacts")  # fmt: skip
    return parser


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    return _parser().parse_args(argv)


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write the report, print its table and its path; then exit 3 for a broken budget or 2 for failed
    frames."""
    args = _arguments(argv)
    if args.reference and (args.checkpoint or args.channel_order or args.manifest):
        raise InputError("--reference takes the place of --checkpoint, --channel-order and --manifest; leave them out.")
    if args.reference and args.cost:
        raise InputError("--cost is of engines of a checkpoint, and --reference takes its place; leave one out.")
    own = any(getattr(args, name) for name in OWN)
    if own and not args.output:
        given = next(f"--{name.replace('_', '-')}" for name in OWN if getattr(args, name))
        raise InputError(f"{given} asks for a report of one's own: name its folder with --output DIR.")
    if args.output:
        keys = ("network", "engines", "latency")
        check_output(args.output, inputs_of(args, "output"), "Engines of ", *keys, table="engine,frame,")
    resolved = resolve(args, "compare")
    # After the arguments: --help and a mistyped flag import no runtime.
    from unblur.compare.judge.budgets import parse_budgets
    from unblur.images.pairs import named_layout
    from unblur.pipeline.job import Job
    from unblur.pipeline.run import Stages, check_baseline, check_engines, compare_all
    from unblur.pipeline.stages import fitting_budgets

    out = Output(args)
    progress = out.progress
    config = resolved.config
    if args.budget:
        config = config.model_copy(update={"budgets": parse_budgets(args.budget)})
    elif args.frames or args.no_latency or args.engines:
        blurred = config.frames.blurred
        has_truth = blurred is None or config.frames.sharp is not None or named_layout(blurred)[0] is not None
        budgets = fitting_budgets(
            config.budgets, config.compare.engines, has_truth=has_truth, latency=config.compare.rounds > 0
        )
        stated = {(name, key) for name, of in config.budgets.items() for key in of.model_dump(exclude_none=True)}
        if left := sorted({key for name, key in stated if name in budgets and getattr(budgets[name], key) is None}):
            progress.note(f"budgets that this comparison has nothing to hold against are left out: {', '.join(left)}")
        config = config.model_copy(update={"budgets": budgets})
    job = Job.of(config, progress)
    check_engines(job)
    check_baseline(job, one_report=own, reference=args.reference)
    tell_taken(resolved, "compare", progress)
    if own:
        return _compare_own(args, job, resolved, out)
    from unblur.cli.report_table import print_report

    compared, _ = compare_all(stage := Stages(job))
    for one in compared:
        print_report(one.report, out.people)
        out.say(str(one.folder / "report.html"))
    out.figures({"reports": [{"path": one.folder / "report.json", **one.report.to_json()} for one in compared]})
    for error in stage.refused:
        raise error
    for one in compared:
        for engine in one.report.engines if args.engines and not args.skip_missing else ():
            if engine.not_measured:
                raise MissingRuntimeError(f"{engine.name}: {engine.not_measured}")
        one.report.enforce()
    return 0


def _compare_own(args: argparse.Namespace, job: Job, resolved: Resolved, out: Output) -> int:
    from unblur.cli.report_table import print_report
    from unblur.compare.comparison import Settings, compare_engines
    from unblur.compare.judge.budgets import spread_budgets
    from unblur.compare.tell.write import write_report
    from unblur.core.artefacts import refuse_nested
    from unblur.metrics.stopwatch import Protocol
    from unblur.pipeline import stages
    from unblur.pipeline.baseline import since_baseline
    from unblur.pipeline.cost import with_costs
    from unblur.pipeline.kept_scores import kept_scores

    config = job.config
    refuse_nested(args.output, "--output", stages.folders_of(config.frames))
    frames = stages.frames(job, config.graph.sizes[0])
    against, engines, rows = _against(args, job, frames)
    how = {"output": args.output_name, "contract": args.contract, "dynamic": True}
    settings = Settings(
        kept=kept_scores(job, rows, against.digest, **how),
        threads=job.threads,
        protocol=Protocol(rounds=config.compare.rounds) if config.compare.rounds else None,
        latency_size=args.latency_size,
        repeats=config.compare.repeats,
        budgets=spread_budgets(config.budgets, [engine.name for engine in engines]),
        pictures=args.pictures or 3,
        skip_missing=args.skip_missing or resolved.origin("compare.engines") != "--engines",
        waterfall=config.compare.waterfall,
        detectors=config.compare.detectors,
    )
    report = compare_engines(against, engines, frames.files, settings, job.progress)
    if config.compare.cost:
        report = with_costs(job, report, config.compare.engines, dynamic=True)
    report = since_baseline(job, report)
    written = write_report(report, args.output)
    print_report(report, out.people)
    out.say(str(written.html))
    out.figures({"reports": [{"path": written.json, **report.to_json()}]})
    report.enforce()
    return 0


def _against(
    args: argparse.Namespace, job: Job, frames: Frames
) -> tuple[Checkpoint | Reference, list[Candidate], dict[str, str]]:
    """The reference, the engines beside it, and what each row of the report was named with."""
    from unblur.engines.catalogue import REFERENCE, find_engine, is_calibrated
    from unblur.engines.named import is_file_engine
    from unblur.pipeline.opening import (
        GRAPH_REFERENCE,
        graph_reference,
        make_candidate,
        make_file_candidate,
        refuse_calibration_frames,
    )

    names, calibration, device = job.config.compare.engines, job.calibration, job.config.compare.device
    hang_s = job.config.compare.hang_seconds
    if args.reference:
        if not args.engines:  # what the file names beside a checkpoint may need one
            runnable = (
                n for n in names if is_file_engine(n) or (find_engine(n).runs == "graph" and not is_calibrated(n))
            )
            names = tuple(runnable)
        named = (args.reference, job.threads, args.output_name)
        reference = graph_reference(*named, args.contract)
        candidates = [
            make_file_candidate(n, *named, device=device, contract=args.contract, hang_s=hang_s) for n in names
        ]
        texts = [n if is_file_engine(n) else f"{n}:{args.reference}" for n in names]
        rows = {reference.engine.name: f"{GRAPH_REFERENCE}:{args.reference}"}
        return reference, candidates, rows | {c.name: n for c, n in zip(candidates, texts, strict=True)}
    checkpoint = job.checkpoint
    engines = [
        make_candidate(
            name,
            job.store,
            checkpoint,
            job.threads,
            job.progress,
            calibration,
            args.output_name,
            dynamic=True,
            device=device,
            contract=args.contract,
            hang_s=hang_s,
        )
        for name in names
    ]
    refuse_calibration_frames(job.store, names, calibration, frames.files, job.progress)
    return checkpoint, engines, {REFERENCE: REFERENCE} | {e.name: n for e, n in zip(engines, names, strict=True)}
