"""The argument type HEIGHTxWIDTH."""

from __future__ import annotations

import argparse
import re


def size(text: str) -> tuple[int, int]:
    """Argument type: "720x1280" -> (720, 1280), both at least 1."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or not int(match[1]) or not int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write HEIGHTxWIDTH, as 720x1280")
    return int(match[1]), int(match[2])
