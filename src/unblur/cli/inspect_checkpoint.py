"""`unblur inspect`: what a checkpoint file is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from unblur.cli.door import Arguments, door
from unblur.cli.output import Output
from unblur.cli.weights import add_channel_order
from unblur.core.errors import InputError


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Print it, and write its maps where they are asked for; 2 for a file that is no checkpoint, or of no known
    network, naming the nearest miss."""
    parser = Arguments(
        "unblur inspect",
        "What a checkpoint is: its network and sizes, the pixels it takes, how its weights are stored, and what else "
        "the file holds. Nothing in the file is executed. With --maps also what the network looks at: the blur masks "
        "or attention that its paper shows, as pictures.",
        "unblur inspect weights.pth",
        "unblur inspect last.pth --json",
        "unblur inspect weights.pth --maps blurred.png --output maps",
    )
    parser.add_argument("checkpoint", type=Path, help="a .pth, .pt or .safetensors file")
    add_channel_order(parser)
    parser.add_argument("--maps", type=Path, metavar="PICTURE", help="run the network on it and write its maps")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for the maps")
    arguments = parser.parse_args(argv)
    if bool(arguments.maps) != bool(arguments.output):
        raise InputError("--maps PICTURE and --output DIR go together: the picture to run, and the folder of its maps.")
    out = Output(arguments)
    # After the arguments: --help loads no torch.
    from unblur.networks.checkpoints import load_checkpoint
    from unblur.networks.inspection import contents_of

    path: Path = arguments.checkpoint
    contents = contents_of(path)
    out.say(f"{path}\n  sha256      {contents.digest}\n  bytes       {contents.size_bytes:,}")
    types = ", ".join(f"{count} {name}" for name, count in contents.types.items())
    out.say(f"  tensors     {contents.tensors}: {types}; {contents.numbers:,} numbers")
    if contents.weights_key:
        out.say(f"  taken from  {contents.weights_key}")
    if contents.other_weights:
        out.say(f"  not taken   {', '.join(contents.other_weights)}")
    if contents.extras:
        out.say("  beside it   " + ", ".join(f"{name} ({kind})" for name, kind in contents.extras.items()))
    figures = {"path": path, **asdict(contents)}
    try:
        found = load_checkpoint(path, arguments.channel_order)
    except InputError as error:
        out.figures({**figures, "network": None, "why": str(error)})
        raise
    family, spec, contract = found.recognised.family, asdict(found.recognised.spec), found.contract
    out.say(f"  network     {found.name}: {family.title} ({family.year}); {family.paper}")
    own = "" if found.name in family.presets else " (no preset has these)"
    out.say("  sizes       " + ", ".join(f"{key} {value}" for key, value in spec.items()) + own)
    out.say(
        f"  pixels      {contract.channel_order.upper()} from {contract.low:g} to {contract.high:g}, sides multiples "
        f"of {contract.multiple} ({contract.padding} padding) from {family.exact.smallest} on"
    )
    maps = []
    if arguments.maps:
        from unblur.cli.attention_pictures import write_maps

        maps = write_maps(found, arguments.maps, arguments.output)
        for one in maps:
            out.say(f"  {one['path']}  {one['name']}: black {one['black']:.3f}, white {one['white']:.3f}")
    out.figures({
        **figures, "network": found.name, "family": family.name, "paper": family.paper, "spec": spec,
        "contract": asdict(contract), "smallest": family.exact.smallest,
        "parameters": sum(p.numel() for p in found.network.parameters()), "maps": maps,
    })  # fmt: skip
    return 0
