"""PSNR and SSIM of two arrays, in the forms that the deblurring papers report.

Both are functions of two arrays only: compared with the reference they measure fidelity, compared with the sharp
picture they measure quality. Say which in the name of whatever holds the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.core.errors import InputError

SSIM_PAD = 5
"""Half of the 11-tap window that a Gaussian of sigma 1.5, cut at 3.5 sigma, has."""

ROWS, BLOCK = 8, 32
"""Rows that SSIM works on at once, and columns that one product of matrices gives. Products stay so small that BLAS
starts no threads for them, which would fight with an engine's."""


def psnr_db(a: NDArray[Any], b: NDArray[Any], *, peak: float) -> float:
    """10 log10(peak^2 / MSE) in dB over all values of two arrays of one shape; identical arrays give infinity.

    The mean is taken in float64 whatever the arrays hold. `peak` is the length of the range of values: 255 for
    bytes, 1.0 for tensors in [-0.5, 0.5]. Raises InputError when the shapes differ or are empty, when a value is NaN
    or infinite, or when `peak` is not positive.
    """
    _check(a, b)
    if not peak > 0 or not np.isfinite(peak):
        raise InputError(f"psnr_db: peak is {peak}; it is the positive length of the range, such as 255 for bytes.")
    error = a.astype(np.float64) - b.astype(np.float64)
    mse = float(np.mean(np.square(error)))
    if not np.isfinite(mse):
        raise InputError("psnr_db: a value is NaN or infinite; check the precision and the checkpoint.")
    return float("inf") if mse == 0.0 else float(10.0 * np.log10(peak * peak / mse))


def max_abs_error(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest |a - b| over two arrays of one shape, in their own unit. Raises InputError as `psnr_db`."""
    _check(a, b)
    error = float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64))))
    if not np.isfinite(error):
        raise InputError("max_abs_error: a value is NaN or infinite; check the precision and the checkpoint.")
    return error


@dataclass(frozen=True)
class Ssims:
    """The two forms of SSIM that papers report; never mix them."""

    matlab: float
    per_channel: float


def ssims(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Ssims:
    """Both SSIMs of two (H, W, 3) pictures, for little more than the price of one: they share their local sums.

    The window has 11 Gaussian taps of sigma 1.5, borders are replicated, variances are biased, L = 255, K = (0.01,
    0.03) (Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004).

    matlab: as MATLAB's `ssim(A, ref)` gives it; the tables of the papers hold this one. MATLAB reads an H x W x 3 array
    as a volume: the window also runs across the channels, and the mean is over all voxels (MathWorks answer 2142916;
    NAFNet copies it as `_ssim_3d`). Replicated borders make of 11 taps over three channels a 3 x 3 matrix.
    per_channel: the mean over R, G and B of the two-dimensional form. On photographs it is hundredths lower.

    Raises InputError unless both are uint8 of one (H, W, 3) shape.
    """
    _check_pictures(a, b)
    height, width, _ = a.shape
    sides = ((0, 0), (SSIM_PAD, SSIM_PAD), (SSIM_PAD, SSIM_PAD + -width % BLOCK))
    x, y = (np.pad(picture.transpose(2, 0, 1), sides, mode="edge") for picture in (a, b))
    across = _band(BLOCK)
    volume = channels = 0.0
    for top in range(0, height, ROWS):  # a few rows at a time stay in the cache, and need no memory to speak of
        rows = min(ROWS, height - top)
        p, q = (picture[:, top : top + rows + 2 * SSIM_PAD].astype(np.float64) for picture in (x, y))
        local = np.matmul(_band(rows).T, np.stack([p, q, p * p + q * q, p * q]))
        blocks = np.lib.stride_tricks.sliding_window_view(local, BLOCK + 2 * SSIM_PAD, axis=3)[:, :, :, ::BLOCK]
        local = np.matmul(blocks, across).reshape(4, 3, rows, -1)[..., :width]
        channels += _sum_of_ssim(local)
        volume += _sum_of_ssim(np.matmul(_CHANNELS, local.reshape(4, 3, -1)))
    return Ssims(volume / a.size, channels / a.size)


def ssim_matlab(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """`ssims(a, b).matlab`."""
    return ssims(a, b).matlab


def ssim_per_channel(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """`ssims(a, b).per_channel`."""
    return ssims(a, b).per_channel


def _taps() -> NDArray[np.float64]:
    taps: NDArray[np.float64] = np.exp(-(np.arange(-SSIM_PAD, SSIM_PAD + 1) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    return taps


@cache
def _band(size: int) -> NDArray[np.float64]:
    """(size + 10, size): `size` neighbouring windows as one matrix. Multiplying by a band of many zeros beats any loop
    over taps: BLAS does the work."""
    band = np.zeros((size + 2 * SSIM_PAD, size))
    for place in range(size):
        band[place : place + 2 * SSIM_PAD + 1, place] = _taps()
    return band


def _across_channels() -> NDArray[np.float64]:
    """(3, 3): the window across three channels of which the first and the last are replicated."""
    mixed = np.zeros((3, 3))
    for channel in range(3):
        for offset, tap in enumerate(_taps(), start=-SSIM_PAD):
            mixed[channel, min(max(channel + offset, 0), 2)] += tap
    return mixed


_CHANNELS = _across_channels()


def _sum_of_ssim(local: NDArray[np.float64]) -> float:
    """Sum of SSIM over all places; `local`: windowed means of a, b, a^2 + b^2 and a b."""
    a, b, squares, product = local
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    both, own = a * b, a * a + b * b
    return float(((2 * both + c1) * (2 * (product - both) + c2) / ((own + c1) * (squares - own + c2))).sum())


def _check(a: NDArray[Any], b: NDArray[Any]) -> None:
    if a.shape != b.shape or a.size == 0:
        raise InputError(f"Two arrays of one shape are compared, got {a.shape} and {b.shape}.")


def _check_pictures(a: NDArray[Any], b: NDArray[Any]) -> None:
    _check(a, b)
    if a.dtype != np.uint8 or b.dtype != np.uint8 or a.ndim != 3 or a.shape[2] != 3:
        raise InputError(
            f"SSIM takes two (height, width, 3) uint8 pictures, got {a.shape} {a.dtype} and {b.shape} {b.dtype}."
        )
