"""Frames and their sharp partners."""

from pathlib import Path

import pytest
from small_frames import save_frame

from unblur.compare.frames import find_frames
from unblur.core.errors import InputError


def test_partners_have_the_same_relative_path_and_stem(pictures: tuple[Path, Path]) -> None:
    blurred, sharp = pictures
    (sharp / "a.png").rename(sharp / "a.tif.png")
    save_frame(sharp / "a.webp")
    found = find_frames(blurred, sharp)
    assert [(frame.name, frame.truth) for frame in found] == [
        ("a.png", sharp / "a.webp"),
        ("night/b.png", sharp / "night" / "b.png"),
    ]


def test_one_file_and_its_truth(pictures: tuple[Path, Path]) -> None:
    found = find_frames(pictures[0] / "a.png", pictures[1] / "night" / "b.png")
    assert [(frame.name, frame.truth) for frame in found] == [("a.png", pictures[1] / "night" / "b.png")]


def test_a_missing_partner_is_named(pictures: tuple[Path, Path]) -> None:
    (pictures[1] / "night" / "b.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 frames have no sharp partner in .*: night/b\.png"):
        find_frames(*pictures)


def test_two_partners_are_one_too_many(pictures: tuple[Path, Path]) -> None:
    save_frame(pictures[1] / "a.jpg")
    with pytest.raises(InputError, match=r"a\.png has more than one truth"):
        find_frames(*pictures)


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No picture in"):
        find_frames(tmp_path)
    with pytest.raises(InputError, match="do not exist"):
        find_frames(tmp_path / "none")


def test_a_pair_of_two_sizes_names_both(pictures: tuple[Path, Path]) -> None:
    save_frame(pictures[1] / "a.png", 18, 30)
    frame = find_frames(*pictures)[0]
    with pytest.raises(InputError, match=r"20x24 and 18x30 \(height x width\)"):
        frame.read()
