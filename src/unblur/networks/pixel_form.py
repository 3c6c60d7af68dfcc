"""A network's exact form between the pixels of a contract: bytes and layout in, clamp and rounding out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unblur.images.contract import PixelContract


class PixelForm(nn.Module):
    """A form of (1, 3, H, W) tensors, made to take and give what `contract` describes."""

    def __init__(self, form: nn.Module, network_contract: PixelContract, contract: PixelContract) -> None:
        super().__init__()
        self.form = form
        self.bytes = contract.dtype == "uint8"
        self.low, self.high = network_contract.low, network_contract.high

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The restored pixels, and the form's probe."""
        span = self.high - self.low
        if self.bytes:
            # The offset stays an operation: folded into a bias it would be wrong at the zero-padded border.
            x = x.to(torch.float32).permute(0, 3, 1, 2) / 255.0
            x = (x if span == 1.0 else x * span) + self.low
        y, probe = self.form(x)
        y = torch.clamp(y, self.low, self.high)
        if self.bytes:
            unit = y - self.low
            unit = unit if span == 1.0 else unit / span
            y = torch.floor(unit * 255.0 + 0.5).permute(0, 2, 3, 1).to(torch.uint8)
        return y, probe
