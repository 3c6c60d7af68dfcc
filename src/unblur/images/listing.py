"""Which files of a folder are pictures that can be read, and which look like pictures and cannot."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from PIL import features

from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""Suffixes that are read and written, in lower case, and the format they stand for."""

READ_ONLY = {".gif": "GIF"} | ({".avif": "AVIF"} if features.check("avif") else {})
"""What is read but not written: GIF has 256 colours, and AVIF loses some. Pillow can be built without AVIF."""

SUFFIXES = tuple(FORMATS)
READABLE = (*FORMATS, *READ_ONLY)
KINDS = "PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF" if ".avif" in READ_ONLY else "PNG, JPEG, WebP, TIFF, BMP or GIF"

_RAW = "a camera's raw file"
_UNREAD = {
    ".heic": "HEIC", ".heif": "HEIF", ".hif": "HEIF", ".avif": "AVIF", ".apng": "an animation", ".jxl": "JPEG XL",
    ".jp2": "JPEG 2000", ".j2k": "JPEG 2000", ".ppm": "PPM", ".pgm": "PGM", ".pnm": "PNM", ".tga": "Targa",
    ".psd": "a Photoshop document", ".exr": "OpenEXR", ".hdr": "Radiance HDR", ".qoi": "QOI", ".dib": "DIB",
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"), _RAW),
}  # fmt: skip


@dataclass(frozen=True)
class Listing:
    """Pictures of a folder, sorted, and a sentence for each thing in it that was passed over."""

    pictures: tuple[Path, ...]
    passed_over: tuple[str, ...]


def list_folder(folder: Path) -> Listing:
    """Every picture below `folder`, by suffix (any case).

    Hidden files and folders are left out without a word, and so is what is not named as a picture. Passed over by
    name: formats that are not read, links to folders elsewhere (they are not entered), and what is named as a
    picture but is no file. Raises InputError when the folder or one below it cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise InputError(f"Cannot list {error.filename}: {error.strerror}; check the name and its permissions.")

    root = folder.resolve()
    found, passed = [], []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for inner in (Path(place, name) for name in folders):
            if inner.is_symlink() and not inner.resolve().is_relative_to(root):  # those inside are met anyway
                passed.append(f"{inner} is a link to a folder elsewhere, not entered; name that folder by itself.")
        for path in sorted(Path(place, name) for name in names if not name.startswith(".")):
            suffix = path.suffix.lower()
            if suffix in READABLE and path.is_file():
                found.append(path)
            elif suffix in READABLE:
                what = "a link that leads to no file" if path.is_symlink() else "no regular file"
                passed.append(f"{path} is {what}; remove it.")
            elif suffix in _UNREAD:
                passed.append(f"{path} is {_UNREAD[suffix]}, which unblur does not read; convert it to PNG or TIFF.")
    return Listing(tuple(sorted(found)), tuple(passed))


def find_pictures(folder: Path, progress: Progress = SILENT) -> list[Path]:
    """The pictures of `list_folder`; what it passed over is told to `progress`. Raises as it does."""
    listing = list_folder(folder)
    for sentence in listing.passed_over:
        progress.note(f"not looked at: {sentence}")
    return list(listing.pictures)
