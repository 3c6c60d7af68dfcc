"""EXIF orientation, read and reset in place.

The block is a small TIFF file (TIFF 6.0, section 2; EXIF 2.32, section 4.6). Only the two bytes of tag 0x0112 are
touched: writing the block anew would lose maker notes, whose offsets nobody documents.
"""

from __future__ import annotations

import struct

from PIL import ExifTags, Image

PREFIX = b"Exif\x00\x00"
"""What stands before the block in a JPEG, and at times in PNG and WebP."""

_ORIENTATION = 0x0112
_SHORT = 3

# Of a TIFF's own tags, those that describe the photograph rather than the layout of the file.
_DESCRIPTIVE = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)


def orientation(exif: bytes) -> int:
    """EXIF orientation 1 to 8; 1 where there is none or the block is damaged."""
    place = _find(exif)
    if place is None:
        return 1
    offset, order = place
    value: int = struct.unpack_from(f"{order}H", exif, offset)[0]
    return value if 1 <= value <= 8 else 1


def upright(exif: bytes) -> bytes:
    """The same block behind `PREFIX`, bytes in their places, with orientation 1."""
    if not exif.startswith(PREFIX):
        exif = PREFIX + exif
    place = _find(exif)
    if place is None:
        return exif
    offset, order = place
    return exif[:offset] + struct.pack(f"{order}H", 1) + exif[offset + 2 :]


def _find(exif: bytes) -> tuple[int, str] | None:
    """Offset of the orientation's value and the byte order, or None."""
    start = len(PREFIX) if exif.startswith(PREFIX) else 0
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[start : start + 4])
    if order is None:
        return None
    try:
        directory = start + struct.unpack_from(f"{order}I", exif, start + 4)[0]
        (count,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", exif, entry)
            if tag == _ORIENTATION and (kind, values) == (_SHORT, 1):
                struct.unpack_from(f"{order}H", exif, entry + 8)
                return entry + 8, order
    except struct.error:  # cut short
        return None
    return None


def exif_of_tiff(image: Image.Image) -> bytes | None:
    """The descriptive tags of a loaded TIFF and its EXIF and GPS directories as a block of their own, or None."""
    source, block = image.getexif(), Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in source:
            block[tag] = source[tag]
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if entries := source.get_ifd(directory):
            block.get_ifd(directory).update(entries)
    if not len(block) and not any(block.get_ifd(d) for d in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)):
        return None
    return block.tobytes()
