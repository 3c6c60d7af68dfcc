"""`unblur xray`, `python engines/show_engine.py`: what an engine really does, kernel by kernel, without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unblur.cli.door import Arguments, door, inputs_of
from unblur.cli.engine_options import add_contract
from unblur.cli.output import STDOUT, Output
from unblur.core.errors import InputError

if TYPE_CHECKING:
    from unblur.engines.xray.profile_times import Measured
    from unblur.engines.xray.report import XRayReport
    from unblur.images.contract import PixelContract


@door
def main(argv: Sequence[str] | None = None) -> int:
    """X-ray engines or graphs, print the tables, write the page and the figures; 3 where a precision is not kept."""
    arguments = _parser().parse_args(argv)
    graphs = [path.suffix.lower() == ".onnx" for path in arguments.subject]
    if arguments.precision != "as-is" and not all(graphs):
        raise InputError("--precision rewrites a graph; an engine has its precision. Name a graph (*.onnx).")
    if arguments.profile and (len(arguments.subject) != 1 or len(arguments.gpu) != 1):
        raise InputError("--profile is of one engine on one GPU; name that engine alone and its GPU with --gpu.")

    from unblur.building.examine import examine_engine, examine_graph
    from unblur.building.examine_layers import SUFFIX, examine_layers
    from unblur.core.artefacts import json_with, protect, text_with, write_bytes, write_json
    from unblur.engines.tensorrt.manifest import companions
    from unblur.engines.tensorrt.targets import parse_targets
    from unblur.engines.xray.audit import demand_asked
    from unblur.engines.xray.gpus import find_gpu, gpus_of
    from unblur.engines.xray.page import render_page
    from unblur.engines.xray.report import make_report
    from unblur.engines.xray.roofline import can_run
    from unblur.engines.xray.text import describe

    out = Output(arguments)
    page = text_with("<title>unblur: X-ray of ")
    kinds = {arguments.html: page, None if out.json else arguments.json: json_with("engines")}
    belonging = [file for path in arguments.subject for file in companions(path)]
    protect({path: kind for path, kind in kinds.items() if path}, [*inputs_of(arguments, "html", "json"), *belonging])
    gpus = tuple(find_gpu(name) for name in arguments.gpu)
    targets = parse_targets(arguments.target)
    reports = []
    lints: dict[str, list[dict[str, object]]] = {}
    for path, is_graph in zip(arguments.subject, graphs, strict=True):
        if is_graph:
            lints[path.name] = _lint(out, path, arguments.precision, targets, arguments.output_name, arguments.contract)
            found = examine_graph(
                path, fp16=arguments.precision == "fp16", targets=targets, output_name=arguments.output_name,
                contract=arguments.contract, progress=out.progress,
            )  # fmt: skip
        elif path.name.endswith(SUFFIX):
            found, unread = examine_layers(path)
            if unread:
                out.say(f"{path.name}: parameters of layers that nothing is counted with: {', '.join(unread)}")
        else:
            found = examine_engine(path, targets)
        for target, xray in found.xrays.items():
            reports.append(
                make_report(found.name, (found.product, found.version), found.precision, found.network, target, xray,
                            found.facts, gpus or [gpu for gpu in gpus_of(target) if can_run(xray.kernels, gpu)])
            )  # fmt: skip
    for report in reports:
        out.say(describe(report, every_kernel=arguments.kernels))
    measured = _measure(out, reports, arguments.profile) if arguments.profile else None
    if arguments.html:
        write_bytes(arguments.html, render_page(reports).encode())
        out.say(f"page {arguments.html}")
    if arguments.json:
        figures: dict[str, object] = {"engines": [report.to_json(not arguments.totals) for report in reports]}
        if lints:
            figures["lints"] = [{"graph": name, "findings": findings} for name, findings in lints.items()]
        if measured:
            figures["measured"] = [measured.to_json()]
        if not out.json:
            write_json(arguments.json, figures)
            out.say(f"figures {arguments.json}")
        out.figures(figures)
    demand_asked([finding for report in reports for finding in report.findings])
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "unblur xray",
        "The kernels of an engine: types, bytes, arithmetic, an audit and a lower bound.",
        "unblur xray my.engine --html xray.html",
        'unblur xray my.onnx --precision fp16 --target "RTX 4090"',
        "unblur xray my.engine --totals --json",
        json=False,
    )
    parser.add_argument("subject", nargs="+", type=Path, metavar="ENGINE|ONNX|LAYERS",
                        help="an engine that unblur built, a graph of one size (*.onnx), or what the inspector says "
                             "of an engine (ENGINE.layers.json beside ENGINE.onnx)")  # fmt: skip
    parser.add_argument("--gpu", nargs="+", action="extend", metavar="NAME", default=[],
                        help='GPUs of the roofline, such as "RTX 4090" (default: those the target is for)')  # fmt: skip
    parser.add_argument("--precision", choices=("as-is", "fp16"), default="as-is", help="of a graph, before compiling")
    parser.add_argument(
        "--target", help='GPU families, such as sm89 or "RTX 4090" (default: a graph portable, an engine all it has)'
    )
    add_contract(parser)
    parser.add_argument("--output-name", metavar="NAME", help="of a graph: the restored frame among several outputs")
    parser.add_argument("--kernels", action="store_true", help="print every kernel, not only those that move most")
    parser.add_argument("--totals", action="store_true", help="leave the single kernels out of --json")
    parser.add_argument("--profile", type=Path, help="measured times (trtexec --exportProfile) of one engine on the "
                                                     "one GPU named with --gpu, to put beside the bounds")  # fmt: skip
    parser.add_argument("--html", type=Path, help="write one self-contained page")
    parser.add_argument("--json", type=Path, nargs="?", const=STDOUT, metavar="FILE",
                        help="write all figures; without FILE to stdout, and all else to stderr")  # fmt: skip
    return parser


def _lint(
    out: Output, path: Path, precision: str, targets: Sequence[str], output: str | None, contract: PixelContract | None
) -> list[dict[str, object]]:
    """Hold a graph to both products before it is compiled, and say what they would refuse."""
    import dataclasses

    from unblur.engines.tensorrt.lint.lint import describe_lints, lint
    from unblur.engines.tensorrt.product import ProductName
    from unblur.engines.tensorrt.targets import PORTABLE
    from unblur.graphs.file import open_graph
    from unblur.graphs.rewrites.casting import cast_graph

    _, model = open_graph(path, output, contract)
    if precision == "fp16":
        model = cast_graph(model, "fp16").model
    findings: list[dict[str, object]] = []
    products: tuple[ProductName, ...] = ("tensorrt-rtx", "tensorrt")
    for product in products:
        for target in targets or (PORTABLE,):
            of_product = lint(model, product, target)
            out.say(describe_lints(product, target, of_product))
            findings += [{"product": product, "target": target, **dataclasses.asdict(one)} for one in of_product]
    return findings


def _measure(out: Output, reports: Sequence[XRayReport], profile: Path) -> Measured:
    """The one report's kernels beside their measured times, printed."""
    from unblur.core.reading import read_regular
    from unblur.engines.xray.profile_times import measure_against, parse_profile
    from unblur.engines.xray.text import describe_measured

    if len(reports) != 1:
        raise InputError(f"The engine has kernels for {len(reports)} targets; name the profiled one with --target.")
    if not profile.is_file():
        raise InputError(f"The profile {profile} does not exist; write it with trtexec --exportProfile={profile}.")
    (report,) = reports
    kernels = [row.kernel for row in report.rows]
    measured = measure_against(kernels, report.rooflines[0], parse_profile(read_regular(profile)))
    out.say(describe_measured(measured))
    return measured
