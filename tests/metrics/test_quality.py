"""PSNR against numbers worked out by hand, SSIM against a slow version written from the definition."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from unblur.core.errors import InputError
from unblur.metrics.quality import BLOCK, ROWS, Ssims, max_abs_error, psnr_db, ssim_matlab, ssim_per_channel, ssims


def _pictures(shape: tuple[int, int, int] = (13, 17, 3)) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    smooth = 127 + 90 * np.sin(rows / 2.0)[..., None] * np.cos(columns / 3.0 + np.arange(3)[:, None, None]).transpose(
        1, 2, 0
    )
    noisy = smooth + rng.normal(0, 18, shape)
    return smooth.astype(np.uint8), np.clip(noisy, 0, 255).astype(np.uint8)


def test_psnr_of_one_wrong_byte_in_four() -> None:
    a = np.zeros((1, 2, 2), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 10  # MSE = 100 / 4 = 25
    assert psnr_db(a, b, peak=255) == pytest.approx(10 * math.log10(255**2 / 25), abs=1e-12)
    assert psnr_db(a, b, peak=255) == pytest.approx(34.1514, abs=1e-4)


def test_psnr_does_not_wrap_around_in_bytes() -> None:
    a = np.full((4, 4, 3), 255, np.uint8)
    b = np.zeros((4, 4, 3), np.uint8)
    assert psnr_db(a, b, peak=255) == pytest.approx(0.0, abs=1e-12)
    assert psnr_db(b, a, peak=255) == pytest.approx(0.0, abs=1e-12)


def test_psnr_of_floats_has_its_own_peak() -> None:
    a = np.zeros((1, 3, 5, 7), np.float32)
    b = np.full_like(a, 0.01)
    assert psnr_db(a, b, peak=1.0) == pytest.approx(40.0, abs=1e-5)
    assert psnr_db(a, b, peak=2.0) == pytest.approx(40.0 + 20 * math.log10(2), abs=1e-5)


def test_psnr_averages_in_float64() -> None:
    # In float32 the sum of 4e6 squares of 1/4096 stops growing long before the end.
    a = np.zeros(4_000_000, np.float32)
    b = np.full_like(a, 2.0**-12)
    assert psnr_db(a, b, peak=1.0) == pytest.approx(20 * math.log10(2**12), abs=1e-10)


def test_identical_arrays_are_infinitely_alike() -> None:
    a, _ = _pictures()
    assert psnr_db(a, a, peak=255) == math.inf
    assert ssim_matlab(a, a) == 1.0
    assert max_abs_error(a, a) == 0.0


def test_max_abs_error_has_a_sign_on_neither_side() -> None:
    a = np.array([0.0, 250.0], np.float32)
    b = np.array([3.0, 245.0], np.float32)
    assert max_abs_error(a, b) == max_abs_error(b, a) == 5.0
    assert max_abs_error(np.uint8([0]), np.uint8([255])) == 255.0


@pytest.mark.parametrize("measure", [lambda a, b: psnr_db(a, b, peak=255), max_abs_error, ssim_matlab])
def test_other_shapes_are_refused(measure) -> None:
    a, b = _pictures()
    with pytest.raises(InputError, match="one shape"):
        measure(a, b[:-1])


def test_values_that_hide_a_fault_are_refused() -> None:
    a = np.zeros(4, np.float32)
    with pytest.raises(InputError, match="NaN"):
        psnr_db(a, np.full(4, np.nan, np.float32), peak=1.0)
    with pytest.raises(InputError, match="NaN"):
        max_abs_error(a, np.full(4, np.inf, np.float32))
    with pytest.raises(InputError, match="peak is 0"):
        psnr_db(a, a, peak=0)
    with pytest.raises(InputError, match="uint8"):
        ssim_matlab(np.zeros((9, 9, 3), np.float32), np.zeros((9, 9, 3), np.float32))  # type: ignore[arg-type]


def _slow_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8], across_channels: bool) -> float:
    """Wang et al. 2004 voxel by voxel: 11-tap Gaussian window, replicated borders, biased moments."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    height, width, channels = a.shape
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    total = 0.0
    for i in range(height):
        rows = np.clip(np.arange(i - 5, i + 6), 0, height - 1)
        for j in range(width):
            columns = np.clip(np.arange(j - 5, j + 6), 0, width - 1)
            for k in range(channels):
                if across_channels:
                    depth = np.clip(np.arange(k - 5, k + 6), 0, channels - 1)
                    weights = taps[:, None, None] * taps[:, None] * taps
                    x, y = a64[np.ix_(rows, columns, depth)], b64[np.ix_(rows, columns, depth)]
                else:
                    weights = taps[:, None] * taps
                    x, y = a64[np.ix_(rows, columns)][..., k], b64[np.ix_(rows, columns)][..., k]
                mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
                var_x = (weights * (x - mean_x) ** 2).sum()
                var_y = (weights * (y - mean_y) ** 2).sum()
                cov = (weights * (x - mean_x) * (y - mean_y)).sum()
                luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
                total += luminance * (2 * cov + c2) / (var_x + var_y + c2)
    return total / a.size


def test_ssim_is_matlabs_volume_form() -> None:
    a, b = _pictures()
    # Observed difference 1.0e-15, the summation order of float64; 1e-12 leaves a factor of 1000.
    assert ssim_matlab(a, b) == pytest.approx(_slow_ssim(a, b, across_channels=True), abs=1e-12)
    assert ssim_per_channel(a, b) == pytest.approx(_slow_ssim(a, b, across_channels=False), abs=1e-12)


def test_ssim_does_not_depend_on_the_rows_and_columns_that_are_worked_on_at_once() -> None:
    """Two blocks of columns and a part of one, two groups of rows and a part of one."""
    a, b = _pictures((2 * ROWS + 3, 2 * BLOCK + 5, 3))
    both = ssims(a, b)
    assert both.matlab == pytest.approx(_slow_ssim(a, b, across_channels=True), abs=1e-12)
    assert both.per_channel == pytest.approx(_slow_ssim(a, b, across_channels=False), abs=1e-12)
    assert both == ssims(b, a)
    assert ssims(a, a) == Ssims(1.0, 1.0)


def test_the_two_ssims_are_not_one() -> None:
    a, b = _pictures()
    assert ssim_matlab(a, b) - ssim_per_channel(a, b) > 0.01


def test_ssim_of_a_picture_smaller_than_the_window() -> None:
    a, b = _pictures((4, 5, 3))
    assert ssim_matlab(a, b) == pytest.approx(_slow_ssim(a, b, across_channels=True), abs=1e-12)
