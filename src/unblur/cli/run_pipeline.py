"""`unblur run`: the whole way of pipeline.toml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door
from unblur.core.console import ConsoleProgress


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline, print the table and where everything lies; exit 3 when a budget is broken."""
    parser = Arguments("unblur run", "Export, build, compare and report what pipeline.toml says.")
    parser.add_argument("--config", type=Path, default=Path("pipeline.toml"), help="the configuration")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="assignments",
                        help="override one value of the configuration; may be repeated")  # fmt: skip
    arguments = parser.parse_args(argv)

    from unblur.cli.report_table import print_report
    from unblur.pipeline.config import load_pipeline_config
    from unblur.pipeline.run import run_pipeline

    config = load_pipeline_config(arguments.config, tuple(arguments.assignments))
    result = run_pipeline(config, ConsoleProgress())
    print_report(result.report)
    if result.manifest:
        for target, kernels in result.manifest["targets"].items():
            print(f"TensorRT engine ({result.manifest['precision']}, {target}): {kernels['kernels']} kernels move "
                  f"{kernels['bytes_moved'] / 1e9:.3f} GB a frame; latency not measured, it needs a GPU")  # fmt: skip
    else:
        print(f"TensorRT engine: not built: {result.engine_missing}")
    print(f"graph     {result.graph}")
    if result.engine:
        print(f"engine    {result.engine}")
    print(f"pictures  {result.pictures}")
    print(f"report    {result.report_folder / 'report.html'}")
    if not result.made:
        print("Nothing had changed: everything was found in the store.")
    result.report.enforce()
    return 0
