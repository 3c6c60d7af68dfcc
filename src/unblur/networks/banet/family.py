"""BANet and BANet+ as the registry knows them: presets, how a spec shows in the weights, and what a proof looks at."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unblur.core.bounds import Size
from unblur.images.contract import PixelContract
from unblur.networks.banet.form import BANetForm
from unblur.networks.banet.network import STRIP_BINS, BANet, BANetSpec, BlurAwareNetwork, nearest_index
from unblur.networks.banet.recipe import Settings, recipe
from unblur.networks.banet.strips import pool_matrix
from unblur.networks.family import MOST_CHANNELS, Exactness, Family, Shapes

_MOST_BLOCKS = 64
"""And any depth: the published networks have ten blocks, and building thousands to compare names takes minutes."""

SWEEP = ((16, 16), (16, 18), (34, 58), (62, 94), (122, 74), (106, 202), (246, 16), (16, 410), (492, 18), (26, 574),
         (400, 16), (123, 205), (17, 31), (101, 16), (50, 50), (98, 100), (196, 200), (16, 1080),
         (2160, 16))  # fmt: skip
"""Halves that are prime, odd or small, odd frames (padded), halves 123, 205, 246, 287, where the nearest index in
float32 is not the one in exact arithmetic, and 25, 49, 50, 98, 100, 540, 1080, where j (n (1 / L)), as OpenVINO wrote
j (n / L), is neither."""

_STAGES = {"en": "encoder", "de": "decoder"}
_BRANCHES = ((re.compile(r"_d[0-9]+(?=_|$)"), ""), (re.compile(r"\.(tall|wide)\.[0-9]+$"), ".strips"))


def blocks_in(shapes: Shapes) -> int:
    """How many BAM_k the names tell of; 0 where they tell of none."""
    return min(len({m[1] for key in shapes if (m := re.match(r"BAM_([0-9]+)\.", key))}), _MOST_BLOCKS)


def channels(shapes: Shapes, key: str, default: int) -> int:
    """Output channels of a convolution by its weight's shape, where it has one that can be."""
    shape = shapes.get(key, ())
    return shape[0] if shape and 0 < shape[0] <= MOST_CHANNELS else default


def infer(shapes: Shapes) -> BANetSpec:
    """The spec whose names and shapes come nearest."""
    width = channels(shapes, "BAM_1.input_conv.weight", 128)
    return BANetSpec(
        depth=blocks_in(shapes) or 10,
        stem_width=channels(shapes, "en_layer1.0.weight", 64),
        width=width + width % 2,
        fuse_width=channels(shapes, "BAM_1.BA.fuse_conv.weight", max(1, width // 2)),
    )


def part_of(layer: str) -> tuple[str, str]:
    """Blocks are BAM_1 .. BAM_n, encoder, decoder. Branches of one width share what they read, so they are a group:
    `BAM_1.content_conv_d3_2` is of `BAM_1.content_conv_2`, `BAM_1.BA.tall.0` of `BAM_1.BA.strips`.
    """
    first = layer.partition(".")[0]
    group = layer
    for pattern, replacement in _BRANCHES:
        group = pattern.sub(replacement, group)
    return _STAGES.get(first.partition("_")[0], first), group


def derived(size: Size) -> Mapping[str, Sequence[NDArray[Any]]]:
    """Which places each bin averages, and which bin each place reads, on a map of (rows, columns)."""
    return {
        "bins": [pool_matrix(length) > 0 for length in size],
        "indices": [nearest_index(length, n).numpy().astype(np.int64) for length in size for n in STRIP_BINS if n > 1],
    }


def gates(network: BlurAwareNetwork) -> dict[str, nn.Module]:
    """Of each block the mask of the strips (M_1) and the refined one (M_2)."""
    found: dict[str, nn.Module] = {}
    for k, block in enumerate(network.blocks, start=1):
        found[f"block {k}"] = block.BA.conv_final
        found[f"block {k}, refined"] = block.BA.mask_conv_2
    return found


BANET = Family(
    name="banet",
    title="BANet",
    paper="Tsai et al., BANet: Blur-aware Attention Networks for Dynamic Scene Deblurring, IEEE TIP 31, 2022",
    year=2022,
    presets={
        "banet": BANetSpec(),
        "banet_plus": BANetSpec(width=192, fuse_width=192),
        **{f"banet_s{depth}": BANetSpec(depth) for depth in (4, 8, 12)},  # table 6; stack-10 is BANet
        "banet_nano": BANetSpec(depth=3, stem_width=16, width=32, fuse_width=16),
    },
    contract=PixelContract(channel_order="bgr", low=-0.5, high=0.5, multiple=2),
    infer=infer,
    build=BANet,
    exact=Exactness(form=BANetForm, probe=BANet.first_block, smallest=16, sizes=SWEEP, derived=derived),
    part_of=part_of,
    recipe=recipe,
    reach="global",
    settings=Settings,
    gates=gates,
)
