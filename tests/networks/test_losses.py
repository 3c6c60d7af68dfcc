"""The loss against slow formulas written out, in float64."""

from __future__ import annotations

import cmath

import numpy as np
import pytest
import torch

from unblur.networks.banet.recipe import deblurring_loss
from unblur.networks.losses import charbonnier, fft_l1


def naive_fft_l1(difference: np.ndarray) -> float:
    """The definition of the 2-D DFT, term by term."""
    batch, channels, height, width = difference.shape
    total = 0.0
    for plane in difference.reshape(batch * channels, height, width):
        for u in range(height):
            for v in range(width):
                term = sum(
                    plane[y, x] * cmath.exp(-2j * cmath.pi * (u * y / height + v * x / width))
                    for y in range(height)
                    for x in range(width)
                )
                total += abs(term.real) + abs(term.imag)
    return total / (difference.size * 2)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    restored, truth = rng.uniform(-0.7, 0.7, (2, 3, 4, 6)), rng.uniform(-0.5, 0.5, (2, 3, 4, 6))
    return torch.from_numpy(restored), torch.from_numpy(truth)


def test_charbonnier_is_the_written_formula(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    restored, truth = pair
    expected = np.mean(
        [np.sqrt((r - t) ** 2 + 1e-6) for r, t in zip(restored.ravel().tolist(), truth.ravel().tolist(), strict=True)]
    )
    assert float(charbonnier(restored, truth)) == pytest.approx(expected, rel=1e-12)


def test_fft_l1_is_the_mean_over_real_and_imaginary_parts_of_all_frequencies(
    pair: tuple[torch.Tensor, torch.Tensor],
) -> None:
    restored, truth = pair
    assert float(fft_l1(restored, truth)) == pytest.approx(naive_fft_l1((restored - truth).numpy()), rel=1e-10)


def test_the_loss_is_taken_on_the_clamped_output_in_float32(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    restored, truth = pair
    clamped = restored.clamp(-0.5, 0.5)
    expected = float(charbonnier(clamped, truth)) + 0.01 * naive_fft_l1((clamped - truth).numpy())
    loss = deblurring_loss(restored.bfloat16(), truth)
    assert loss.dtype == torch.float32
    assert float(deblurring_loss(restored, truth)) == pytest.approx(expected, rel=1e-5)
    assert float(deblurring_loss(restored, truth)) != pytest.approx(
        float(charbonnier(restored, truth)) + 0.01 * float(fft_l1(restored, truth)), rel=1e-3
    )


def test_values_beyond_the_clamp_get_no_gradient() -> None:
    restored = torch.tensor([[[[0.9, 0.1], [-0.2, -0.8]]]], requires_grad=True)
    deblurring_loss(restored, torch.zeros(1, 1, 2, 2)).backward()
    assert restored.grad is not None
    assert (restored.grad == 0).tolist() == [[[[True, False], [False, True]]]]


def test_without_its_weight_the_fft_term_is_gone(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    restored, truth = pair
    alone = float(charbonnier(restored.clamp(-0.5, 0.5), truth))
    assert float(deblurring_loss(restored, truth, fft_weight=0.0)) == pytest.approx(alone, rel=1e-6)
