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
    """Print it; 2 for a file that is no checkpoint, or of no known network, naming the nearest miss."""
    parser = Arguments(
        "unblur inspect",
        "What a checkpoint is: its network and sizes, the pixels it takes, how its weights are stored, and what else "
        "the file holds. Nothing in the file is executed.",
        "unblur inspect weights.pth",
        "unblur inspect last.pth --json",
    )
    parser.add_argument("checkpoint", type=Path, help="a .pth, .pt or .safetensors file")
    add_channel_order(parser)
    arguments = parser.parse_args(argv)
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
    out.say("  sizes       " + ", ".join(f"{key} {value}" for key, value in spec.items()))
    out.say(
        f"  pixels      {contract.channel_order.upper()} from {contract.low:g} to {contract.high:g}, sides multiples "
        f"of {contract.multiple} ({contract.padding} padding) from {family.exact.smallest} on"
    )
    out.figures({
        **figures, "network": found.name, "family": family.name, "paper": family.paper, "spec": spec,
        "contract": asdict(contract), "smallest": family.exact.smallest,
        "parameters": sum(p.numel() for p in found.network.parameters()),
    })  # fmt: skip
    return 0
