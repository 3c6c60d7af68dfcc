"""`unblur init CHECKPOINT`: a commented pipeline.toml for a checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unblur.cli.door import Arguments, door
from unblur.cli.output import Output
from unblur.cli.weights import add_channel_order
from unblur.core.errors import InputError

if TYPE_CHECKING:
    from unblur.networks.checkpoints import Checkpoint

TEMPLATE = """\
# {name} with unblur: `unblur run` does all of it, `unblur export`, `unblur build` and the others a stage each.
# Defaults < this file < flags (`unblur run --set graph.sizes=128x128`). Paths are relative to this file.

[network]
checkpoint = {checkpoint}
channel_order = "{order}"        # that it was trained with; {why}

[frames]                     # to compare on: yours, or without any, drawn ones
# blurred = "blurred"        # a folder of pictures
# sharp = "sharp"            # their sharp partners, where you have them
generated = 4

[graph]
sizes = ["256x256"]          # HEIGHTxWIDTH, several too, multiples of {multiple}; a camera's 1280x720 is 720x1280 here
pixels = "float"             # or "uint8": RGB bytes in and out, all arithmetic in the graph

[calibration]                # of graphs in 8 bits
manifest = {manifest}   # of frames of yours: unblur collect

[build]                      # the TensorRT engine; left out, and said, where nothing here compiles one
precisions = ["fp16"]        # one engine each: "fp32", "fp16", "bf16", "int8", "fp8"; or ["best"]
targets = []                 # such as ["RTX 4090", "sm120"]; none: every GPU from Ampere on

[compare]
engines = ["onnxruntime", "openvino"]   # `unblur doctor` lists those that run here
rounds = 15                  # 0: no latency
waterfall = true             # where each engine loses its decibels, step by step; false saves seconds for each engine

[budgets."*"]                # broken, the run ends with exit code 3
fidelity_db_min = 60.0

[paths]
artifacts = "artifacts"
"""


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, which `unblur run` takes as it is, and say which network was recognised."""
    parser = Arguments(
        "unblur init",
        "Write a commented pipeline.toml for a checkpoint, as the place to begin.",
        "unblur init weights.pth",
        "unblur init weights.safetensors --channel-order rgb --output project/pipeline.toml",
    )
    parser.add_argument("checkpoint", type=Path, help=".pth, .pt or .safetensors file")
    add_channel_order(parser)
    parser.add_argument("--output", type=Path, default=Path("pipeline.toml"), help="the file to write")
    arguments = parser.parse_args(argv)
    out = Output(arguments)
    output: Path = arguments.output
    if os.path.lexists(output):  # a link that leads nowhere is somebody's too
        raise InputError(f"{output} exists and is left as it is; name another file with --output, or move it away.")
    # After the arguments: --help loads no torch.
    from unblur.core.artefacts import write_bytes
    from unblur.networks.checkpoints import load_checkpoint
    from unblur.pipeline.resolve import load_pipeline_config

    checkpoint = load_checkpoint(arguments.checkpoint, arguments.channel_order, out.progress)
    write_bytes(output, _text(checkpoint, output.absolute().parent, arguments.channel_order is not None).encode())
    load_pipeline_config(output)
    order = checkpoint.contract.channel_order
    guessed = "" if arguments.channel_order else " (taken for granted, for no file tells: --channel-order)"
    out.say(f"recognised {checkpoint.name}, trained on {order.upper()}{guessed}")
    out.say(f"{output}: `unblur run` does what it says")
    out.figures({"network": checkpoint.name, "channel_order": order, "configuration": output})
    return 0


def _text(checkpoint: Checkpoint, folder: Path, told: bool) -> str:
    from unblur.pipeline.places import bundled_manifest

    return TEMPLATE.format(
        name=checkpoint.name,
        checkpoint=_quoted(checkpoint.path, folder),
        order=checkpoint.contract.channel_order,
        why="as --channel-order said" if told else "as the papers' weights: nothing in a file tells",
        multiple=checkpoint.contract.multiple,
        manifest=_quoted(bundled_manifest(), folder),
    )


def _quoted(path: Path, folder: Path) -> str:
    """A path as TOML, whose basic strings are JSON's: relative to the folder where it lies in it."""
    absolute = Path(os.path.normpath(path.absolute()))
    name = (absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute).as_posix()
    return json.dumps(name, ensure_ascii=False)
