"""`unblur speed`: engines of one network at one size against eager PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from unblur.cli.door import Arguments, door, inputs_of
from unblur.cli.flags import add_flags, resolve, tell_taken
from unblur.cli.output import Output
from unblur.cli.report_folder import check_output
from unblur.core.errors import InputError

SEED = 0


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the report, print its table; the last line is the report's path.

    An engine this machine cannot run is listed with the reason.
    """
    parser = Arguments(
        "unblur speed",
        "Measure engines against eager float32 PyTorch in interleaved rounds, on a checkpoint or on a network with "
        "random weights (as fast as trained ones); writes report.json and report.md.",
        "unblur speed --size 256x256 --engines torch-compile,onnxruntime,openvino",
        "unblur speed --network NAME --rounds 10 --output speed",
    )
    add_flags(parser, "speed")
    text = "a network by name with random weights of a fixed seed, instead of a checkpoint"
    parser.add_argument("--network", metavar="NAME", help=text)
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="folder for the report; left out, speed-... below paths.artifacts")  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.network and arguments.checkpoint:
        raise InputError("Name a network with --network, or a checkpoint with --checkpoint, one of the two.")
    if arguments.network and arguments.channel_order:
        raise InputError("--channel-order goes with --checkpoint: random weights were not trained with any.")
    resolved = resolve(arguments, "speed")
    config = resolved.config
    # After the arguments: --help and a mistyped flag import no runtime.
    from unblur.compare.speed import HEADINGS, measure_speed, notes_of, rows_of, write_speed
    from unblur.metrics.stopwatch import Protocol
    from unblur.networks.random_weights import random_checkpoint
    from unblur.pipeline.job import Job
    from unblur.pipeline.opening import make_candidate
    from unblur.pipeline.stages import size_text

    out = Output(arguments)
    progress = out.progress
    if arguments.output and len(config.graph.sizes) > 1:
        raise InputError("--output names one report, and graph.sizes has several; choose one with --size HxW.")
    if arguments.output:
        inputs = [*inputs_of(arguments, "output"), *([] if arguments.network else [config.network.checkpoint])]
        check_output(arguments.output, inputs, "Speed of ", "network", "engines", "latency")
    tell_taken(resolved, "speed", progress)
    written, reports = Path(), []
    with tempfile.TemporaryDirectory() as temporary:
        job, weights = Job.of(config, progress), config.network.checkpoint.name
        if arguments.network:
            drawn = random_checkpoint(arguments.network, SEED, Path(temporary))
            network = config.network.model_copy(update={"checkpoint": drawn.path})
            job = replace(job, config=config.model_copy(update={"network": network}))
            weights = f"random weights, seed {SEED}"
        engines = [
            make_candidate(name, job.store, job.checkpoint, job.threads, progress, job.calibration)
            for name in config.speed.engines
        ]
        for size in config.graph.sizes:
            stem = f"speed-{job.checkpoint.name}-{size_text(size)}"
            folder = arguments.output or job.store.root / stem
            check_output(folder, [], "Speed of ", "network", "engines", "latency")
            report = measure_speed(
                job.checkpoint, engines, size, weights, threads=job.threads,
                protocol=Protocol(rounds=config.speed.rounds), progress=progress,
            )  # fmt: skip
            written = write_speed(report, folder)
            for line in [*_table([HEADINGS, *rows_of(report)]), *notes_of(report)]:
                out.say(line)
            reports.append({"path": folder / "report.json", **report.to_json()})
    out.say(str(written))
    out.figures({"reports": reports})
    return 0


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
