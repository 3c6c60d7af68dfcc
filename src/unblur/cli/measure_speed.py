"""`unblur speed`: engines of one network at one size against eager PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unblur.cli.door import Arguments, door, inputs_of
from unblur.cli.flags import add_flags, resolve, tell_taken
from unblur.cli.output import Output
from unblur.cli.report_folder import check_output
from unblur.core.errors import InputError
from unblur.core.leftovers import temporary_folder

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
        "unblur speed --checkpoint weights.pth --rounds 10 --output speed",
        "unblur speed --size 256x256 --protocol paper --throughput --roofline",
    )
    add_flags(parser, "speed")
    text = "a network by name with random weights of a fixed seed, instead of a checkpoint"
    parser.add_argument("--network", metavar="NAME", help=text)
    parser.add_argument("--protocol", choices=("paper",),
                        help="paper: also by the unsynchronised loop of the papers")  # fmt: skip
    text = "also frames a second: decoding and encoding overlapped, and engines of one thread at once"
    parser.add_argument("--throughput", action="store_true", help=text)
    text = "also TFLOP/s and GB/s of each engine, beside the most that this machine gave"
    parser.add_argument("--roofline", action="store_true", help=text)
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
    from unblur.compare.candidates import Candidate
    from unblur.compare.speed import measure_speed
    from unblur.compare.tell.speed import console_lines, write_speed
    from unblur.core.provenance import default_threads
    from unblur.core.text_table import text_width
    from unblur.engines.catalogue import find_engine
    from unblur.metrics.stopwatch import Protocol
    from unblur.networks.random_weights import random_checkpoint
    from unblur.pipeline.job import Job
    from unblur.pipeline.opening import make_candidate
    from unblur.pipeline.rates import with_rates
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
    with temporary_folder() as temporary:
        job, weights = Job.of(config, progress), config.network.checkpoint.name
        if arguments.network:
            drawn = random_checkpoint(arguments.network, SEED, temporary)
            network = config.network.model_copy(update={"checkpoint": drawn.path})
            job = replace(job, config=config.model_copy(update={"network": network}))
            weights = f"random weights, seed {SEED}"
        names, device = config.speed.engines, config.speed.device

        hang_s = config.compare.hang_seconds

        def candidates(names: Sequence[str], threads: int | None, hang_s: float = 0) -> list[Candidate]:
            given = (job.store, job.checkpoint, threads, progress, job.calibration)
            return [make_candidate(name, *given, device=device, hang_s=hang_s) for name in names]

        engines = candidates(names, job.threads, hang_s)
        threads = job.threads or default_threads()
        # PyTorch's threads are the process's: two of its engines at once are one.
        small = [name for name in names if arguments.throughput and threads > 1 and find_engine(name).runs == "graph"]

        for size in config.graph.sizes:
            stem = f"speed-{job.checkpoint.name}-{size_text(size)}"
            folder = arguments.output or job.store.root / stem
            check_output(folder, [], "Speed of ", "network", "engines", "latency")
            report = measure_speed(
                job.checkpoint, engines, size, weights, threads=threads,
                protocol=Protocol(rounds=config.speed.rounds), progress=progress, paper=arguments.protocol == "paper",
                throughput=arguments.throughput, streams=candidates(small, 1), hang_s=hang_s,
            )  # fmt: skip
            report = with_rates(job, report, names, size, device) if arguments.roofline else report
            written = write_speed(report, folder)
            for line in console_lines(report, text_width(out.people)):
                out.say(line)
            reports.append({"path": folder / "report.json", **report.to_json()})
    out.say(str(written))
    out.figures({"reports": reports})
    return 0
