"""`unblur networks`: every network that unblur knows, with its paper, its size and what it takes."""

from __future__ import annotations

from collections.abc import Sequence

from unblur.cli.door import Arguments, door
from unblur.cli.output import Output

SIZES = {"256x256": (256, 256), "720p": (720, 1280)}
HEADINGS = {
    "name": "network", "paper": "paper", "year": "year", "parameters": "parameters", "256x256": "GMAC at 256x256",
    "720p": "GMAC at 720p", "multiple": "sides are multiples of", "smallest": "from", "reach": "a pixel depends on",
}  # fmt: skip


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; seconds, for every network is built and counted (without memory for its weights)."""
    parser = Arguments(
        "unblur networks",
        "The networks that --network takes and that a checkpoint is recognised as: paper, parameters, "
        "multiply-accumulates, and the sizes that they take. Any other width or depth of a family works too.",
        "unblur networks",
        "unblur networks --json",
    )
    out = Output(parser.parse_args(argv))
    # After the arguments: --help loads no torch.
    import torch

    from unblur.core.text_table import fitted, text_width
    from unblur.engines.catalogue import CATALOGUE
    from unblur.networks.registry import families
    from unblur.networks.size import count_macs

    found = []
    presets = [(family, name, spec) for family in families() for name, spec in family.presets.items()]
    for family, name, spec in out.progress.track(presets, "counting", len(presets)):
        with torch.device("meta"):
            network = family.build(spec).eval()
        found.append({
            "name": name, "family": family.name, "paper": family.title, "citation": family.paper, "year": family.year,
            "parameters": sum(p.numel() for p in network.parameters()),
            "macs": {text: count_macs(network, size) for text, size in SIZES.items()},
            "multiple": family.contract.multiple, "smallest": family.exact.smallest, "reach": family.reach,
        })  # fmt: skip
    rows = [
        {**{key: f"{row[key]:,}" if key == "parameters" else str(row[key]) for key in HEADINGS if key not in SIZES},
         **{text: f"{row['macs'][text] / 1e9:.1f}" for text in SIZES}}
        for row in found
    ]  # fmt: skip
    for row in rows:
        row["reach"] = {"global": "the frame", "local": "a part"}.get(row["reach"], f"{row['reach']} px around")
    left, dispensable = ("name", "paper", "reach"), ("smallest", "year", "reach", "paper")
    for line in fitted(HEADINGS, rows, text_width(out.people), left=left, dispensable=dispensable):
        out.say(line)
    takers: dict[str, list[str]] = {"checkpoint": [], "graph": [], "engine": []}
    for name, engine in CATALOGUE.items():
        takers[engine.runs].append(name)
    out.say(
        f"\nEvery engine takes each of them: {len(takers['checkpoint'])} the checkpoint, {len(takers['graph'])} the "
        f"graph that `unblur export` writes, {len(takers['engine'])} what `unblur build` compiles of it. "
        "`unblur doctor` tells which run here."
    )
    out.figures({"networks": found, "engines": takers})
    return 0
