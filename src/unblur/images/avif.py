"""What Pillow does not tell of an AVIF: its bits, and its colours where no ICC profile states them.

Boxes: ISO/IEC 14496-12 (also colr of type nclx); av1C: AV1 Codec ISO Media File Format Binding, section 2.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from unblur.images.colour import Chunks

_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0}  # and the bytes before their inner boxes


def bits(data: bytes) -> int:
    """Bits per channel, the most of all items (the picture, its alpha, its tiles)."""
    return max((_depth(body[2]) for name, body in _boxes(data) if name == b"av1C" and len(body) > 2), default=8)


def colour_chunks(data: bytes) -> Chunks:
    """The primaries and transfer curve that the file states by number, as a PNG states them; () where it does not."""
    for name, body in _boxes(data):
        if name == b"colr" and body[:4] == b"nclx" and len(body) >= 10:
            primaries, curve = struct.unpack_from(">HH", body, 4)
            if 2 not in (primaries, curve) and max(primaries, curve) < 256:  # 2: unspecified
                return ((b"cICP", bytes((primaries, curve, 0, 1))),)  # RGB, full range: what Pillow decodes to
    return ()


def _depth(flags: int) -> int:
    """Of high_bitdepth and twelve_bit, the second and third bit of av1C's third byte."""
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Boxes of the file and of the containers that describe its items; ends where a size makes no sense."""
    place = 0
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        if size < 8:  # 64-bit sizes and "to the end" are for coded data, which comes last
            return
        body = data[place + 8 : place + size]
        yield name, body
        if name in _CONTAINERS:
            yield from _boxes(body[_CONTAINERS[name] :])
        place += size
