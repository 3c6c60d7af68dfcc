"""`unblur export`, `python export/to_onnx.py`: checkpoint -> exact ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door, inputs_of
from unblur.cli.flags import add_flags, resolve, tell_taken
from unblur.cli.output import Output
from unblur.core.artefacts import protect
from unblur.core.errors import InputError


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Export what pipeline.toml says; the last line is the path of the (last) graph."""
    parser = Arguments(
        "unblur export",
        "Write the exact ONNX graph of a checkpoint, proven against PyTorch.",
        "unblur export --size 720x1280",
        "unblur export --checkpoint weights.pth --dynamic --output my.onnx",
    )
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

    out = Output(arguments)
    progress = out.progress
    job = Job.of(resolved.config, progress)
    if arguments.output:
        protect({arguments.output: is_exported}, [*inputs_of(arguments, "output"), resolved.config.network.checkpoint])
        if len(job.sizes) > 1:
            raise InputError("--output names one file, and graph.sizes has several; choose one with --size HxW.")
    tell_taken(resolved, "export", progress)
    stage, made = Stages(job), []
    for size in job.sizes:
        graph = stage.graph(size)
        digest = file_digest(graph)
        out.say(f"{job.checkpoint.name}, {size_text(size)}: sha256 {digest[:12]}")
        if arguments.output:
            copy_to(arguments.output, graph)
        out.say(str(arguments.output or graph))
        made.append({"path": arguments.output or graph, "size": size_text(size), "sha256": digest})
    out.figures({"network": job.checkpoint.name, "graphs": made})
    return 0
