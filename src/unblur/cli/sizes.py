"""The argument type HEIGHTxWIDTH."""

from __future__ import annotations

import argparse
import re

NAMED = {"720p": (720, 1280), "1080p": (1080, 1920), "1440p": (1440, 2560), "2160p": (2160, 3840)}
"""Sizes that have one meaning everywhere; 480p has not."""

SIZE_TEXT = "height x width, as 720x1280 or 720p (a camera's 1280x720 is 720x1280 here)"
"""For help texts: nothing tells a frame that stands upright from one whose two numbers were swapped."""


def size(text: str) -> tuple[int, int]:
    """Argument type: "720x1280" and "720p" -> (720, 1280), both at least 1."""
    if text.lower() in NAMED:
        return NAMED[text.lower()]
    match = re.fullmatch(r"(\d+)[xX×](\d+)", text)
    if not match or not int(match[1]) or not int(match[2]):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; write HEIGHTxWIDTH, as 720x1280, or one of {', '.join(NAMED)}"
        )
    return int(match[1]), int(match[2])
