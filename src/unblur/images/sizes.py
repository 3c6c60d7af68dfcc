"""Sizes of pictures by their headers alone: no pixel is decoded."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from unblur.core.errors import InputError
from unblur.images.contract import PixelContract
from unblur.images.exif import orientation
from unblur.images.files import DAMAGE, refuse_foreign
from unblur.images.listing import FORMATS, KINDS, READ_ONLY, find_pictures

HEAD_BYTES = 1 << 16


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright picture, as `read_picture` gives it.

    Raises InputError for a file that cannot be opened, whose header is no picture's, or tells that it is of a kind
    that `read_picture` refuses.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # metadata, and sizes: the pixels are not decoded
            with (
                path.open("rb") as file,
                Image.open(path, formats=sorted({*FORMATS.values(), *READ_ONLY.values()})) as image,
            ):
                refuse_foreign(image, file.read(HEAD_BYTES), path)
                width, height = image.size
                # Pillow turns the size of a TIFF itself.
                exif = None if image.format == "TIFF" else image.info.get("exif")
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a {KINDS} picture; remove or convert it.") from error
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise InputError(f"The header of {path} cannot be read ({error}); copy it again.") from error
    turned = exif is not None and orientation(exif) >= 5
    return (width, height) if turned else (height, width)


def padded_sizes(folder: Path, contract: PixelContract) -> Counter[tuple[int, int]]:
    """Sizes that a network sees of a folder's pictures, and how many of each: (height, width) after padding.

    Raises InputError for a folder that cannot be listed or has no picture, and as `picture_size`.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name one with pictures.")
    pictures = find_pictures(folder)
    if not pictures:
        raise InputError(f"{folder} has no pictures in it; name another folder.")
    return Counter(contract.padded_size(*picture_size(path)) for path in pictures)
