"""Is it the same picture, even re-encoded, resized a little or under another name? 64 bits that say so.

The DCT hash of Zauner, "Implementation and benchmarking of perceptual image hash functions" (thesis, FH Hagenberg,
2010, section 3.2): luma at 32 x 32, its lowest 8 x 8 frequencies, each against their median.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.fft import dctn

from unblur.images.contract import Frame

SIDE = 32
LOW = 8
SAME_BITS = 10
"""Pictures whose fingerprints differ in at most so many of the 64 bits are taken for one. docs/numerics.md has the two
distributions behind the number."""


def fingerprint(frame: Frame) -> int:
    """64 bits of a (H, W, 3) RGB uint8 picture of any size."""
    grey = Image.fromarray(frame).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    low = dctn(np.asarray(grey, np.float64), norm="ortho")[:LOW, :LOW].ravel()
    bits = low > np.median(low)
    return int("".join("1" if bit else "0" for bit in bits), 2)


def distance(a: int, b: int) -> int:
    """Bits in which two fingerprints differ, 0 to 64."""
    return (a ^ b).bit_count()


def same_picture(a: int, b: int) -> bool:
    """Whether two fingerprints are of one picture."""
    return distance(a, b) <= SAME_BITS
