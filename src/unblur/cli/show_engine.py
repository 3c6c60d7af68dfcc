"""`unblur xray`, `python engines/show_engine.py`: what an engine really does, kernel by kernel, without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door
from unblur.core.console import ConsoleProgress
from unblur.core.errors import InputError


@door
def main(argv: Sequence[str] | None = None) -> int:
    """X-ray engines or graphs, print the tables, write the page and the figures; 3 where a precision is not kept."""
    parser = Arguments("unblur xray", "The kernels of an engine: types, bytes, arithmetic, an audit and a lower bound.")
    parser.add_argument("subject", nargs="+", type=Path, metavar="ENGINE|ONNX",
                        help="an engine that unblur built, or a graph of one size (*.onnx)")  # fmt: skip
    parser.add_argument("--gpu", nargs="+", action="extend", metavar="NAME", default=[],
                        help='GPUs of the roofline, such as "RTX 4090" (default: those the target is for)')  # fmt: skip
    parser.add_argument("--precision", choices=("as-is", "fp16"), default="as-is", help="of a graph, before compiling")
    parser.add_argument("--target", help="GPU families, such as sm89 (default: a graph portable, an engine all it has)")
    parser.add_argument("--kernels", action="store_true", help="print every kernel, not only those that move most")
    parser.add_argument("--totals", action="store_true", help="leave the single kernels out of --json")
    parser.add_argument("--html", type=Path, help="write one self-contained page")
    parser.add_argument("--json", type=Path, help="write all figures")
    arguments = parser.parse_args(argv)
    graphs = [path.suffix.lower() == ".onnx" for path in arguments.subject]
    if arguments.precision != "as-is" and not all(graphs):
        raise InputError("--precision rewrites a graph; an engine has its precision. Name a graph (*.onnx).")

    from unblur.core.artefacts import write_bytes, write_json
    from unblur.engines.audit import demand_asked
    from unblur.engines.gpus import find_gpu, gpus_of
    from unblur.engines.roofline import can_run
    from unblur.engines.tensorrt_manifest import companions
    from unblur.engines.tensorrt_targets import parse_targets
    from unblur.engines.xray_page import render_page
    from unblur.engines.xray_report import make_report
    from unblur.engines.xray_text import describe
    from unblur.export.examine import examine_engine, examine_graph

    inputs = {file.resolve() for path in arguments.subject for file in (path, *companions(path))}
    for output in (arguments.html, arguments.json):
        if output is not None and output.resolve() in inputs:
            raise InputError(f"{output} belongs to what is X-rayed; write to another file.")
    gpus = tuple(find_gpu(name) for name in arguments.gpu)
    targets = parse_targets(arguments.target)
    reports = []
    for path, is_graph in zip(arguments.subject, graphs, strict=True):
        if is_graph:
            progress = ConsoleProgress()
            found = examine_graph(path, fp16=arguments.precision == "fp16", targets=targets, progress=progress)
        else:
            found = examine_engine(path, targets)
        for target, xray in found.xrays.items():
            reports.append(
                make_report(found.name, (found.product, found.version), found.precision, found.network, target, xray,
                            found.facts, gpus or [gpu for gpu in gpus_of(target) if can_run(xray.kernels, gpu)])
            )  # fmt: skip
    for report in reports:
        print(describe(report, every_kernel=arguments.kernels))
    if arguments.html:
        write_bytes(arguments.html, render_page(reports).encode())
        print(f"page {arguments.html}")
    if arguments.json:
        write_json(arguments.json, {"engines": [report.to_json(not arguments.totals) for report in reports]})
        print(f"figures {arguments.json}")
    demand_asked([finding for report in reports for finding in report.findings])
    return 0
