"""`unblur export`, `python export/to_onnx.py`: checkpoint -> exact ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door, inputs_of
from unblur.cli.flags import add_flags, resolve, tell_taken
from unblur.core.artefacts import protect
from unblur.core.console import ConsoleProgress
from unblur.core.errors import InputError


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Export what pipeline.toml says; the last line is the path of the (last) graph."""
    parser = Arguments("unblur export", "Write the exact ONNX graph of a checkpoint, proven against PyTorch.")
    add_flags(parser, "export")
    parser.add_argument("--output", type=Path, metavar="FILE",
                        help="copy the .onnx file there; left out, it has its name below paths.artifacts")  # fmt: skip
    arguments = parser.parse_args(argv)
    resolved = resolve(arguments, "export")

    from unblur.core.artefacts import file_digest
    from unblur.graphs.file import is_exported
    from unblur.pipeline.job import Job
    from unblur.pipeline.run import Stages
    from unblur.pipeline.stable_names import copy_to
    from unblur.pipeline.stages import size_text

    progress = ConsoleProgress()
    job = Job.of(resolved.config, progress)
    if arguments.output:
        protect({arguments.output: is_exported}, [*inputs_of(arguments, "output"), resolved.config.network.checkpoint])
        if len(job.sizes) > 1:
            raise InputError("--output names one file, and graph.sizes has several; choose one with --size HxW.")
    tell_taken(resolved, "export", progress)
    stage = Stages(job)
    for size in job.sizes:
        graph = stage.graph(size)
        print(f"{job.checkpoint.name}, {size_text(size)}: sha256 {file_digest(graph)[:12]}")
        if arguments.output:
            copy_to(arguments.output, graph)
        print(arguments.output or graph)
    return 0
