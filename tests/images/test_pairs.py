"""Layouts of the public data sets, each on a tiny made tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from unblur.core.console import ConsoleProgress
from unblur.core.errors import InputError
from unblur.images.pairs import find_pairs, named_layout, read_pair


def picture(path: Path, value: int, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255 - value)).save(path)
    return path


def names(folder: Path, layout: str, split: str = "train") -> list[tuple[str, str]]:
    found = find_pairs(folder, layout, split)
    return [(p.blurred.relative_to(folder).as_posix(), p.sharp.relative_to(folder).as_posix()) for p in found]


def test_gopro_pairs_blur_with_sharp_and_leaves_blur_gamma_and_the_other_split_alone(tmp_path: Path) -> None:
    for sequence in ("GOPR02", "GOPR01"):
        for kind in ("blur", "blur_gamma", "sharp"):
            picture(tmp_path / "train" / sequence / kind / "000001.png", 1)
    picture(tmp_path / "test" / "GOPR09" / "blur" / "000002.png", 1)
    picture(tmp_path / "test" / "GOPR09" / "sharp" / "000002.png", 1)
    assert names(tmp_path, "gopro") == [
        ("train/GOPR01/blur/000001.png", "train/GOPR01/sharp/000001.png"),
        ("train/GOPR02/blur/000001.png", "train/GOPR02/sharp/000001.png"),
    ]
    assert names(tmp_path, "gopro", "test") == [("test/GOPR09/blur/000002.png", "test/GOPR09/sharp/000002.png")]


def test_gopro_takes_the_folder_of_a_split_itself(tmp_path: Path) -> None:
    picture(tmp_path / "GOPR01" / "blur" / "1.png", 1)
    picture(tmp_path / "GOPR01" / "sharp" / "1.png", 1)
    assert names(tmp_path, "gopro") == [("GOPR01/blur/1.png", "GOPR01/sharp/1.png")]


def test_hide_finds_the_truth_under_gt_for_both_kinds_of_test_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "1.png", 1)
    picture(tmp_path / "test" / "test-close-ups" / "2.png", 1)
    picture(tmp_path / "test" / "test-long-shot" / "3.png", 1)
    for name in ("1", "2", "3"):
        picture(tmp_path / "GT" / f"{name}.png", 2)
    assert names(tmp_path, "hide") == [("train/1.png", "GT/1.png")]
    assert names(tmp_path, "hide", "test") == [
        ("test/test-close-ups/2.png", "GT/2.png"),
        ("test/test-long-shot/3.png", "GT/3.png"),
    ]


def test_hide_with_one_name_in_two_sub_folders_gives_each_its_own_truth(tmp_path: Path) -> None:
    for place in ("test-close-ups", "test-long-shot"):
        picture(tmp_path / "test" / place / "1.png", 1)
        picture(tmp_path / "GT" / place / "1.png", 2)
    assert names(tmp_path, "hide", "test") == [
        ("test/test-close-ups/1.png", "GT/test-close-ups/1.png"),
        ("test/test-long-shot/1.png", "GT/test-long-shot/1.png"),
    ]
    assert [pair.sharp for pair in find_pairs(tmp_path / "test", "hide", "test")] == [
        tmp_path / "GT" / "test-close-ups" / "1.png",
        tmp_path / "GT" / "test-long-shot" / "1.png",
    ]
    (tmp_path / "GT" / "test-close-ups").rename(tmp_path / "GT" / "elsewhere")
    with pytest.raises(InputError, match=r"test-close-ups.1\.png may have 2 truths"):
        find_pairs(tmp_path, "hide", "test")


def test_hide_with_one_truth_for_two_pictures_is_refused(tmp_path: Path) -> None:
    for place in ("test-close-ups", "test-long-shot"):
        picture(tmp_path / "test" / place / "1.png", 1)
    picture(tmp_path / "GT" / "1.png", 2)
    with pytest.raises(InputError, match=r"GT.1\.png belongs to two pairs, of .*close-ups.* and of .*long-shot"):
        find_pairs(tmp_path, "hide", "test")


def test_realblur_lists_that_name_a_pair_twice_or_a_picture_elsewhere_are_refused(tmp_path: Path) -> None:
    for name in ("gt", "blur"):
        picture(tmp_path / f"{name}.png", 1)
    listing = tmp_path / "RealBlur_J_test_list.txt"
    for lines, message in (
        ("gt.png blur.png\n" * 2, "belongs to two pairs"),
        ("gt.png gt.png\n", "its own truth"),
        (f"{tmp_path}/gt.png blur.png\n", "outside of"),
        ("../gt.png blur.png\n", "outside of"),
    ):
        listing.write_text(lines)
        with pytest.raises(InputError, match=message):
            find_pairs(tmp_path, "realblur", "test")
    listing.write_bytes(b"\xff\xfe gt.png\n")
    with pytest.raises(InputError, match="no list in UTF-8"):
        find_pairs(tmp_path, "realblur", "test")


def test_pairs_of_two_sizes_are_told_by_their_headers(tmp_path: Path) -> None:
    for name, width in (("1", 6), ("2", 8)):
        picture(tmp_path / "s" / "blur" / f"{name}.png", 1)
        picture(tmp_path / "s" / "sharp" / f"{name}.png", 1, (width, 4))
    with pytest.raises(InputError, match=r"1 of 2 pairs .*2\.png is 4x6 and its truth 4x8"):
        find_pairs(tmp_path, "gopro")
    # What a damaged picture is, its reader tells.
    (tmp_path / "s" / "sharp" / "2.png").write_bytes(b"?")
    assert len(find_pairs(tmp_path, "gopro")) == 2


def test_sharp_pictures_without_a_blurred_one_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "s" / "blur" / "1.png", 1)
    for name in "123":
        picture(tmp_path / "s" / "sharp" / f"{name}.png", 1)
    find_pairs(tmp_path, "gopro", "train", ConsoleProgress())
    said = capsys.readouterr().err
    assert "2 sharp picture(s)" in said
    assert "s/sharp/2.png, s/sharp/3.png" in said


def test_a_truth_of_hide_that_no_picture_of_any_split_has_is_named(tmp_path: Path, capsys) -> None:
    for place in ("train/1.png", "test/close/2.png", "GT/1.png", "GT/2.png", "GT/3.png"):
        picture(tmp_path / place, len(place))
    for folder in (tmp_path, tmp_path / "test"):
        assert len(find_pairs(folder, "hide", "test", ConsoleProgress())) == 1
        said = capsys.readouterr().err
        assert "1 sharp picture(s)" in said
        assert "GT/3.png" in said
        assert "hide: 1 test pairs" in said
        assert "over 2,025" in said


def test_every_missing_partner_is_counted_and_the_first_are_named(tmp_path: Path) -> None:
    for name in range(8):
        picture(tmp_path / "s" / "blur" / f"{name}.png", name)
    picture(tmp_path / "s" / "sharp" / "0.png", 0)
    with pytest.raises(InputError, match=r"7 of 8 pairs have no partner: .*1\.png, .*5\.png and 2 more is missing"):
        find_pairs(tmp_path, "gopro")


def test_the_two_lists_of_realblur_are_two_test_sets(tmp_path: Path) -> None:
    for camera in "JR":
        for kind in ("gt", "blur"):
            picture(tmp_path / camera / f"{kind}.png", ord(camera) + len(kind))
        (tmp_path / f"RealBlur_{camera}_test_list.txt").write_text(f"{camera}/gt.png {camera}/blur.png\n")
    for layout, cameras in (("realblur", "JR"), ("realblur-j", "J"), ("realblur-r", "R")):
        found = find_pairs(tmp_path, layout, "test")
        assert [pair.blurred for pair in found] == [tmp_path / camera / "blur.png" for camera in cameras]
    (tmp_path / "RealBlur_R_test_list.txt").unlink()
    with pytest.raises(InputError, match="expected RealBlur_R_test_list"):
        find_pairs(tmp_path, "realblur-r", "test")


def test_a_source_may_name_its_layout() -> None:
    assert named_layout("hide:a/b") == ("hide", Path("a/b"))
    for plain in ("a/b", "hied:a", "hide", "C:gopro"):
        assert named_layout(plain) == (None, Path(plain))


def test_realblur_reads_its_lists_whose_first_column_is_the_truth(tmp_path: Path) -> None:
    picture(tmp_path / "J" / "scene001" / "blur" / "blur_1.png", 1)
    picture(tmp_path / "J" / "scene001" / "gt" / "gt_1.png", 2)
    listing = tmp_path / "RealBlur_J_train_list.txt"
    listing.write_text("J/scene001/gt/gt_1.png J/scene001/blur/blur_1.png 0\n\n")
    (pair,) = find_pairs(tmp_path, "realblur")
    assert (pair.blurred.name, pair.sharp.name) == ("blur_1.png", "gt_1.png")


@pytest.mark.parametrize("layout", ["gopro", "hide", "realblur"])
def test_an_empty_folder_says_what_was_expected(tmp_path: Path, layout: str) -> None:
    with pytest.raises(InputError, match=f"No {layout} pair for 'train'.*expected"):
        find_pairs(tmp_path, layout)


def test_a_missing_folder_an_unknown_layout_and_a_missing_partner_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_pairs(tmp_path / "none", "gopro")
    with pytest.raises(InputError, match="did you mean 'gopro'"):
        find_pairs(tmp_path, "gopr")
    picture(tmp_path / "train" / "GOPR01" / "blur" / "7.png", 1)
    with pytest.raises(InputError, match=r"no partner: .*sharp.7\.png is missing"):
        find_pairs(tmp_path, "gopro")


def test_read_pair_gives_rgb_bytes_and_refuses_sizes_that_differ_and_files_that_are_no_pictures(tmp_path: Path) -> None:
    blurred = picture(tmp_path / "s" / "blur" / "1.png", 10)
    sharp = picture(tmp_path / "s" / "sharp" / "1.png", 20)
    (pair,) = find_pairs(tmp_path, "gopro")
    a, b = read_pair(pair)
    assert a.shape == b.shape == (4, 6, 3)
    assert a.dtype == np.uint8
    assert a[0, 0].tolist() == [10, 0, 245]
    picture(sharp, 20, size=(8, 4))
    with pytest.raises(InputError, match="not a pair"):
        read_pair(pair)
    blurred.write_bytes(b"not a picture")
    with pytest.raises(InputError, match="not a PNG, JPEG"):
        read_pair(pair)


def one_pair(folder: Path) -> tuple[Path, Path]:
    noise = np.random.default_rng(0).integers(0, 256, (2, 12, 17, 3), np.uint8)
    paths = folder / "test/s/blur/1.png", folder / "test/s/sharp/1.png"
    for path, frame in zip(paths, noise, strict=True):
        path.parent.mkdir(parents=True)
        Image.fromarray(frame).save(path)
    return paths


@pytest.mark.parametrize("turn", [3, 6])
def test_a_pair_that_is_stored_turned_is_the_same_pair(tmp_path: Path, turn: int) -> None:
    blurred, _ = one_pair(tmp_path)
    (pair,) = find_pairs(tmp_path, "gopro", "test")
    plain = read_pair(pair)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    with Image.open(blurred) as image:
        stored = image.transpose(Image.Transpose.ROTATE_180 if turn == 3 else Image.Transpose.ROTATE_90)
    stored.save(blurred, exif=exif)
    for expected, got in zip(plain, read_pair(pair), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("kind", "words"), [("grey16", "16-bit PNG"), ("cmyk", "CMYK"), ("animated", "2 pages or animation frames")]
)
def test_a_pair_that_pillow_would_change_in_silence_is_refused(tmp_path: Path, kind: str, words: str) -> None:
    blurred, _ = one_pair(tmp_path)
    if kind == "grey16":
        Image.fromarray(np.full((12, 17), 40_000, np.uint16)).save(blurred)
    elif kind == "cmyk":
        Image.new("CMYK", (17, 12)).save(blurred, "JPEG")
    else:
        frames = [Image.new("RGB", (17, 12), level) for level in ("red", "green")]
        frames[0].save(blurred, save_all=True, append_images=frames[1:])
    (pair,) = find_pairs(tmp_path, "gopro", "test")
    with pytest.raises(InputError, match=words):
        read_pair(pair)


def test_files_of_the_finder_are_no_pairs(tmp_path: Path) -> None:
    """macOS puts one beside every file on a foreign disk."""
    for path in one_pair(tmp_path):
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7 resource fork")
    assert [pair.blurred.name for pair in find_pairs(tmp_path, "gopro", "test")] == ["1.png"]
