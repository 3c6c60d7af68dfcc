"""Frames on which a cast is measured: pictures that are named, else one that is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unblur.core.errors import InputError
from unblur.images.contract import Frame
from unblur.images.files import find_pictures, read_picture
from unblur.images.synthetic import synthetic_pair

MOST = 4
"""Pictures of a folder that are used: each costs two runs of the graph."""

MOST_MACS = 350e9
"""A graph of more is not measured unasked: a frame would take minutes and gigabytes."""

DRAWN = 256
"""Longest side in pixels of a frame that is drawn for a graph of every size."""

SEED = 0


@dataclass(frozen=True)
class CastFrames:
    """RGB uint8 frames (height, width, 3) of one size, and where they come from, in words."""

    frames: tuple[Frame, ...]
    source: str


def choose_frames(folder: Path | None, size: tuple[int, int], macs: int | None) -> CastFrames | None:
    """Frames of (height, width) from a folder, or one that is drawn from pictures no network here was trained on.

    `macs`: of a graph that takes no other size; None for one that takes every size, whose drawn frame may be smaller.
    None is returned where drawing would start a measurement that nobody has asked for. Raises as `folder_frames`.
    """
    if folder is not None:
        return folder_frames(folder, size)
    if macs is not None and macs > MOST_MACS:
        return None
    height, width = size if macs is not None else (min(side, DRAWN) for side in size)
    return CastFrames((synthetic_pair(SEED, height, width, "heldout")[0],), f"one drawn frame, seed {SEED}")


def folder_frames(folder: Path, size: tuple[int, int]) -> CastFrames:
    """The middles of up to MOST pictures, spread over a folder's, cut to (height, width).

    Raises InputError for a folder without pictures, a picture smaller than the size, and as `read_picture`.
    """
    pictures = find_pictures(folder) if folder.is_dir() else []
    if not pictures:
        raise InputError(f"{folder} is no folder with pictures; name one with frames to measure the cast on.")
    count = min(MOST, len(pictures))
    chosen = [pictures[k * len(pictures) // count] for k in range(count)]
    return CastFrames(tuple(_middle(path, *size) for path in chosen), f"{count} of {len(pictures)} in {folder.name}")


def _middle(path: Path, height: int, width: int) -> Frame:
    frame = read_picture(path).frame
    top, left = ((have - want) // 2 for have, want in zip(frame.shape[:2], (height, width), strict=True))
    if top < 0 or left < 0:
        have = "x".join(map(str, frame.shape[:2]))
        raise InputError(f"{path} is {have}, smaller than the graph's {height}x{width}; name larger frames.")
    return frame[top : top + height, left : left + width]
