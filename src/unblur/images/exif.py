"""EXIF orientation, read and reset in place, and the thumbnail dropped.

The block is a small TIFF file (TIFF 6.0, section 2; EXIF 2.32, section 4.6). Only the value of tag 0x0112 and the
pointer to the thumbnail's directory are touched: writing the block anew would lose maker notes, whose offsets nobody
documents.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from PIL import ExifTags, Image

PREFIX = b"Exif\x00\x00"
"""What stands before the block in a JPEG, and at times in PNG and WebP."""

_ORIENTATION = 0x0112
_JPEG_AT, _JPEG_BYTES = 0x0201, 0x0202
"""Of the thumbnail's directory: where its JPEG begins, and how long it is."""

_INTEGERS = {3: "H", 4: "I"}
"""SHORT, as the standard has it, and LONG, as some write it; the struct format of each."""

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
    directory = _directory(exif)
    if directory is None or directory.turn is None:
        return 1
    value: int = struct.unpack_from(directory.form, exif, directory.turn)[0]
    return value if 1 <= value <= 8 else 1


def upright(exif: bytes) -> bytes:
    """The same block behind `PREFIX`, bytes in their places, with orientation 1 and without its thumbnail, which
    shows the picture as it was, and in its old position.
    """
    if not exif.startswith(PREFIX):
        exif = PREFIX + exif
    directory = _directory(exif)
    if directory is None:
        return exif
    block = bytearray(exif)
    if directory.turn is not None:
        struct.pack_into(directory.form, block, directory.turn, 1)
    if directory.next is not None:
        for place, length in _thumbnail(exif, directory.next):
            block[place : place + length] = bytes(length)
        block[directory.next : directory.next + 4] = bytes(4)
    return bytes(block)


def _thumbnail(exif: bytes, pointer: int) -> list[tuple[int, int]]:
    """Where the bytes of the thumbnail's JPEG lie, by the directory that `pointer` leads to."""
    start = len(PREFIX)
    order = "<" if exif[start : start + 2] == b"II" else ">"
    values: dict[int, int] = {}
    try:
        first = start + struct.unpack_from(f"{order}I", exif, pointer)[0]
        if first == start:
            return []
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind, _ = struct.unpack_from(f"{order}HHI", exif, entry)
            if kind == 4:
                (values[tag],) = struct.unpack_from(f"{order}I", exif, entry + 8)
    except struct.error:  # cut short: nobody finds it either
        return []
    if not {_JPEG_AT, _JPEG_BYTES} <= values.keys():
        return []
    place = start + values[_JPEG_AT]
    return [(place, values[_JPEG_BYTES])] if place + values[_JPEG_BYTES] <= len(exif) else []


@dataclass(frozen=True)
class _Directory:
    """Offsets in the first directory: of the orientation's value, with its struct format, and of the pointer to the
    next directory, that of the thumbnail. None where they are missing.
    """

    turn: int | None
    form: str
    next: int | None


def _directory(exif: bytes) -> _Directory | None:
    start = len(PREFIX) if exif.startswith(PREFIX) else 0
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[start : start + 4])
    if order is None:
        return None
    turn, form = None, ""
    try:
        first = start + struct.unpack_from(f"{order}I", exif, start + 4)[0]
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        end = first + 2 + 12 * count
        for entry in range(first + 2, end, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", exif, entry)
            if turn is None and tag == _ORIENTATION and kind in _INTEGERS and values == 1:
                form = order + _INTEGERS[kind]
                struct.unpack_from(form, exif, entry + 8)
                turn = entry + 8
    except struct.error:  # cut short
        return _Directory(turn, form, None)
    return _Directory(turn, form, end if end + 4 <= len(exif) else None)


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
