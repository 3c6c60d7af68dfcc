"""BANet and BANet+ as the registry knows them: presets, and how a spec shows in the weights."""

from __future__ import annotations

import re

from unblur.networks.banet.form import BANetForm
from unblur.networks.banet.network import BANet, BANetSpec
from unblur.networks.family import MOST_CHANNELS, Family, Shapes

_MOST_BLOCKS = 64
"""And any depth: the published networks have ten blocks, and building thousands to compare names takes minutes."""


def _infer_banet(shapes: Shapes) -> BANetSpec:
    numbers = {m[1] for key in shapes if (m := re.match(r"BAM_([0-9]+)\.", key))}

    def channels(key: str, default: int) -> int:
        shape = shapes.get(key, ())
        return shape[0] if shape and 0 < shape[0] <= MOST_CHANNELS else default

    width = channels("BAM_1.input_conv.weight", 128)
    return BANetSpec(
        depth=min(len(numbers), _MOST_BLOCKS) or 10,
        stem_width=channels("en_layer1.0.weight", 64),
        width=width + width % 2,
        fuse_width=channels("BAM_1.BA.fuse_conv.weight", max(1, width // 2)),
    )


BANET = Family(
    infer=_infer_banet,
    build=BANet,
    form=BANetForm,
    presets={
        "banet": BANetSpec(),
        "banet_plus": BANetSpec(width=192, fuse_width=192),
        "banet_nano": BANetSpec(depth=3, stem_width=16, width=32, fuse_width=16),
    },
)
