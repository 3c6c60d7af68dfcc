"""`unblur run`: the whole way of pipeline.toml."""

from __future__ import annotations

from collections.abc import Sequence

from unblur.cli.door import Arguments, door
from unblur.cli.flags import add_flags, resolve
from unblur.core.console import ConsoleProgress


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline, print the table and where everything lies; exit 3 when a budget is broken."""
    parser = Arguments("unblur run", "Export, build, compare and report what pipeline.toml says.")
    add_flags(parser, "run")
    resolved = resolve(parser.parse_args(argv), "run")

    from unblur.cli.report_table import print_report
    from unblur.pipeline.job import Job
    from unblur.pipeline.run import run_pipeline

    progress = ConsoleProgress()
    progress.note(f"configuration: {resolved.file or 'defaults, there is no pipeline.toml'}")
    result = run_pipeline(Job.of(resolved.config, progress))
    for compared in result.compared:
        print_report(compared.report)
    for built in result.engines:
        for target, kernels in built.manifest["targets"].items():
            print(f"TensorRT engine ({built.manifest['precision']}, {target}): {kernels['kernels']} kernels move "
                  f"{kernels['bytes_moved'] / 1e9:.3f} GB a frame; latency not measured, it needs a GPU")  # fmt: skip
    if result.engine_missing:
        print(f"TensorRT engine: not built: {result.engine_missing}")
    for path in result.graphs:
        print(f"graph     {path}")
    for built in result.engines:
        print(f"engine    {built.path}")
    print(f"pictures  {result.pictures}")
    for compared in result.compared:
        print(f"report    {compared.folder / 'report.html'}")
    if not result.made:
        print("Nothing had changed: everything was found in the store.")
    result.enforce()
    return 0
