"""BA-Net v1 as the registry knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from unblur.core.bounds import Size
from unblur.images.contract import PixelContract
from unblur.networks.banet.family import SWEEP, blocks_in, channels, gates, part_of
from unblur.networks.banet.strips import pool_matrix
from unblur.networks.banet_v1.form import BANetV1Form, spread_matrix
from unblur.networks.banet_v1.network import BANetV1, BANetV1Spec
from unblur.networks.banet_v1.recipe import Settings, recipe
from unblur.networks.family import Exactness, Family, Shapes


def infer(shapes: Shapes) -> BANetV1Spec:
    """The spec whose names and shapes come nearest."""
    width = channels(shapes, "BAM_1.input_conv.weight", 256)
    return BANetV1Spec(
        depth=blocks_in(shapes) or 8,
        stem_width=channels(shapes, "en_layer1.0.weight", 64),
        entry_width=channels(shapes, "en_layer2.0.weight", 128),
        width=width + width % 2,
    )


def derived(size: Size) -> Mapping[str, Sequence[NDArray[Any]]]:
    """Which places each bin averages, and which bin each place's neighbours read, on a map of (rows, columns)."""
    return {"bins": [matrix(length) > 0 for length in size for matrix in (pool_matrix, spread_matrix)]}


BANET_V1 = Family(
    name="banet_v1",
    title="BA-Net v1",
    paper="Tsai et al., BANet: Blur-aware Attention Networks for Dynamic Scene Deblurring, arXiv 2101.07518v1, 2021",
    year=2021,
    presets={
        **{f"banet_v1_s{depth}": BANetV1Spec(depth) for depth in (4, 8, 10, 12)},
        "banet_v1_narrow": BANetV1Spec(depth=2, stem_width=16, entry_width=24, width=32),
    },
    contract=PixelContract(channel_order="bgr", low=-0.5, high=0.5, multiple=2),
    infer=infer,
    build=BANetV1,
    exact=Exactness(form=BANetV1Form, probe=BANetV1.first_block, smallest=16, sizes=SWEEP, derived=derived),
    part_of=part_of,
    recipe=recipe,
    reach="global",
    settings=Settings,
    gates=gates,
)
