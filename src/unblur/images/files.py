"""Pictures on disk: 8 bits in, the same format out (GIF and AVIF are only read), with what belongs to them kept.

What a network cannot take (16 bit, CMYK, several pages) is refused by name instead of being converted in silence:
Pillow alone would cut a 16-bit PNG to 8 bits without a word.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from unblur.core.artefacts import write_bytes
from unblur.core.errors import InputError
from unblur.core.reading import read_regular
from unblur.images import avif
from unblur.images.colour import CHUNKS, Chunks, is_srgb
from unblur.images.contract import Frame
from unblur.images.exif import exif_of_tiff, orientation, upright
from unblur.images.integrity import check_jpeg_header, check_jpeg_pixels, png_chunks
from unblur.images.listing import FORMATS, KINDS, READ_ONLY, SUFFIXES
from unblur.images.listing import find_pictures as find_pictures

JPEG_QUALITY = 95
PNG_LEVEL = 4
"""Of zlib, whose 6 takes 0.25 s for a photograph of 1280x720, longer than many an engine: this takes 0.1, for 3 % more
bytes."""

_OPENED = sorted({*FORMATS.values(), *READ_ONLY.values()})

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
_PHONE_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF"}
"""Of ISO base media files, which mail programs and cloud drives rename to .jpg."""
# Decoders of damaged files fail in many ways (RuntimeError: AVIF); OverflowError comes from sizes that a header claims.
DAMAGE = (OSError, SyntaxError, ValueError, LookupError, TypeError, AttributeError, EOFError, ArithmeticError,
          RuntimeError, struct.error, zlib.error)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, upright, and what it takes to write it back.

    frame: (H, W, 3) RGB uint8. alpha: (H, W) uint8 or None. exif has no turn in it any more, and no thumbnail. dpi:
    horizontal and vertical dots per inch, or None. colour: what a PNG states of its colours beside a profile.
    """

    frame: Frame
    alpha: NDArray[np.uint8] | None = None
    was_grey: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    colour: Chunks = ()


def read_picture(path: Path) -> Picture:
    """Read one picture. Raises InputError as `read_bytes` and `decode_picture`."""
    return decode_picture(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """A picture's file, for `decode_picture`. Raises InputError when it cannot be opened."""
    try:
        return read_regular(path)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}; check the name and its permissions.") from error
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory; free some.") from error


def decode_picture(data: bytes, path: Path) -> Picture:
    """The picture in the bytes of a file; `path` is for messages only.

    Palettes become RGB (with alpha where the palette has it), EXIF orientation is applied to the pixels. Raises
    InputError, naming the file, what it is and the cure, for anything that is not a whole 8-bit grey or RGB
    picture of one page and at most 89 million pixels (Pillow's limit against decompression bombs), and for one that
    memory does not hold. That a PNG or JPEG is whole is checked; WebP, TIFF and BMP have nothing to check it by.
    """
    if not data:
        raise InputError(f"{path} is empty (0 bytes); copy it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # remarks on metadata; the pixels decide
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_OPENED) as image:
                refuse_foreign(image, data, path)
                colour = _check_header(image, data)
                image.load()
                if image.format in ("JPEG", "MPO"):
                    check_jpeg_pixels(data, image)
                return _picture(image, colour)
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory; free some, or split it into parts.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path} has too many pixels ({error}); split it into parts first.") from error
    except UnidentifiedImageError as error:
        phone = data[4:8] == b"ftyp" and _PHONE_BRANDS.get(data[8:12])
        what = f"{phone}, which unblur does not read" if phone else f"not a {KINDS} picture"
        raise InputError(f"{path} is {what}; remove or convert it.") from error
    except DAMAGE as error:
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
    kind = FORMATS[suffix]
    if picture.alpha is not None and kind in ("JPEG", "BMP"):
        raise InputError(f"Cannot write {path}: a {kind} has no transparency, the input has; write .png or .webp.")
    _refuse_other_colours(path, picture, kind)
    image = Image.fromarray(frame)
    grey = picture.was_grey and suffix != ".webp"  # WebP has no grey
    if grey:
        image = image.convert("L")
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    options: dict[str, Any] = {"icc_profile": picture.icc_profile, "exif": picture.exif, "dpi": picture.dpi}
    if not grey and picture.icc_profile and picture.icc_profile[16:20] == b"GRAY":
        del options["icc_profile"]
    match kind:
        case "PNG":
            options |= {"pnginfo": PngInfo(), "compress_level": PNG_LEVEL}
            for name, content in picture.colour:
                options["pnginfo"].add(name, content)
        case "JPEG":
            options |= {"quality": JPEG_QUALITY, "subsampling": "4:4:4"}
        case "WEBP":
            options |= {"lossless": True, "exact": True}  # exact: keep colour under full transparency
        case "TIFF":
            pass  # uncompressed: through libtiff, which compresses, Pillow cannot write EXIF directories
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **{name: value for name, value in options.items() if value is not None})
    except (OSError, ValueError, struct.error, TypeError, LookupError) as error:
        size = f"{frame.shape[0]}x{frame.shape[1]}"
        raise InputError(
            f"Cannot write {path}: {kind} does not hold this {size} picture or its metadata ({error}); "
            "write .png instead."
        ) from error
    return buffer.getvalue()


def _refuse_other_colours(path: Path, picture: Picture, kind: str) -> None:
    """Where the same bytes would look otherwise, because the format cannot say what they mean."""
    lost = "a colour profile" if picture.icc_profile and kind == "BMP" else ""
    if not picture.icc_profile and kind != "PNG" and not is_srgb(picture.colour):
        lost = ", ".join(name.decode() for name, _ in picture.colour)
    if lost:
        raise InputError(
            f"Cannot write {path}: the input states its colours by {lost}, which a {kind} cannot hold, so that they "
            "would look different; write .png."
        )


def _check_header(image: Image.Image, data: bytes) -> Chunks:
    """What can be told before pixels are decoded: whether the file is whole, and what its colours mean."""
    if not isinstance(image.info.get("icc_profile", b""), bytes | None):
        raise ValueError("its colour profile is no bytes")
    match image.format:
        case "PNG":
            found = dict(png_chunks(data))
            return tuple((name, found[name]) for name in CHUNKS if name in found)
        case "JPEG" | "MPO":
            check_jpeg_header(data)
        case "AVIF":
            return avif.colour_chunks(data)
    return ()


def refuse_foreign(image: Image.Image, data: bytes, path: Path) -> None:
    """Raise InputError for what a network cannot take. `data`: the file's bytes, or its first thousands."""
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
    if image.format == "AVIF":
        return avif.bits(data)
    return 16 if image.mode.startswith("I;16") else 8


def _picture(image: Image.Image, colour: Chunks) -> Picture:
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
        colour=colour,
    )


def _dpi(stated: Any) -> tuple[float, float] | None:
    """Dots per inch where they make sense: headers hold zeros, fractions by zero and worse."""
    try:
        across, down = (float(value) for value in stated)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return (across, down) if all(math.isfinite(v) and 1 <= v <= 65535 for v in (across, down)) else None
