"""The loss of BANet (Tsai et al., IEEE TIP 2022, and its published code)."""

from __future__ import annotations

import torch
from torch import Tensor


def charbonnier(restored: Tensor, truth: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean over all values of sqrt(d^2 + eps^2): an L1 that is smooth at zero."""
    return (restored - truth).square().add(eps * eps).sqrt().mean()


def fft_l1(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute real and imaginary part of the unnormalised 2-D FFT of the difference, (B, C, H, W) -> scalar.

    Over all frequencies and both parts, not the modulus: that is what the published weight 0.01 belongs to. The FFT is
    linear, so one transform of the difference does for two.
    """
    return torch.view_as_real(torch.fft.fft2(restored - truth)).abs().mean()


def deblurring_loss(restored: Tensor, truth: Tensor, eps: float = 1e-3, fft_weight: float = 0.01) -> Tensor:
    """Charbonnier + `fft_weight` FFT-L1 on the output clamped to [-0.5, 0.5], computed in float32."""
    clamped, truth = restored.float().clamp(-0.5, 0.5), truth.float()
    loss = charbonnier(clamped, truth, eps)
    return loss + fft_weight * fft_l1(clamped, truth) if fft_weight else loss
