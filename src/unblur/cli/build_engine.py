"""`unblur build`, `python export/build_engine.py`: ONNX graph or checkpoint -> TensorRT engine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door, positive
from unblur.core.console import ConsoleProgress
from unblur.core.errors import InputError


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Build one engine and print what it runs."""
    parser = Arguments("unblur build", "Compile a graph ahead of time with TensorRT for RTX; no GPU is needed.")
    parser.add_argument("--onnx", type=Path, help="graph of one size, written by unblur export")
    parser.add_argument("--checkpoint", type=Path, help="instead of --onnx: export it first")
    parser.add_argument("--height", type=positive, help="with --checkpoint: height of the frames")
    parser.add_argument("--width", type=positive, help="with --checkpoint: width of the frames")
    parser.add_argument("--pixels", choices=("float", "uint8"), default="float", help="with --checkpoint: see export")
    parser.add_argument("--fp16", action="store_true", help="rewrite the graph to FP16 and hold the engine to it")
    parser.add_argument("--target", help="GPU families, such as sm89,sm120 (default: portable, Ampere and later)")
    parser.add_argument("--output", type=Path, required=True, help="the engine file to write")
    arguments = parser.parse_args(argv)
    if (arguments.onnx is None) == (arguments.checkpoint is None):
        raise InputError("Give either --onnx FILE or --checkpoint FILE --height H --width W.")
    if arguments.onnx and (arguments.height or arguments.width):
        raise InputError("--height and --width go with --checkpoint; a graph has its size.")

    from unblur.engines.tensorrt_builder import parse_targets
    from unblur.engines.tensorrt_product import open_product
    from unblur.export.build import build_engine

    targets = parse_targets(arguments.target)
    open_product("tensorrt-rtx")
    progress = ConsoleProgress()
    with tempfile.TemporaryDirectory() as folder:
        graph = arguments.onnx
        if graph is None:
            from unblur.export.api import export_graph
            from unblur.networks import load_checkpoint

            graph = Path(folder) / "graph.onnx"
            export_graph(
                load_checkpoint(arguments.checkpoint), graph, height=arguments.height, width=arguments.width,
                pixels=arguments.pixels, progress=progress,
            )  # fmt: skip
        built = build_engine(graph, arguments.output, fp16=arguments.fp16, targets=targets, progress=progress)
    manifest = built.manifest
    print(f"{built.path}: {manifest['product']} {manifest['version']}, {manifest['precision']}, "
          f"{manifest['engine_bytes'] / 1e6:.1f} MB in {manifest['build_seconds']:.1f} s")  # fmt: skip
    for target, kernels in manifest["targets"].items():
        realised = ", ".join(f"{count} {kind}" for kind, count in sorted(kernels["convolutions_run_in"].items()))
        print(f"{target}: {kernels['kernels']} kernels move {kernels['bytes_moved'] / 1e9:.3f} GB a frame; "
              f"convolutions run in: {realised}")  # fmt: skip
    print(f"manifest {built.manifest_path}, compiled graph {built.graph_path}")
    return 0
