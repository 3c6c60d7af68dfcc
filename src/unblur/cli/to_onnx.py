"""`unblur export`, `python export/to_onnx.py`: checkpoint -> exact ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door, inputs_of, positive
from unblur.cli.weights import add_checkpoint, open_checkpoint
from unblur.core.artefacts import protect
from unblur.core.console import ConsoleProgress
from unblur.images.contract import PIXELS


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Export one graph and print what was proved of it."""
    parser = Arguments("unblur export", "Write the exact ONNX graph of a checkpoint, proven against PyTorch.")
    add_checkpoint(parser, ".pth, .pt or .safetensors file", required=True)
    parser.add_argument("--height", type=positive, help="even height of the frames, in pixels")
    parser.add_argument("--width", type=positive, help="even width of the frames, in pixels")
    parser.add_argument("--dynamic", action="store_true", help="one graph for every even size from 16")
    parser.add_argument("--pixels", choices=PIXELS, default="float",
                        help="float: NCHW as the network takes it; rgb01: NCHW RGB in [0, 1]; uint8: NHWC RGB "
                        "bytes; arithmetic inside")  # fmt: skip
    parser.add_argument("--opset", type=int, default=20, help="ONNX opset, 19 to 21")
    parser.add_argument(
        "--prove",
        action="store_true",
        help="also sweep sizes, rounding traps included, in every backend that is installed",
    )
    parser.add_argument("--output", type=Path, required=True, help="the .onnx file to write")
    arguments = parser.parse_args(argv)

    from unblur.export.graph import export_graph
    from unblur.graphs.file import is_exported

    protect({arguments.output: is_exported}, inputs_of(arguments, "output"))
    progress = ConsoleProgress()
    checkpoint = open_checkpoint(arguments, progress)
    graph = export_graph(
        checkpoint, arguments.output, height=arguments.height, width=arguments.width, dynamic=arguments.dynamic,
        pixels=arguments.pixels, opset=arguments.opset, prove=arguments.prove, progress=progress,
    )  # fmt: skip
    worst = max(graph.proofs, key=lambda proof: proof.worst / proof.tolerance)
    print(f"{graph.path}: {checkpoint.name}, {graph.nodes} nodes, sha256 {graph.digest[:12]}")
    ran = sorted({proof.backend for proof in graph.proofs} - {"torch"})
    print(f"{len(graph.proofs)} comparison(s) with PyTorch hold, of the graph in {' and '.join(ran)}; the tightest, "
          f"{worst.subject} in {worst.backend} at {worst.height}x{worst.width} on {worst.frame} against "
          f"{worst.reference}: worst pixel {worst.worst:.1e}, tolerance {worst.tolerance:.1e}")  # fmt: skip
    return 0
