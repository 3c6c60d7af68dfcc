"""PSNR and SSIM of two arrays, in the forms that the deblurring papers report.

Both are functions of two arrays only: compared with the reference they measure fidelity, compared with the sharp
picture they measure quality. Say which in the name of whatever holds the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from unblur.core.errors import InputError

SSIM_PAD = 5
"""Half of the 11-tap window that a Gaussian of sigma 1.5, cut at 3.5 sigma, has: skimage crops as much."""


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


def ssim_matlab(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """SSIM of two (H, W, 3) pictures as MATLAB's `ssim(A, ref)` gives it; the tables of the papers hold this one.

    MATLAB reads an H x W x 3 array as a volume: the 11-tap Gaussian window also runs across the channels, borders are
    replicated, variances are biased, L = 255, K = (0.01, 0.03), and the mean is over all voxels. Source: MathWorks
    answer 2142916; NAFNet copies it as `_ssim_3d`. Raises InputError unless both are uint8 of one (H, W, 3) shape.
    """
    _check_pictures(a, b)
    width = ((SSIM_PAD, SSIM_PAD),) * 3
    return _ssim(np.pad(a, width, mode="edge"), np.pad(b, width, mode="edge"), channel_axis=None)


def ssim_per_channel(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean over R, G and B of the two-dimensional SSIM with the same window, constants and replicated borders.

    Some papers report this one; on photographs it is several hundredths below `ssim_matlab`, so never mix the two.
    Raises InputError as `ssim_matlab`.
    """
    _check_pictures(a, b)
    width = ((SSIM_PAD, SSIM_PAD), (SSIM_PAD, SSIM_PAD), (0, 0))
    return _ssim(np.pad(a, width, mode="edge"), np.pad(b, width, mode="edge"), channel_axis=-1)


def _ssim(a: NDArray[np.uint8], b: NDArray[np.uint8], channel_axis: int | None) -> float:
    # skimage leaves out the border it cannot filter: exactly the SSIM_PAD replicated by the callers.
    return float(
        structural_similarity(  # type: ignore[no-untyped-call]
            a,
            b,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=channel_axis,
        )
    )


def _check(a: NDArray[Any], b: NDArray[Any]) -> None:
    if a.shape != b.shape or a.size == 0:
        raise InputError(f"Two arrays of one shape are compared, got {a.shape} and {b.shape}.")


def _check_pictures(a: NDArray[Any], b: NDArray[Any]) -> None:
    _check(a, b)
    if a.dtype != np.uint8 or b.dtype != np.uint8 or a.ndim != 3 or a.shape[2] != 3:
        raise InputError(
            f"SSIM takes two (height, width, 3) uint8 pictures, got {a.shape} {a.dtype} and {b.shape} {b.dtype}."
        )
