"""SAPHN as the registry knows it."""

from __future__ import annotations

import re

from torch import nn

from unblur.images.contract import PixelContract
from unblur.networks.family import MOST_CHANNELS, Exactness, Family, Shapes
from unblur.networks.saphn.form import SAPHNForm
from unblur.networks.saphn.network import MULTIPLE, SAPHNetwork, SAPHNSpec
from unblur.networks.saphn.recipe import Settings, recipe

_MOST_BLOCKS = 16
"""Of one encoder; the paper's have three."""

SWEEP = ((16, 16), (24, 40), (88, 104), (16, 136), (136, 16), (8 * 19, 8 * 23), (17, 31), (24, 24), (184, 40),
         (16, 808), (256, 256))  # fmt: skip
"""Eighths that are 1, 2, prime or far apart, and frames that are padded."""


def infer(shapes: Shapes) -> SAPHNSpec:
    """The spec whose names and shapes come nearest."""

    def channels(key: str, default: int) -> int:
        shape = shapes.get(key, ())
        return shape[0] if shape and 0 < shape[0] <= MOST_CHANNELS else default

    blocks = {m[1] for key in shapes if (m := re.match(r"encoder_1\.blocks\.([0-9]+)\.", key))}
    return SAPHNSpec(
        offsets=any(key.endswith(".filter.offset.weight") for key in shapes),
        stem_width=channels("encoder_1.stem.weight", 32),
        middle_width=channels("encoder_1.down_1.weight", 64),
        width=channels("encoder_1.down_2.weight", 128),
        blocks=min(len(blocks), _MOST_BLOCKS) or 3,
    )


def part_of(layer: str) -> tuple[str, str]:
    """Blocks are encoder_1 .. decoder_3 and cross_level_1, _2. In a residual block the attentions are a group each, and
    so are the convolutions around them: `decoder_2.blocks.0.self_attention.spread` is of
    `decoder_2.blocks.0.attention`.
    """
    block = layer.partition(".")[0]
    return block, re.sub(r"\.(self_attention|cross_attention|attention)\..*$", ".attention", layer)


def gates(network: SAPHNetwork) -> dict[str, nn.Module]:
    """At the level of the whole frame, how each block mixes attention (1) and the filters of its pixels (0)."""
    levels = {"encoder": network.encoder_1.blocks, "decoder": network.decoder_1.blocks}
    return {
        f"{name}, block {k}": block.get_submodule("mix")
        for name, blocks in levels.items()
        for k, block in enumerate(blocks.children(), start=1)
    }


SAPHN = Family(
    name="saphn",
    title="SAPHN",
    paper="Suin et al., Spatially-Attentive Patch-Hierarchical Network for Adaptive Motion Deblurring, CVPR 2020",
    year=2020,
    presets={
        "saphn_a": SAPHNSpec(offsets=False),
        "saphn_b": SAPHNSpec(offsets=True),
        "saphn_narrow": SAPHNSpec(offsets=True, stem_width=12, middle_width=16, width=24, blocks=1),
    },
    contract=PixelContract(channel_order="rgb", low=-0.5, high=0.5, multiple=MULTIPLE),
    infer=infer,
    build=SAPHNetwork,
    exact=Exactness(form=SAPHNForm, probe=SAPHNetwork.lowest_level, smallest=2 * MULTIPLE, sizes=SWEEP),
    part_of=part_of,
    recipe=recipe,
    reach="global",
    settings=Settings,
    gates=gates,
)
