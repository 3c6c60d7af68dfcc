"""The wrong picture altogether: shifted, of another frame, or the input itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unblur.metrics.detectors.pictures import Measured, Pictures, root_mean_square

SURE = 3.0
"""Standard errors that are taken off a measured shift."""

TEXTURE = 2.0
"""Levels from pixel to pixel, root mean square, below which a picture cannot be told from another."""

DETAIL = 8
"""Levels from pixel to pixel above which a deblurring network changes something."""

FEWEST = 256
"""Pixels of such detail below which nothing is said of them."""


def shift(pictures: Pictures) -> Measured | None:
    """Pixels by which the picture lies beside the base: least squares over all gradients (B. Lucas, T. Kanade, "An
    Iterative Image Registration Technique", IJCAI 1981), less SURE standard errors.

    A symmetric change, such as sharpening, is orthogonal to the gradients and moves nothing.
    """
    restored, base = pictures.halves
    if min(restored.shape) < 4:
        return None
    down, across = _gradients((restored + base) / np.float32(2))
    change = (restored - base)[1:-1, 1:-1].ravel()
    slopes = np.stack([down.ravel(), across.ravel()])
    normal = (slopes @ slopes.T).astype(np.float64) + np.eye(2)
    moved = np.linalg.solve(normal, -(slopes @ change).astype(np.float64))
    left = change + moved.astype(np.float32) @ slopes
    error = root_mean_square(left) * np.sqrt(np.trace(np.linalg.inv(normal)))
    return Measured(2 * max(0.0, float(np.hypot(*moved)) - SURE * float(error)), pictures.whole)


def wrong_frame(pictures: Pictures) -> Measured | None:
    """1 less the correlation of the picture's gradients with the base's; None where either has too little texture."""
    if pictures.reference is None:
        restored, base = (picture.mean(-1) for picture in pictures.small)
    else:  # fine enough to tell frames of one scene apart
        restored, base = pictures.halves
    if min(restored.shape) < 4:
        return None
    ours, theirs = (np.stack(_gradients(picture)) for picture in (restored, base))
    texture = [root_mean_square(gradients) for gradients in (ours, theirs)]
    if min(texture) < TEXTURE:
        return None
    return Measured(1 - float(np.mean(ours * theirs)) / (texture[0] * texture[1]), pictures.whole)


def output_equals_input(pictures: Pictures) -> Measured | None:
    """Of detail in the input, the share that came out to the byte; with a reference, how many times more the
    reference changed the input than the picture does. None without detail, or where the reference changed nothing.
    """
    if pictures.reference is None:
        same = (pictures.change == 0)[:, 1:]
        detail = np.abs(np.diff(pictures.green[1])) > DETAIL
        if (count := np.count_nonzero(detail)) < FEWEST:
            return None
        return Measured(np.count_nonzero(detail & same) / count, pictures.whole)
    blurred, restored = (p.astype(np.float32) for p in (pictures.blurred, pictures.restored))
    wanted = root_mean_square(pictures.reference - blurred)
    if wanted < 1:
        return None
    return Measured(wanted / max(root_mean_square(restored - blurred), 0.1), pictures.whole)


def _gradients(picture: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Down and across, central differences per pixel, without the border."""
    down = (picture[2:, 1:-1] - picture[:-2, 1:-1]) / np.float32(2)
    across = (picture[1:-1, 2:] - picture[1:-1, :-2]) / np.float32(2)
    return down, across
