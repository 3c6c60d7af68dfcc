"""Sizes by headers: those of the pictures as they are read, without decoding them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pixels import BGR

from unblur.core.errors import InputError
from unblur.images.files import read_picture
from unblur.images.listing import SUFFIXES
from unblur.images.sizes import padded_sizes, picture_size


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("turn", [0, 1, 3, 6, 8])
def test_the_size_is_that_of_the_upright_picture(tmp_path: Path, suffix: str, turn: int) -> None:
    path = tmp_path / f"picture{suffix}"
    exif = Image.Exif()
    if turn and suffix == ".bmp":
        pytest.skip("a BMP has no orientation")
    if turn:
        exif[0x0112] = turn
    Image.fromarray(np.zeros((31, 48, 3), np.uint8)).save(path, exif=exif)
    assert picture_size(path) == read_picture(path).frame.shape[:2]
    assert (picture_size(path) == (48, 31)) == (turn >= 5)


def test_sizes_of_a_folder_are_padded_and_counted(tmp_path: Path) -> None:
    for name, size in [("a.png", (31, 48)), ("b.png", (32, 47)), ("deep/c.jpg", (64, 64))]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / name)
    assert padded_sizes(tmp_path, BGR) == Counter({(32, 48): 2, (64, 64): 1})


def test_only_the_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    assert picture_size(path) == (64, 64)


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        padded_sizes(tmp_path / "none", BGR)
    with pytest.raises(InputError, match="no pictures"):
        padded_sizes(tmp_path, BGR)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(InputError, match=r"text\.png is not a PNG"):
        padded_sizes(tmp_path, BGR)
