"""Pixels under full transparency: no viewer shows them, so what hides there must not reach the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from unblur.images.contract import Frame


def fill_hidden(frame: Frame, alpha: NDArray[np.uint8] | None) -> Frame:
    """(H, W, 3) RGB uint8 with each pixel of alpha 0 replaced by the nearest one that can be seen.

    Where none can be seen, or all can, it is `frame` itself.
    """
    if alpha is None or alpha.all() or not alpha.any():
        return frame
    rows, columns = distance_transform_edt(alpha == 0, return_distances=False, return_indices=True)
    filled: Frame = frame[rows, columns]
    return filled


def put_back_hidden(restored: Frame, frame: Frame, alpha: NDArray[np.uint8] | None) -> Frame:
    """`restored` with the pixels of `frame` wherever alpha is 0."""
    if alpha is None:
        return restored
    return np.where((alpha == 0)[..., None], frame, restored)
