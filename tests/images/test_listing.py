"""What counts as a picture of a folder, and what is named because it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unblur.core.errors import InputError
from unblur.images.listing import find_pictures, list_folder


def test_pictures_by_suffix_and_nothing_hidden(tmp_path: Path) -> None:
    inside = ["a.png", "B.JPG", "c.jpeg", "d.WebP", "e.tif", "f.TIFF", "sub/deep/g.png", "h.part.png", "i.bmp", "j.gif",
              "k.jfif"]  # fmt: skip
    outside = [".hidden.png", ".cache/x.png", ".a.1234abcd.part.png", "._a.png", "a.png.part", "notes.txt", "png"]
    for name in inside + outside:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    assert find_pictures(tmp_path) == sorted(tmp_path / name for name in inside)
    assert list_folder(tmp_path).passed_over == ()


@pytest.mark.parametrize(("name", "kind"), [("a.HEIC", "HEIC"), ("b.jxl", "JPEG XL"), ("c.CR2", "raw file")])
def test_pictures_that_are_not_read_are_named(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).touch()
    (told,) = list_folder(tmp_path).passed_over
    for word in (str(tmp_path / name), kind, "does not read", "convert"):
        assert word in told


def test_links_are_entered_only_where_nothing_would_come_twice_and_others_are_named(tmp_path: Path) -> None:
    inside, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    for folder in (inside / "sub", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    (inside / "loop").symlink_to(inside)
    (inside / "again").symlink_to(inside / "sub")
    assert list_folder(inside).passed_over == ()
    (inside / "other").symlink_to(elsewhere)
    listing = list_folder(inside)
    assert listing.pictures == (inside / "sub/a.png",)
    (told,) = listing.passed_over
    assert f"{inside / 'other'} is a link to a folder elsewhere" in told


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX")
def test_what_is_named_as_a_picture_and_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    told = list_folder(tmp_path).passed_over
    assert len(told) == 2
    assert "broken.jpg is a link that leads to no file" in told[0]
    assert "pipe.png is no regular file" in told[1]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot list"):
        find_pictures(tmp_path / "nowhere")
