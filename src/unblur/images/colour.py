"""What a PNG says about the meaning of its colours beside an ICC profile (PNG, third edition, section 11.3.2)."""

from __future__ import annotations

import struct

Chunks = tuple[tuple[bytes, bytes], ...]
"""Names and contents."""

CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
"""In the order in which a viewer believes them; an ICC profile comes after cICP."""

# White point and primaries of sRGB (IEC 61966-2-1), and its gamma as PNG writes it: 1/2.2.
_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_GAMMA = 0.45455
_BT709, _SRGB_CURVE = 1, 13
"""Code points of ITU-T H.273."""


def is_srgb(chunks: Chunks) -> bool:
    """Whether a viewer that knows none of the chunks shows the same colours; damaged ones say nothing."""
    stated = dict(chunks)
    if code := stated.get(b"cICP"):
        return tuple(code[:2]) == (_BT709, _SRGB_CURVE)
    if b"sRGB" in stated:
        return True
    gamma, primaries = stated.get(b"gAMA", b""), stated.get(b"cHRM", b"")
    same_gamma = len(gamma) != 4 or abs(struct.unpack(">I", gamma)[0] / 1e5 - _GAMMA) < 0.002
    points = struct.unpack(">8I", primaries) if len(primaries) == 32 else ()
    return same_gamma and all(abs(point / 1e5 - own) < 0.002 for point, own in zip(points, _PRIMARIES, strict=False))
