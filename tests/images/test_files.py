"""Pictures in and out: what is kept, what is turned upright, what is refused, and nothing half written."""

from __future__ import annotations

import errno
import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from unblur.core.errors import InputError
from unblur.images.exif import PREFIX, orientation, upright
from unblur.images.files import Picture, decode_picture, encode_picture, read_picture, write_picture
from unblur.images.integrity import png_chunks
from unblur.images.listing import READ_ONLY, find_pictures

CHUNKS = {
    "gamma 1": ((b"gAMA", struct.pack(">I", 100_000)),),
    "P3": ((b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),),
    "P3 by number": ((b"cICP", bytes((12, 13, 0, 1))),),
    "several": ((b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45_455))),
}
LOSSLESS = [".png", ".webp", ".tif", ".tiff"]
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PHOTOGRAPHS = Path(__file__).parents[2].parent / "shared/data/gopro_blurred"


def pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A slope that JPEG keeps to a level or two."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1).astype(np.uint8)


def exif_block(turn: int | None = None) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera & Sons"
    if turn is not None:
        exif[ExifTags.Base.Orientation] = turn
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] = 2.8
    return exif


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("with_alpha", [False, True])
def test_lossless_round_trip_with_alpha_and_metadata(tmp_path: Path, suffix: str, with_alpha: bool) -> None:
    alpha = pixels(5, 8, 1)[..., 0] if with_alpha else None
    if alpha is not None:
        alpha[0] = 0  # colour below full transparency must stay
    path, frame = tmp_path / f"a{suffix}", pixels(5, 8)
    block = exif_block()
    block.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    exif = upright(block.tobytes())
    write_picture(path, Picture(frame, alpha, icc_profile=ICC, exif=exif, dpi=(300, 300)), frame)
    back = read_picture(path)
    assert np.array_equal(back.frame, frame)
    assert np.array_equal(back.alpha, alpha) if with_alpha else back.alpha is None
    assert not back.was_grey
    assert back.icc_profile == ICC
    if suffix != ".webp":
        assert back.dpi == pytest.approx((300, 300), abs=0.01)
    with Image.open(path) as image:
        assert image.getexif()[ExifTags.Base.Make] == "Camera & Sons"
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] == pytest.approx(2.8)
        assert image.getexif().get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_jpeg_is_quality_95_without_chroma_subsampling(tmp_path: Path, suffix: str) -> None:
    path, frame = tmp_path / f"a{suffix}", smooth(64, 48)
    write_picture(path, Picture(frame, icc_profile=ICC, exif=exif_block().tobytes(), dpi=(72, 72)), frame)
    expected, buffer = Image.fromarray(frame), io.BytesIO()
    expected.save(buffer, "JPEG", quality=95, subsampling=0)
    with Image.open(path) as image, Image.open(buffer) as twin:
        assert image.quantization == twin.quantization
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
        assert image.info["icc_profile"] == ICC
        assert image.getexif()[ExifTags.Base.Make] == "Camera & Sons"
    assert np.abs(read_picture(path).frame.astype(int) - frame).max() <= 4


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_grey_stays_grey(tmp_path: Path, suffix: str, with_alpha: bool) -> None:
    if with_alpha and suffix == ".jpg":
        pytest.skip("a JPEG has no alpha")
    path, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    level = smooth(16, 24)[..., 0]
    grey = Image.fromarray(level)
    if with_alpha:
        grey.putalpha(Image.fromarray(pixels(16, 24, 1)[..., 0]))
    grey.save(path)
    picture = read_picture(path)
    assert picture.was_grey
    assert (picture.alpha is not None) == with_alpha
    assert np.array_equal(picture.frame[..., 0], picture.frame[..., 2])
    write_picture(out, picture, picture.frame)
    with Image.open(out) as image:
        assert image.mode == ("LA" if with_alpha else "L")
    assert np.abs(read_picture(out).frame.astype(int) - level[..., None]).max() <= (3 if suffix == ".jpg" else 0)


def test_a_grey_profile_does_not_go_into_an_rgb_file(tmp_path: Path) -> None:
    profile = ICC[:16] + b"GRAY" + ICC[20:]
    frame = pixels(4, 4)
    picture = Picture(frame, was_grey=True, icc_profile=profile)
    write_picture(tmp_path / "a.webp", picture, frame)  # WebP is always RGB
    assert read_picture(tmp_path / "a.webp").icc_profile is None
    write_picture(tmp_path / "a.png", picture, frame)
    assert read_picture(tmp_path / "a.png").icc_profile == profile


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_goes_into_the_pixels_and_the_tag_becomes_1(tmp_path: Path, suffix: str, turn: int) -> None:
    upright_frame = smooth(32, 48)
    # Where the corner (row 0, column 0) of the upright picture is stored, for each orientation (EXIF 4.6.4).
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a[:, ::-1].transpose(1, 0, 2),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a[::-1].transpose(1, 0, 2),
    }[turn](upright_frame)
    path, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    options: dict[str, Any] = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif_block(turn).tobytes(), dpi=(300, 150), **options)
    picture = read_picture(path)
    assert picture.frame.shape == upright_frame.shape
    assert np.abs(picture.frame.astype(int) - upright_frame).max() <= (6 if suffix == ".jpg" else 0)
    if suffix in (".png", ".jpg"):
        assert picture.dpi == pytest.approx((150, 300) if turn >= 5 else (300, 150), abs=0.02)
    write_picture(out, picture, picture.frame)
    with Image.open(out) as image:
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert image.getexif()[ExifTags.Base.Make] == "Camera & Sons"
    assert read_picture(out).frame.shape == upright_frame.shape


@pytest.mark.parametrize("source", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("target", [".png", ".jpg", ".webp", ".tif"])
def test_metadata_crosses_formats(tmp_path: Path, source: str, target: str) -> None:
    Image.fromarray(smooth(8, 8)).save(tmp_path / f"a{source}", exif=exif_block(6).tobytes(), icc_profile=ICC)
    picture = read_picture(tmp_path / f"a{source}")
    write_picture(tmp_path / f"b{target}", picture, picture.frame)
    with Image.open(tmp_path / f"b{target}") as image:
        assert image.getexif()[ExifTags.Base.Make] == "Camera & Sons"
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] == pytest.approx(2.8)
        assert image.info["icc_profile"] == ICC


def test_alpha_is_turned_with_the_pixels(tmp_path: Path) -> None:
    rgba = pixels(6, 9, 4)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "a.png", exif=exif_block(6))
    picture = read_picture(tmp_path / "a.png")
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, np.rot90(rgba[..., 3], -1))
    assert np.array_equal(picture.frame, np.rot90(rgba[..., :3], -1))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", PREFIX])
def test_exif_is_patched_in_place(order: str, prefix: bytes) -> None:
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    entries = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(f"{order}HHII", 0x927C, 7, 4, 99)
    block = prefix + head + struct.pack(f"{order}H", 2) + entries + b"\0\0\0\0maker notes at 99"
    assert orientation(block) == 6
    changed = upright(block)
    assert orientation(changed) == 1
    bare = block.removeprefix(PREFIX)
    differing = [i for i, (a, b) in enumerate(zip(PREFIX + bare, changed, strict=True)) if a != b]
    assert len(differing) == 1


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"II*\0", b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\xff\xff", b"x"]
)
def test_damaged_exif_means_upright(block: bytes) -> None:
    assert orientation(block) == 1
    assert upright(block).removeprefix(PREFIX) == block.removeprefix(PREFIX)


def test_palette_becomes_rgb(tmp_path: Path) -> None:
    colours = pixels(4, 6)
    Image.fromarray(colours).quantize(24).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert np.array_equal(picture.frame, np.array(image.convert("RGB")))
    assert picture.alpha is None
    assert not picture.was_grey


def test_transparent_palette_and_transparent_colour_become_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(pixels(4, 6)).quantize(24)
    image.info["transparency"] = bytes(range(0, 240, 10))
    image.save(tmp_path / "palette.png")
    index = np.array(image)
    assert np.array_equal(read_picture(tmp_path / "palette.png").alpha, index * 10)
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0, 0] = (9, 8, 7)
    Image.fromarray(frame).save(tmp_path / "key.png", transparency=(9, 8, 7))
    alpha = read_picture(tmp_path / "key.png").alpha
    assert alpha is not None
    assert alpha.tolist() == [[0, 255], [255, 255]]


@pytest.mark.parametrize("suffix", [".jpg", ".jfif", ".bmp"])
def test_alpha_does_not_fit_into_jpeg_and_bmp(suffix: str) -> None:
    frame = pixels(2, 2)
    with pytest.raises(InputError, match=r"no transparency.*\.png"):
        encode_picture(Path(f"a{suffix}"), Picture(frame, alpha=frame[..., 0]), frame)


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".jfif"])
def test_bmp_gif_and_jfif_are_read(tmp_path: Path, suffix: str, mode: str) -> None:
    image, path = Image.fromarray(smooth(16, 24)).convert(mode), tmp_path / f"a{suffix}"
    image.convert("RGB" if suffix == ".jfif" and mode == "P" else mode).save(path)
    with Image.open(path) as stored:
        expected = np.array(stored.convert("RGB"))
    assert np.array_equal(read_picture(path).frame, expected)
    if suffix == ".bmp":
        write_picture(tmp_path / "b.bmp", read_picture(path), expected)
        assert np.array_equal(read_picture(tmp_path / "b.bmp").frame, expected)


def png_with(chunks: tuple[tuple[bytes, bytes], ...]) -> bytes:
    info, buffer = PngInfo(), io.BytesIO()
    for name, content in chunks:
        info.add(name, content)
    Image.fromarray(pixels(4, 4)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", CHUNKS)
def test_a_png_keeps_what_it_says_of_its_colours(kind: str) -> None:
    picture = decode_picture(png_with(CHUNKS[kind]), Path("a.png"))
    written = dict(png_chunks(encode_picture(Path("b.png"), picture, picture.frame)))
    assert {name: written.get(name) for name, _ in CHUNKS[kind]} == dict(CHUNKS[kind])


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp"])
def test_colours_that_another_format_cannot_state_are_refused(suffix: str) -> None:
    for kind, chunks in CHUNKS.items():
        picture = decode_picture(png_with(chunks), Path("a.png"))
        if kind == "several":  # no more than sRGB, which every viewer takes for granted
            encode_picture(Path(f"b{suffix}"), picture, picture.frame)
            continue
        with pytest.raises(InputError, match=rf"by {chunks[0][0].decode()}, which .* cannot hold.*write \.png"):
            encode_picture(Path(f"b{suffix}"), picture, picture.frame)
    profiled = Picture(picture.frame, icc_profile=ICC, colour=CHUNKS["P3"])
    if suffix == ".bmp":
        with pytest.raises(InputError, match="by a colour profile, which a BMP cannot hold"):
            encode_picture(Path("b.bmp"), profiled, picture.frame)
    else:
        encode_picture(Path(f"b{suffix}"), profiled, picture.frame)


@pytest.mark.skipif(".avif" not in READ_ONLY, reason="this Pillow is built without AVIF")
def test_the_colours_of_an_avif_become_those_of_a_png(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    Image.fromarray(smooth(16, 16)).save(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"nclx") + 4
    data[place : place + 4] = struct.pack(">HH", 12, 13)  # P3, the curve of sRGB
    picture = decode_picture(bytes(data), path)
    written = dict(png_chunks(encode_picture(Path("b.png"), picture, picture.frame)))
    assert written[b"cICP"] == bytes((12, 13, 0, 1))


@pytest.mark.parametrize("kind", ["H", "I"])
def test_orientation_of_either_integer_type_and_the_thumbnail(kind: str) -> None:
    """A first directory with orientation 6, a second with a thumbnail of the picture as it was."""
    for order, head in (("<", b"II*\0"), (">", b"MM\0*")):
        turn = struct.pack(f"{order}HHI", 0x0112, {"H": 3, "I": 4}[kind], 1) + struct.pack(order + kind, 6).ljust(
            4, b"\0"
        )
        entries = ((0x0201, 4, 1, 26 + 2 + 24 + 4), (0x0202, 4, 1, len(b"sideways")))
        thumbnail = struct.pack(f"{order}H", 2) + b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
        thumbnail += bytes(4) + b"sideways"
        block = PREFIX + head + struct.pack(f"{order}IH", 8, 1) + turn + struct.pack(f"{order}I", 26) + thumbnail
        before, after = Image.Exif(), Image.Exif()
        before.load(block)
        assert before.get_ifd(ExifTags.IFD.IFD1)[0x0201] == 56
        assert block[len(PREFIX) + 56 :] == b"sideways"
        assert orientation(block) == 6
        after.load(upright(block))
        assert after[ExifTags.Base.Orientation] == orientation(upright(block)) == 1
        assert after.get_ifd(ExifTags.IFD.IFD1) == {}
        assert len(upright(block)) == len(block)
        assert b"sideways" not in upright(block), "nobody shall find the picture as it was in there"


def test_a_size_that_the_format_cannot_hold() -> None:
    frame = np.zeros((1, 16_384, 3), np.uint8)
    with pytest.raises(InputError, match=r"WEBP does not hold this 1x16384 picture.*\.png"):
        encode_picture(Path("a.webp"), Picture(frame), frame)


def test_an_unknown_suffix_is_refused() -> None:
    frame = pixels(2, 2)
    with pytest.raises(InputError, match=r"unblur writes \.png"):
        encode_picture(Path("a.gif"), Picture(frame), frame)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EFBIG, "Cannot write"),
        (errno.EACCES, "Cannot write"),
        (errno.EIO, "Cannot"),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    path, frame = tmp_path / "a.png", pixels(4, 4)
    path.write_bytes(b"old")

    def fail(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(InputError, match=words) as caught:
        write_picture(path, Picture(frame), frame)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the real photographs are not beside this checkout")
def test_a_real_photograph_round_trips(tmp_path: Path) -> None:
    source = find_pictures(PHOTOGRAPHS)[0]
    picture = read_picture(source)
    assert picture.frame.shape == (720, 1280, 3)
    write_picture(tmp_path / "a.png", picture, picture.frame)
    assert np.array_equal(read_picture(tmp_path / "a.png").frame, picture.frame)
