"""Pictures on disk: 8-bit PNG, JPEG, WebP and TIFF in, the same out, with what belongs to them kept.

What a network cannot take (16 bit, CMYK, several pages) is refused by name instead of being converted in silence:
Pillow alone would cut a 16-bit PNG to 8 bits without a word.
"""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from unblur.core.artefacts import write_bytes
from unblur.core.errors import InputError
from unblur.core.reading import read_regular
from unblur.images.contract import Frame
from unblur.images.exif import exif_of_tiff, orientation, upright

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
"""What `find_pictures` finds and `write_picture` writes, in lower case."""

JPEG_QUALITY = 95
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}

_REFUSED = {
    "1": "a 1-bit black-and-white picture",
    "I": "a 32-bit integer picture",
    "F": "a floating-point picture",
    "CMYK": "a CMYK picture",
    "LAB": "a CIELAB picture",
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Decoders of damaged files fail in many ways; MemoryError and OverflowError come from sizes that a header claims.
_DAMAGE = (OSError, SyntaxError, ValueError, LookupError, TypeError, AttributeError, EOFError, ArithmeticError,
           MemoryError, struct.error, zlib.error)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, upright, and what it takes to write it back.

    frame: (H, W, 3) RGB uint8. alpha: (H, W) uint8 or None. exif has no turn in it any more. dpi: horizontal and
    vertical dots per inch, or None.
    """

    frame: Frame
    alpha: NDArray[np.uint8] | None = None
    was_grey: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None


def find_pictures(folder: Path) -> list[Path]:
    """Every picture below `folder`, sorted, by suffix (any case). Hidden files and folders are left out, and so are
    unfinished `.part` files; folders behind symbolic links are not entered.

    Raises InputError when the folder or one below it cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise InputError(f"Cannot list {error.filename}: {error.strerror}; check the name and its permissions.")

    found = []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES and Path(place, name).is_file()
        ]
    return sorted(found)


def read_picture(path: Path) -> Picture:
    """Read one picture. Raises InputError as `decode_picture`, and when the file cannot be opened."""
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}; check the name and its permissions.") from error
    return decode_picture(data, path)


def decode_picture(data: bytes, path: Path) -> Picture:
    """The picture in the bytes of a file; `path` is for messages only.

    Palettes become RGB (with alpha where the palette has it), EXIF orientation is applied to the pixels. Raises
    InputError, naming the file, what it is and the cure, for anything that is not a whole 8-bit grey or RGB
    picture of one page and at most 89 million pixels (Pillow's limit against decompression bombs).
    """
    if not data:
        raise InputError(f"{path} is empty (0 bytes); copy it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # remarks on metadata; the pixels decide
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=sorted(set(FORMATS.values()))) as image:
                _refuse_foreign(image, data, path)
                image.load()
                return _picture(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path} has too many pixels ({error}); split it into parts first.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a PNG, JPEG, WebP or TIFF picture; remove or convert it.") from error
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is damaged or cut short ({reason}); copy it again.") from error


def write_picture(path: Path, picture: Picture, frame: Frame) -> None:
    """Write `frame` with the alpha, metadata and greyness of `picture`, whole or not at all.

    Raises InputError as `encode_picture` and `write_encoded`.
    """
    write_encoded(path, encode_picture(path, picture, frame))


def write_encoded(path: Path, data: bytes) -> None:
    """Write an encoded picture, whole or not at all. Raises InputError when the file cannot be written."""
    try:
        write_bytes(path, data)
    except OSError as error:  # such as EFBIG, which is no full disk
        raise InputError(f"Cannot write {path}: {error.strerror}; choose another folder.") from error


def encode_picture(path: Path, picture: Picture, frame: Frame) -> bytes:
    """The bytes of the file `path`: JPEG at quality 95 in 4:4:4, the others without loss.

    frame: (H, W, 3) RGB uint8 of the picture's size. Raises InputError for an unknown suffix, for alpha in a JPEG,
    and for a size that the format cannot hold.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"Cannot write {path}: unblur writes {', '.join(SUFFIXES)}; change the suffix.")
    if picture.alpha is not None and FORMATS[suffix] == "JPEG":
        raise InputError(f"Cannot write {path}: a JPEG has no transparency, the input has; write .png or .webp.")
    image = Image.fromarray(frame)
    grey = picture.was_grey and suffix != ".webp"  # WebP has no grey
    if grey:
        image = image.convert("L")
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    options: dict[str, Any] = {"icc_profile": picture.icc_profile, "exif": picture.exif, "dpi": picture.dpi}
    if not grey and picture.icc_profile and picture.icc_profile[16:20] == b"GRAY":
        del options["icc_profile"]
    match FORMATS[suffix]:
        case "JPEG":
            options |= {"quality": JPEG_QUALITY, "subsampling": "4:4:4"}
        case "WEBP":
            options |= {"lossless": True, "exact": True}  # exact: keep colour under full transparency
        case "TIFF":
            pass  # uncompressed: through libtiff, which compresses, Pillow cannot write EXIF directories
    buffer = io.BytesIO()
    try:
        image.save(buffer, FORMATS[suffix], **{name: value for name, value in options.items() if value is not None})
    except (OSError, ValueError, struct.error, TypeError, LookupError) as error:
        size = f"{frame.shape[0]}x{frame.shape[1]}"
        raise InputError(
            f"Cannot write {path}: {FORMATS[suffix]} does not hold this {size} picture or its metadata ({error}); "
            "write .png instead."
        ) from error
    return buffer.getvalue()


def _refuse_foreign(image: Image.Image, data: bytes, path: Path) -> None:
    kind = image.format or "picture"
    # An MPO is a JPEG with further views behind it (cameras, phones): the first is the photograph.
    pages = 1 if kind == "MPO" else getattr(image, "n_frames", 1)
    if pages > 1:
        raise InputError(f"{path} is a {kind} of {pages} pages or animation frames; split it into single pictures.")
    bits = _bits(image, data)
    if bits > 8 and image.mode != "F":
        raise InputError(f"{path} is a {bits}-bit {kind}; unblur takes 8 bits per channel: convert it first.")
    if image.mode in _REFUSED:
        raise InputError(f"{path} is {_REFUSED[image.mode]} ({kind}); convert it to 8-bit grey or RGB first.")


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per channel as the file states them: Pillow's mode hides 16-bit RGB."""
    if image.format == "PNG":
        return data[24]  # IHDR: signature 8, length 4, name 4, width 4, height 4, then the depth
    if image.format == "TIFF":
        stated = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (8,))
        return max(int(value) for value in (stated if isinstance(stated, tuple) else (stated,)))
    return 16 if image.mode.startswith("I;16") else 8


def _picture(image: Image.Image) -> Picture:
    """The decoded image, upright. A TIFF has been turned by Pillow's loader already, and its tag is gone."""
    grey = image.mode in ("L", "LA", "La")
    alpha = image.has_transparency_data
    exif = exif_of_tiff(image) if image.format == "TIFF" else image.info.get("exif")
    icc_profile, dpi = image.info.get("icc_profile"), _dpi(image.info.get("dpi"))
    turned = image.convert("RGBA" if alpha else "RGB")
    turn = orientation(exif) if exif else 1
    if turn > 1:
        turned = turned.transpose(_TURNS[turn])
    if turn >= 5 and dpi:  # the four that exchange height and width
        dpi = (dpi[1], dpi[0])
    pixels = np.array(turned)
    return Picture(
        frame=np.ascontiguousarray(pixels[..., :3]),
        alpha=np.ascontiguousarray(pixels[..., 3]) if alpha else None,
        was_grey=grey,
        icc_profile=icc_profile or None,
        exif=upright(exif) if exif else None,
        dpi=dpi,
    )


def _dpi(stated: Any) -> tuple[float, float] | None:
    """Dots per inch where they make sense: headers hold zeros, fractions by zero and worse."""
    try:
        across, down = (float(value) for value in stated)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return (across, down) if all(math.isfinite(v) and 1 <= v <= 65535 for v in (across, down)) else None
