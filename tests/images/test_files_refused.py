"""Pictures that cannot be taken: each refused with the file's name, what it is, and the cure."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from unblur.core.errors import InputError
from unblur.images.files import decode_picture, read_picture


def pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A slope that JPEG keeps to a level or two."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1).astype(np.uint8)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_picture(path)
    for word in (str(path), *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_is_refused(tmp_path: Path, colour: int, channels: int) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(png(2, 2, 16, colour, (b"\0" + bytes(4 * channels)) * 2))
    refused(path, "16-bit PNG", "convert it first")


def test_8_bit_png_by_the_same_hand_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "plain.png"
    path.write_bytes(png(2, 2, 8, 2, (b"\0" + bytes(range(6))) * 2))
    assert read_picture(path).frame[0].tolist() == [[0, 1, 2], [3, 4, 5]]


def tiff_rgb16(path: Path) -> None:
    """A 2x1 RGB TIFF with 16 bits per channel, which Pillow opens as plain RGB."""
    entries = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 140),
               (277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, 12)]  # fmt: skip
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    data = (b"II*\0" + struct.pack("<I", 8) + body + bytes(4)).ljust(134, b"\0") + struct.pack("<HHH", 16, 16, 16)
    path.write_bytes(data + bytes(12))


def test_deep_tiffs_are_refused(tmp_path: Path) -> None:
    tiff_rgb16(tmp_path / "rgb.tif")
    with Image.open(tmp_path / "rgb.tif") as image:
        assert image.mode == "RGB", "the trap: Pillow does not tell"
    refused(tmp_path / "rgb.tif", "16-bit TIFF", "convert it first")
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "grey.tif")
    refused(tmp_path / "grey.tif", "16-bit TIFF")
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "float.tif")
    refused(tmp_path / "float.tif", "floating-point", "convert it")


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_is_refused(tmp_path: Path, suffix: str) -> None:
    Image.new("CMYK", (4, 4)).save(tmp_path / f"ink{suffix}")
    refused(tmp_path / f"ink{suffix}", "CMYK", "convert it to 8-bit grey or RGB")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_1_bit_is_refused(tmp_path: Path, suffix: str) -> None:
    Image.new("1", (4, 4)).save(tmp_path / f"fax{suffix}")
    refused(tmp_path / f"fax{suffix}", "1-bit", "convert it")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_several_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(pixels(4, 4, seed=i)) for i in range(3)]
    frames[0].save(tmp_path / f"many{suffix}", save_all=True, append_images=frames[1:])
    refused(tmp_path / f"many{suffix}", "3 pages or animation frames", "split it")


def test_the_photograph_of_a_multi_picture_jpeg_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(smooth(16, 16)), Image.new("RGB", (16, 16))]
    frames[0].save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=frames[1:], quality=100, subsampling=0)
    with Image.open(tmp_path / "phone.jpg") as image:
        assert image.format == "MPO"
    assert np.abs(read_picture(tmp_path / "phone.jpg").frame.astype(int) - smooth(16, 16)).max() < 8


def test_another_format_under_a_known_suffix_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", "GIF")
    refused(tmp_path / "a.png", "not a PNG, JPEG, WebP or TIFF", "remove or convert")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels(40, 40)).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(path, "copy it again" if share != 0.1 or suffix == ".png" else "")


def test_missing_and_directory(tmp_path: Path) -> None:
    refused(tmp_path / "no.png", "No such file", "check the name")
    refused(tmp_path, "cannot be opened")


@pytest.mark.parametrize("side", [9_500, 60_000])  # above Pillow's warning, above its error
def test_decompression_bomb_is_refused_before_it_unfolds(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, 8, 0, b""))
    refused(path, "too many pixels", "split it")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_damaged_bytes_never_escape_as_another_error(suffix: str) -> None:
    buffer, dice, outcomes = io.BytesIO(), random.Random(9), set()
    kind = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".tif": "TIFF"}[suffix]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels(12, 12)).save(buffer, kind, exif=exif)
    whole = buffer.getvalue()
    for _ in range(250):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 5)):
            damaged[dice.randrange(len(whole))] = dice.randrange(256)
        try:
            outcomes.add(decode_picture(bytes(damaged), Path(f"a{suffix}")).frame.ndim)
        except InputError:
            outcomes.add("refused")
    assert "refused" in outcomes
