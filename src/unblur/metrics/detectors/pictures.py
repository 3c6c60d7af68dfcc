"""A restored picture beside what it is held against, and what several detectors need of both, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """Part of a frame, in pixels from its top left."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Measured:
    """What a detector saw: larger is worse, and where it is worst."""

    value: float
    place: Place


class Pictures:
    """`restored` is held against the reference's picture where there is one, else against its own blurred input; all
    are (H, W, 3) RGB uint8 of one size.
    """

    def __init__(self, blurred: Bytes, restored: Bytes, reference: Bytes | None = None) -> None:
        self.blurred, self.restored = blurred, restored
        self.reference = reference
        self.base = blurred if reference is None else reference
        self.height, self.width = int(restored.shape[0]), int(restored.shape[1])

    @property
    def whole(self) -> Place:
        return Place(0, 0, self.height, self.width)

    @cached_property
    def images(self) -> tuple[Image.Image, Image.Image]:
        """Restored and base, for Pillow's box filters and histograms, which are ten times as fast as NumPy's."""
        return Image.fromarray(self.restored), Image.fromarray(self.base)

    @cached_property
    def scale(self) -> int:
        """Sides of the boxes that `small` is averaged over: 4, and less for frames that would leave few."""
        return max(1, min(4, min(self.height, self.width) // 16))

    @cached_property
    def small(self) -> tuple[Floats, Floats]:
        """Restored and base, averaged over boxes: no noise, and little of what deblurring changes."""
        first, second = (np.asarray(image.reduce(self.scale), np.float32) for image in self.images)
        return first, second

    @cached_property
    def smallest(self) -> tuple[Floats, Floats]:
        """The same over boxes of up to four times the side, whose levels deblurring hardly moves."""
        factor = max(1, min(4, min(self.height, self.width) // (16 * self.scale)))
        first, second = (np.asarray(image.reduce(self.scale * factor), np.float32) for image in self.images)
        return first, second

    @cached_property
    def green(self) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """The green channels of restored and base: most of what the eye sees, at a third of the work."""
        first, second = (np.ascontiguousarray(p[..., 1]).astype(np.int16) for p in (self.restored, self.base))
        return first, second

    @cached_property
    def change(self) -> NDArray[np.int16]:
        """Restored less base, in green."""
        return np.asarray(self.green[0] - self.green[1])

    @cached_property
    def halves(self) -> tuple[Floats, Floats]:
        """Restored and base in green, averaged over 2x2."""
        first, second = (np.asarray(image.getchannel(1).reduce(2), np.float32) for image in self.images)
        return first, second


def root_mean_square(values: NDArray[np.generic]) -> float:
    """Of all values, in their own unit; 0 for none."""
    flat = np.ravel(values).astype(np.float32)
    return float(np.sqrt(flat @ flat / flat.size)) if flat.size else 0.0
