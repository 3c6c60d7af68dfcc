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
        # A float graph of the network's own range needs no arithmetic.
        self.scaled = self.bytes or (contract.low, contract.high) != (self.low, self.high)
        self.outer_low, self.outer_span = (0.0, 1.0) if self.bytes else (contract.low, contract.high - contract.low)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The restored pixels, and the form's probe."""
        scale = (self.high - self.low) / self.outer_span
        if self.bytes:
            x = x.to(torch.float32).permute(0, 3, 1, 2) / 255.0
        if self.scaled:
            x = x if self.outer_low == 0.0 else x - self.outer_low
            # The offset stays an operation: folded into a bias it would be wrong at the zero-padded border.
            x = (x if scale == 1.0 else x * scale) + self.low
        y, probe = self.form(x)
        y = torch.clamp(y, self.low, self.high)
        if self.scaled:
            y = y - self.low
            y = y if scale == 1.0 else y / scale
            y = y if self.outer_low == 0.0 else y + self.outer_low
        if self.bytes:
            y = torch.floor(y * 255.0 + 0.5).permute(0, 2, 3, 1).to(torch.uint8)
        return y, probe
