"""Sizes are height x width, whatever cameras say."""

from __future__ import annotations

import argparse

import pytest

from unblur.cli.sizes import NAMED, size


@pytest.mark.parametrize(
    ("text", "height", "width"),
    [("720x1280", 720, 1280), ("1280x720", 1280, 720), ("1X2", 1, 2), ("3×5", 3, 5), ("720p", 720, 1280),
     ("1080P", 1080, 1920)],
)  # fmt: skip
def test_height_comes_first(text: str, height: int, width: int) -> None:
    assert size(text) == (height, width)


def test_named_sizes_are_16_to_9() -> None:
    assert all((int(name[:-1]), int(name[:-1]) * 16 // 9) == pixels for name, pixels in NAMED.items())


@pytest.mark.parametrize("text", ["", "720", "480p", "0x5", "5x0", "-1x5", "1x2x3", "axb", "720 x 1280"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="HEIGHTxWIDTH"):
        size(text)
