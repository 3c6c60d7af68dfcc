"""`unblur run`: the whole way of pipeline.toml."""

from __future__ import annotations

from collections.abc import Sequence

from unblur.cli.door import Arguments, door
from unblur.cli.flags import add_flags, resolve
from unblur.cli.output import Output


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline, print the table and where everything lies; exit 3 when a budget is broken."""
    parser = Arguments("unblur run", "Export, build, compare and report what pipeline.toml says.",
                       "unblur run", "unblur run --set graph.sizes=720x1280")  # fmt: skip
    add_flags(parser, "run")
    arguments = parser.parse_args(argv)
    resolved = resolve(arguments, "run")

    from unblur.cli.report_table import print_report
    from unblur.pipeline.job import Job
    from unblur.pipeline.run import run_pipeline

    out = Output(arguments)
    progress = out.progress
    progress.note(f"configuration: {resolved.file or 'defaults, there is no pipeline.toml'}")
    result = run_pipeline(Job.of(resolved.config, progress))
    for compared in result.compared:
        print_report(compared.report, out.people)
    for built in result.engines:
        for target, kernels in built.manifest["targets"].items():
            out.say(f"TensorRT engine ({built.manifest['precision']}, {target}): {kernels['kernels']} kernels move "
                  f"{kernels['bytes_moved'] / 1e9:.3f} GB a frame; latency not measured, it needs a GPU")  # fmt: skip
    if result.engine_missing:
        out.say(f"TensorRT engine: not built: {result.engine_missing}")
    for path in result.graphs:
        out.say(f"graph     {path}")
    for built in result.engines:
        out.say(f"engine    {built.path}")
    out.say(f"pictures  {result.pictures}")
    for compared in result.compared:
        out.say(f"report    {compared.folder / 'report.html'}")
    if not result.made:
        out.say("Nothing had changed: everything was found in the store.")
    out.figures({
        "graphs": result.graphs, "engine_missing": result.engine_missing, "pictures": result.pictures,
        "engines": [{"path": built.path, "manifest": built.manifest} for built in result.engines],
        "reports": [{"path": one.folder / "report.json", **one.report.to_json()} for one in result.compared],
    })  # fmt: skip
    result.enforce()
    return 0
