"""`unblur blame`, `python compare/blame_engine.py`: where two graphs, checkpoints or engines of one network part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door, inputs_of, threads
from unblur.cli.output import Output
from unblur.cli.sizes import SIZE_TEXT, size
from unblur.cli.weights import add_channel_order


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Print the first tensor, layer and channel that part more than rounding explains, and where in the picture; 0
    also where there is nothing to blame, 2 for files that cannot be compared."""
    parser = Arguments(
        "unblur blame",
        "The first tensor, layer and channel where two of {checkpoint, graph, engine with its graph} part more than "
        "rounding explains, and where in the picture.",
        "unblur blame weights.safetensors my.onnx",
        "unblur blame my.onnx my-int8.onnx --frames blurred/ --output blame/",
        "unblur blame my.onnx my-fp16.engine --json",
    )
    what = "a checkpoint, a graph (.onnx), or an engine with the graph and the manifest that were written beside it"
    parser.add_argument("first", type=Path, metavar="A", help=what)
    parser.add_argument("second", type=Path, metavar="B", help="the other")
    parser.add_argument("--frames", type=Path, metavar="DIR",
                        help="pictures to run, up to four are; left out, a drawn one")  # fmt: skip
    parser.add_argument("--size", type=size, metavar="HxW",
                        help=f"of the frames where both take every size; left out, 256x256; {SIZE_TEXT}")  # fmt: skip
    parser.add_argument("--threads", type=threads, help="left out, one for each physical core")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="folder for blame.json and blame.png, the map of the error")  # fmt: skip
    add_channel_order(parser)
    arguments = parser.parse_args(argv)

    # After the arguments: --help loads no runtime.
    from unblur.core.artefacts import json_with, protect
    from unblur.pipeline.blame_engine import FIGURES, MAP, blame_engine, write_blame
    from unblur.pipeline.places import artefact_folder
    from unblur.pipeline.store import Store

    out = Output(arguments)
    folder: Path | None = arguments.output
    if folder:
        ours = json_with("first", "second", "rounding")
        kinds = {folder / FIGURES: ours, folder / MAP: lambda path: ours(path.with_name(FIGURES))}
        protect(kinds, inputs_of(arguments, "output"))
    blame = blame_engine(
        arguments.first,
        arguments.second,
        Store(artefact_folder(), out.progress.note),
        frames=arguments.frames,
        size=arguments.size,
        channel_order=arguments.channel_order,
        threads=arguments.threads,
        progress=out.progress,
    )
    for line in blame.lines():
        out.say(line)
    files = write_blame(blame, folder) if folder else ()
    for file in files:
        out.say(str(file))
    out.figures({**blame.to_json(), "files": files})
    return 0
