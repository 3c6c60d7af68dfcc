"""How much a network multiplies."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unblur.core.bounds import Size


def count_macs(network: nn.Module, size: Size) -> int:
    """Multiply-accumulates of one frame of (height, width), of convolutions and matrix products, by shapes alone."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(network).to("meta")(torch.empty((1, 3, *size), device="meta"))
    return int(counter.get_total_flops()) // 2
