"""SGENet as the registry knows it: preset, how a spec shows in the weights, and what a proof looks at."""

from __future__ import annotations

import re

from torch import nn

from unblur.images.contract import PixelContract
from unblur.networks.family import MOST_CHANNELS, Exactness, Family, Shapes
from unblur.networks.sgenet.form import SGENetForm
from unblur.networks.sgenet.network import SGENet, SGENetSpec
from unblur.networks.sgenet.recipe import Settings, StagedRecipe

_SCALES, _MOST_MODULES = 3, 64
"""That a file may claim."""

SWEEP = ((8, 8), (44, 12), (52, 76), (12, 92), (4, 4), (17, 31), (148, 68), (4, 404), (412, 4), (124, 244), (101, 203))
"""Quarters that are prime, odd or one pixel, elongated frames, and odd frames."""

_BRANCH = re.compile(r"\.(dilated|squeeze|excite)\.[0-9]+$")


def infer(shapes: Shapes) -> SGENetSpec:
    """The spec whose names and shapes come nearest."""
    usual = SGENetSpec()
    modules = {m[1] for key in shapes if (m := re.match(r"stage_1\.encoder\.0\.([0-9]+)\.", key))}
    widths: list[int] = []
    while len(widths) < _SCALES:
        shape = shapes.get(f"stage_1.encoder.{len(widths)}.0.first.weight", ())
        if not shape or not 0 < shape[0] <= MOST_CHANNELS or shape[0] % 3:
            break
        widths.append(shape[0])
    return SGENetSpec(
        widths=tuple(widths) if len(widths) > 1 else usual.widths,
        modules=min(len(modules), _MOST_MODULES) or usual.modules,
    )


def part_of(layer: str) -> tuple[str, str]:
    """Blocks are the scales of a stage's encoder and decoder with what belongs to them, such as `stage_1.encoder.0`;
    parallel branches share what they read, so they are a group: `stage_1.encoder.0.1.dilated`.
    """
    parts = layer.split(".")
    block = ".".join(parts[:3]) if parts[0].startswith("stage") else parts[0]
    return block, _BRANCH.sub(r".\1", layer)


def gates(network: SGENet) -> dict[str, nn.Module]:
    """A of every CEM, and SAM's mask between the stages."""
    found: dict[str, nn.Module] = {}
    for number, stage in enumerate((network.stage_1, network.stage_2), start=1):
        for s, enhance in enumerate(stage.enhance):
            found[f"stage {number}, scale {s + 1}"] = enhance.get_submodule("gate_conv")
        if number == 1:
            found["between the stages"] = network.sam.gate_conv
    return found


SGENET = Family(
    name="sgenet",
    title="SGENet",
    paper="SGENet: a dual-stage network on the blocks of MPRNet (CVPR 2021), of that year at the earliest",
    year=2021,
    presets={"sgenet": SGENetSpec(), "sgenet_narrow": SGENetSpec(widths=(12, 15, 18), modules=1)},
    contract=PixelContract(channel_order="rgb", low=0.0, high=1.0, multiple=4),
    infer=infer,
    build=SGENet,
    exact=Exactness(form=SGENetForm, probe=SGENet.first_block, smallest=4, sizes=SWEEP),
    part_of=part_of,
    recipe=StagedRecipe,
    reach="global",
    settings=Settings,
    gates=gates,
)
