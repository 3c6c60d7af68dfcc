"""BAG as the registry knows it: preset, how a spec shows in the weights, and what a proof looks at."""

from __future__ import annotations

import re

import torch
from torch import nn

from unblur.images.contract import PixelContract
from unblur.networks.bag.form import BAGForm
from unblur.networks.bag.network import SMALLEST, BAGSpec, Critic, Generator
from unblur.networks.bag.recipe import AdversarialRecipe, Settings
from unblur.networks.family import MOST_CHANNELS, Exactness, Family, Shapes

_MOST = 64
"""Modules, and layers of one, that a file may claim."""

SWEEP = ((4, 4), (8, 8), (44, 12), (52, 76), (12, 92), (17, 31), (148, 68), (8, 404), (412, 8), (124, 244), (101, 203))
"""Small maps (instance norms of 1 and of 2x2 pixels), quarters that are prime or odd, elongated and odd frames."""


def infer(shapes: Shapes) -> BAGSpec:
    """The spec whose names and shapes come nearest."""

    def channels(key: str, default: int) -> int:
        shape = shapes.get(key, ())
        return shape[0] if shape and 0 < shape[0] <= MOST_CHANNELS else default

    blocks = {m[1] for key in shapes if (m := re.match(r"blocks\.([0-9]+)\.", key))}
    layers = {m[1] for key in shapes if (m := re.match(r"blocks\.0\.dense\.([0-9]+)\.", key))}
    usual = BAGSpec()
    return BAGSpec(
        stem=channels("encoder.0.weight", usual.stem),
        depth=min(len(blocks), _MOST) or usual.depth,
        layers=min(len(layers), _MOST) or usual.layers,
        growth=channels("blocks.0.dense.0.weight", usual.growth),
    )


def part_of(layer: str) -> tuple[str, str]:
    """Blocks are encoder, module 0 .. n, decoder; each convolution is a group of its own: none share what they read."""
    first, _, rest = layer.partition(".")
    return (f"module_{rest.partition('.')[0]}" if first == "blocks" else first), layer


def refuse(shapes: Shapes) -> str:
    """A sentence where the weights are the critic's."""
    width = shapes.get("layers.0.weight", (0,))
    if not width or not 0 < width[0] <= MOST_CHANNELS:
        return ""
    with torch.device("meta"):
        critic = {key: tuple(value.shape) for key, value in Critic(width[0]).state_dict().items()}
    if critic != dict(shapes):
        return ""
    return (
        "These are weights of BAG's critic, which judges pictures while a generator is trained and restores none; "
        "use the generator's checkpoint (bag.safetensors of the same run)."
    )


def gates(network: Generator) -> dict[str, nn.Module]:
    """The spatial attention of every module."""
    blocks = enumerate(network.blocks.children(), start=1)
    return {f"module {k}": block.get_submodule("attention.conv") for k, block in blocks}


BAG = Family(
    name="bag",
    title="BAG",
    paper="Blur-Attention: A boosting mechanism for non-uniform blurred image restoration, arXiv 2008.08526, 2020",
    year=2020,
    presets={"bag": BAGSpec(), "bag_narrow": BAGSpec(stem=12, depth=2, layers=4, growth=16)},
    contract=PixelContract(channel_order="rgb", low=-1.0, high=1.0, multiple=4, padding="reflect"),
    infer=infer,
    build=Generator,
    exact=Exactness(form=BAGForm, probe=Generator.first_block, smallest=SMALLEST, sizes=SWEEP),
    part_of=part_of,
    recipe=AdversarialRecipe,
    reach="global",
    settings=Settings,
    refuse=refuse,
    gates=gates,
)
