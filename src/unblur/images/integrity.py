"""Whether a PNG or JPEG is whole. Pillow checks no sum of a PNG's pixels and hides libjpeg's warnings.

PNG (ISO/IEC 15948): every chunk ends in a CRC, the last is IEND. JPEG (ITU T.81) has no sums, but its Huffman-coded
scans end where their last block does: bytes put behind a whole scan are never decoded, and behind one that was cut
they are, in place of what libjpeg makes up (grey). So a second decoding with such bytes tells the two apart.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

_SIGNATURE = 8
_FILLER = bytes(range(85, 255)) * 4
"""Unlike the zeros that libjpeg makes up, full of valid codes, and no 0xFF, which would begin a marker. Of 6,000 small
JPEGs cut at random, none that had lost a pixel passed for whole with these bytes; up to 4 did with others.
"""
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # behind coded data: neither a stuffed zero nor a restart
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15 without DHT, JPG, DAC
_PROGRESSIVE, _ARITHMETIC = (0xC2,), range(0xC9, 0xD0)
_EOI, _SOS, _DRI = 0xD9, 0xDA, 0xDD
_BARE = (0x01, *range(0xD0, 0xD9))  # markers without a length


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of a PNG's chunks up to IEND. Raises ValueError where a sum is wrong or the end is missing."""
    place = _SIGNATURE
    while place + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        if place + 12 + size > len(data):
            break
        body = data[place + 8 : place + 8 + size]
        (stated,) = struct.unpack_from(">I", data, place + 8 + size)
        if zlib.crc32(body, zlib.crc32(name)) != stated:
            raise ValueError(f"the checksum of chunk {name.decode('latin-1')} is wrong")
        yield name, body
        if name == b"IEND":
            return
        place += 12 + size
    raise ValueError("its end is missing")


@dataclass
class _Jpeg:
    """What the markers of the first picture in a JPEG say. Components: number -> (h, v) sampling factors."""

    frame: int = 0
    height: int = 0
    width: int = 0
    components: dict[int, tuple[int, int]] = field(default_factory=dict)
    restart: int = 0
    missing: dict[tuple[int, int], int] = field(default_factory=dict)  # (component, coefficient) -> bits to come
    end: int = 0


def check_jpeg_header(data: bytes) -> None:
    """Raise ValueError where the coded data of a JPEG cannot be whole, by its markers alone: too few bytes for the
    size it states, restarts or scans that are missing. Raises LookupError or struct.error for a broken header.
    """
    _parse(data)


def check_jpeg_pixels(data: bytes, image: Image.Image) -> None:
    """Raise ValueError when the last scan of the decoded JPEG `image` was cut."""
    jpeg = _parse(data)
    if jpeg.frame in _ARITHMETIC:  # whose coder may drop zeros at the end, so that a whole one is longer than it looks
        return
    whole = data[: jpeg.end].rstrip(b"\xff")  # before a marker they fill; in coded data a zero follows each
    with JpegImageFile(io.BytesIO(whole + _FILLER + bytes((0xFF, _EOI)))) as longer:
        if not np.array_equal(np.asarray(longer), np.asarray(image)):
            raise ValueError("its coded data end too early")


def _parse(data: bytes) -> _Jpeg:
    jpeg, place = _Jpeg(), 2
    while True:
        place = data.find(b"\xff", place)
        if place < 0:
            raise ValueError("its end is missing")
        while data[place] == 0xFF:
            place += 1
        marker, place = data[place], place + 1
        if marker == _EOI:
            jpeg.end = place - 2
            break
        if marker in _BARE or marker == 0:
            continue
        (size,) = struct.unpack_from(">H", data, place)
        body, place = data[place + 2 : place + size], place + size
        if marker in _FRAMES:
            jpeg.frame = marker
            _, jpeg.height, jpeg.width, count = struct.unpack_from(">BHHB", body)
            jpeg.components = {body[k]: (body[k + 1] >> 4, body[k + 1] & 15) for k in range(6, 6 + 3 * count, 3)}
            if marker in _PROGRESSIVE:
                jpeg.missing = {(c, k): 1 for c in jpeg.components for k in range(64)}
        elif marker == _DRI:
            (jpeg.restart,) = struct.unpack_from(">H", body)
        elif marker == _SOS:
            found = _MARKER.search(data, place)
            if found is None:
                raise ValueError("its end is missing")
            _check_scan(jpeg, body, data[place : found.start()])
            place = found.start()
    if any(jpeg.missing.values()):
        raise ValueError("scans are missing")
    return jpeg


def _check_scan(jpeg: _Jpeg, header: bytes, coded: bytes) -> None:
    count = header[0]
    chosen = [header[1 + 2 * k] for k in range(count)]
    first, last, bits = header[1 + 2 * count], header[2 + 2 * count], header[3 + 2 * count]
    jpeg.missing |= {(c, k): bits & 15 for c in chosen for k in range(first, last + 1) if (c, k) in jpeg.missing}
    across, down = (max(factors) for factors in zip(*jpeg.components.values(), strict=True))
    if count == 1:  # blocks of one component
        h, v = jpeg.components[chosen[0]]
        units = blocks = _parts(_parts(jpeg.width * h, across), 8) * _parts(_parts(jpeg.height * v, down), 8)
    else:  # blocks of all of them, interleaved
        units = _parts(jpeg.width, 8 * across) * _parts(jpeg.height, 8 * down)
        blocks = units * sum(h * v for h, v in (jpeg.components[c] for c in chosen))
    if jpeg.restart and len(_RESTART.findall(coded)) < _parts(units, jpeg.restart) - 1:
        raise ValueError("restart intervals are missing")
    # No Huffman code is shorter than a bit. Later coefficients of many blocks may share one.
    if first == 0 and jpeg.frame not in _ARITHMETIC and 8 * len(coded) < blocks:
        raise ValueError(f"{len(coded)} bytes cannot hold {jpeg.height}x{jpeg.width} pixels")


def _parts(whole: int, size: int) -> int:
    return -(-whole // size)
