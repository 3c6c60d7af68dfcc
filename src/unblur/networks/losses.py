"""Losses between restored and true pixels that recipes are made of; scalars, in the type of their arguments."""

from __future__ import annotations

import torch
from torch import Tensor


def charbonnier(restored: Tensor, truth: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean over all values of sqrt(d^2 + eps^2): an L1 that is smooth at zero."""
    return (restored - truth).square().add(eps * eps).sqrt().mean()


def fft_l1(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute real and imaginary part of the unnormalised 2-D FFT of the difference, (B, C, H, W) -> scalar.

    Over all frequencies and both parts, not the modulus: that is what BANet's published weight 0.01 belongs to. The FFT
    is linear, so one transform of the difference does for two.
    """
    return torch.view_as_real(torch.fft.fft2(restored - truth)).abs().mean()
