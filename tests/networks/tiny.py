"""A small network of every family, with random weights that are symmetric in nothing and let every branch be seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unblur.networks.bag.network import BAGSpec
from unblur.networks.banet.network import BANetSpec
from unblur.networks.banet_v1.network import BANetV1Spec
from unblur.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from unblur.networks.family import Family
from unblur.networks.registry import FAMILIES
from unblur.networks.saphn.network import SAPHNSpec
from unblur.networks.sgenet.network import SGENetSpec


@dataclass(frozen=True)
class Tiny:
    """A family's spec for tests. `gain`: of its random weights, so that the output is a picture: neither grey nor all
    white. `nodes`: the most that its graph of one size, and of every size, may have.
    `settings`: what its recipe cannot do without.
    """

    family: str
    spec: Any
    gain: float
    nodes: tuple[int, int]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> Family[Any, Any]:
        return next(family for family in FAMILIES if family.name == self.family)

    def network(self) -> nn.Module:
        torch.manual_seed(3)
        network: nn.Module = self.record.build(self.spec).eval()
        for parameter in network.parameters():
            scale = self.gain / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.1
            nn.init.normal_(parameter, 0.0 if parameter.ndim > 1 else 0.1, scale)
        return network.requires_grad_(False)

    def checkpoint(self, folder: Path) -> Checkpoint:
        path = folder / f"{self.record.label(self.spec)}.safetensors"
        save_checkpoint(self.network(), path)
        return load_checkpoint(path)


TINY = (
    Tiny("banet", BANetSpec(depth=1, stem_width=4, width=8, fuse_width=4), 1.0, (100, 160)),
    Tiny("banet_v1", BANetV1Spec(depth=1, stem_width=4, entry_width=6, width=8), 1.0, (110, 220)),
    # Instance norms undo the gain everywhere but in the last convolution: it says how much is added to the frame.
    Tiny("bag", BAGSpec(stem=4, depth=1, layers=4, growth=16), 0.3, (120, 140), {"adversary": {"content": "pixels"}}),
    Tiny("saphn", SAPHNSpec(False, stem_width=4, middle_width=6, width=8, blocks=1), 0.8, (490, 580)),
    Tiny("saphn", SAPHNSpec(True, stem_width=4, middle_width=6, width=8, blocks=1), 0.8, (460, 590)),
    Tiny("sgenet", SGENetSpec(widths=(6, 9, 12), modules=1), 1.0, (400, 400)),
)
