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
from unblur.images import avif
from unblur.images.files import decode_picture, read_picture
from unblur.images.listing import FORMATS, READ_ONLY


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


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".gif"])
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
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", "PPM")
    refused(tmp_path / "a.png", "not a PNG, JPEG", "remove or convert")
    (tmp_path / "b.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    refused(tmp_path / "b.jpg", "is HEIC, which unblur does not read", "convert it")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels(40, 40)).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(path, "copy it again" if share != 0.1 or suffix == ".png" else "")


def test_a_png_whose_pixels_do_not_keep_their_checksum(tmp_path: Path) -> None:
    data = bytearray(png(2, 2, 8, 2, (b"\0" + bytes(range(6))) * 2))
    crc = data.index(b"IEND") - 5
    data[crc] ^= 1
    with Image.open(io.BytesIO(bytes(data))) as image:
        image.load()  # the trap: Pillow does not look
    (tmp_path / "a.png").write_bytes(data)
    refused(tmp_path / "a.png", "checksum of chunk IDAT is wrong", "copy it again")


def test_a_png_without_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(2, 2, 8, 2, (b"\0" + bytes(range(6))) * 2)[:-12])
    refused(tmp_path / "a.png", "end is missing")


JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "4:2:0": {"subsampling": 2},
    "restarts": {"restart_marker_blocks": 3, "subsampling": 2},
    "restarts, progressive": {"restart_marker_rows": 1, "progressive": True},
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_cut_anywhere_and_closed_again_is_refused(kind: str, mode: str) -> None:
    buffer, dice = io.BytesIO(), random.Random(3)
    Image.fromarray(pixels(37, 53)).convert(mode).save(buffer, "JPEG", **JPEGS[kind])
    whole = buffer.getvalue()
    assert decode_picture(whole, Path("a.jpg")).frame.shape == (37, 53, 3)
    start = whole.rindex(b"\xff\xda") if "progressive" in kind else whole.index(b"\xff\xda")
    for place in [int(0.9 * len(whole)), *(dice.randrange(start, len(whole) - 8) for _ in range(30))]:
        cut = whole[:place] + b"\xff\xd9"
        with pytest.raises(InputError, match=r"a\.jpg is damaged or cut short"):
            decode_picture(cut, Path("a.jpg"))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_more_than_it_needs_is_taken(progressive: bool) -> None:
    """Fill bytes, padding and a comment before the end, and anything behind it (ITU T.81, B.1.1.2)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(37, 53)).save(buffer, "JPEG", progressive=progressive, comment=b"\xff\xda\xff\xd9")
    body, end = buffer.getvalue()[:-2], b"\xff\xd9"
    expected = decode_picture(body + end, Path("a.jpg")).frame
    for more in (b"\xff\xff", bytes(4), b"\xff\xfe\0\6abcd"):
        assert np.array_equal(decode_picture(body + more + end, Path("a.jpg")).frame, expected)
    assert np.array_equal(decode_picture(body + end + b"\xff\xd8 thumbnail \xff\xd9", Path("a.jpg")).frame, expected)


def test_a_whole_jpeg_that_ends_in_grey_is_taken() -> None:
    """What libjpeg makes up for missing blocks is 128, 128, 128."""
    frame, buffer = pixels(48, 48), io.BytesIO()
    frame[16:] = 128
    Image.fromarray(frame).save(buffer, "JPEG")
    assert decode_picture(buffer.getvalue(), Path("a.jpg")).frame[-1, -1].tolist() == [128, 128, 128]


def test_a_jpeg_that_states_more_pixels_than_its_bytes_can_hold_is_refused_unread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(smooth(16, 16)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 9400, 9400)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("88 million pixels were decoded"))
    with pytest.raises(InputError, match="bytes cannot hold 9400x9400 pixels"):
        decode_picture(bytes(data), Path("a.jpg"))


def test_a_tiff_whose_profile_is_a_number_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels(40, 40)).save(buffer, "TIFF", icc_profile=b"profile of some bytes")
    data = buffer.getvalue()
    tag = data.index(struct.pack("<HH", 34675, 7))
    (tmp_path / "a.tif").write_bytes(data[: tag + 2] + struct.pack("<H", 16) + data[tag + 4 :])  # LONG8
    refused(tmp_path / "a.tif", "colour profile is no bytes", "copy it again")


def test_memory_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(InputError, match=r"a\.png does not fit into memory; free some"):
        decode_picture(png(2, 2, 8, 2, (b"\0" + bytes(6)) * 2), Path("a.png"))


@pytest.mark.skipif(".avif" not in READ_ONLY, reason="this Pillow is built without AVIF")
def test_a_10_bit_avif_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.avif"
    Image.fromarray(smooth(16, 16)).save(path)
    assert read_picture(path).frame.shape == (16, 16, 3)
    data = bytearray(path.read_bytes())
    data[data.index(b"av1C") + 6] |= 0x40
    assert avif.bits(bytes(data)) == 10
    monkeypatch.setattr(avif, "bits", lambda _: 10)  # the decoder itself refuses the changed bytes
    with pytest.raises(InputError, match="10-bit AVIF"):
        read_picture(path)


def test_missing_and_directory(tmp_path: Path) -> None:
    refused(tmp_path / "no.png", "No such file", "check the name")
    refused(tmp_path, "cannot be opened")


@pytest.mark.parametrize("side", [9_500, 60_000])  # above Pillow's warning, above its error
def test_decompression_bomb_is_refused_before_it_unfolds(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, 8, 0, b""))
    refused(path, "too many pixels", "split it")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", *READ_ONLY])
def test_damaged_bytes_never_escape_as_another_error(suffix: str) -> None:
    buffer, dice, outcomes = io.BytesIO(), random.Random(9), set()
    kind = (FORMATS | READ_ONLY)[suffix]
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
