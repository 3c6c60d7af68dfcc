"""PSNR and SSIM of RealBlur: a result is aligned with its truth first, since two cameras took them.

The protocol of RealBlur's tables (J. Rim et al., "Real-World Blur Dataset for Learning and Benchmarking Deblurring
Algorithms", ECCV 2020), as the evaluation that MPRNet publishes has it: the intensities are matched by one factor, a
homography is found by the enhanced correlation coefficient (G. Evangelidis, E. Psarakis, "Parametric Image Alignment
Using Enhanced Correlation Coefficient Maximization", PAMI 2008), the result is warped by it, and only pixels that it
still covers count.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from unblur.core.errors import InputError, MissingRuntimeError
from unblur.metrics.quality import SSIM_PAD

ITERATIONS = 100
"""Of the search for the homography, always all of them, with 5 taps of smoothing."""


def can_align() -> bool:
    """Whether OpenCV is installed; it is not imported for that."""
    return importlib.util.find_spec("cv2") is not None


def aligned_quality(picture: NDArray[np.uint8], truth: NDArray[np.uint8]) -> tuple[float, float]:
    """(PSNR in dB, mean SSIM of R, G and B) of two (H, W, 3) RGB pictures after alignment, within the mask.

    Raises InputError where no alignment is found (a picture without detail), MissingRuntimeError without OpenCV.
    """
    cv2 = _opencv()
    seen, sharp = (array.astype(np.float32) / 255 for array in (picture, truth))
    power = float(np.sum(seen * seen, dtype=np.float64))
    if power == 0:
        raise InputError("A black result cannot be aligned with its truth; leave the frame out.")
    seen *= np.float32(np.sum(sharp * seen, dtype=np.float64) / power)
    steps = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ITERATIONS, 0)
    grey = [cv2.cvtColor(array, cv2.COLOR_RGB2GRAY) for array in (sharp, seen)]
    try:
        _, warp = cv2.findTransformECC(
            *grey, np.eye(3, dtype=np.float32), cv2.MOTION_HOMOGRAPHY, steps, inputMask=None, gaussFiltSize=5
        )
    except cv2.error as error:
        raise InputError(f"The result cannot be aligned with its truth ({error.err}); leave the frame out.") from error
    size = (sharp.shape[1], sharp.shape[0])
    backwards = cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(seen, warp, size, flags=cv2.INTER_CUBIC + backwards, borderMode=cv2.BORDER_REFLECT)
    mask = cv2.warpPerspective(np.ones_like(seen), warp, size, flags=cv2.INTER_NEAREST + backwards)
    return _within(moved * mask, sharp * mask, mask)


def _within(moved: NDArray[Any], sharp: NDArray[Any], mask: NDArray[Any]) -> tuple[float, float]:
    """Both within the mask, in [0, 1]; the map of SSIM also loses the border that its window does not fill."""
    if not mask.any():
        raise InputError("The result was aligned out of its truth altogether; leave the frame out.")
    mse = float(np.sum(np.square(sharp - moved), dtype=np.float64) / np.sum(mask, dtype=np.float64))
    psnr_db = float("inf") if mse == 0 else float(-10 * np.log10(mse))
    _, map_of_ssim = structural_similarity(  # type: ignore[no-untyped-call]
        sharp,
        moved,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
        full=True,
    )
    inner = np.s_[SSIM_PAD:-SSIM_PAD, SSIM_PAD:-SSIM_PAD]
    weights = mask[inner]
    ssim = (map_of_ssim[inner] * weights).sum((0, 1), np.float64) / weights.sum((0, 1), np.float64)
    return psnr_db, float(np.mean(ssim))


def _opencv() -> Any:
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise MissingRuntimeError(
            f'The alignment of RealBlur needs OpenCV ({error}); pip install -e ".[realblur]".'
        ) from error
