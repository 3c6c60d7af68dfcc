"""What a cast is judged on: pictures that are named, else drawn ones; whole, or cut for a graph of smaller frames.

A frame of 720p through 18 million weights and their cast side by side takes minutes and gigabytes. What a cast costs is
a matter of the weights and of what flows through them, which crops show as well: they go through a graph of the same
weights that takes them. A whole frame is run besides where pictures are named, and where no such graph is at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from unblur.core.errors import InputError
from unblur.graphs.file import GraphFile, open_graph
from unblur.images.contract import Frame, PixelContract
from unblur.images.files import find_pictures, read_picture
from unblur.images.pairs import find_pairs, named_layout
from unblur.images.sizes import picture_size
from unblur.images.synthetic import synthetic_pair

MOST = 4
"""Pictures of a folder that are used, and crops: each costs two runs of the graph."""

MOST_MACS = 350e9
"""A frame of a graph of more takes minutes: it is judged by crops first."""

CROP = 256
"""Longest side in pixels of a crop, and of a frame that is drawn for a graph of every size."""

SEED = 0

Smaller = Callable[[], Path]
"""Gives a graph of the same weights that takes frames of CROP: asked for only where it is needed."""


@dataclass(frozen=True)
class CastFrames:
    """RGB uint8 frames (height, width, 3) of one size and, in words, what they are and come from.

    model: the float32 graph they go through; None for the very graph that is cast.
    """

    frames: tuple[Frame, ...]
    source: str
    model: onnx.ModelProto | None = None


def choose_frames(
    folder: Path | None, source: GraphFile, size: tuple[int, int], macs: int | None, smaller: Smaller | None = None
) -> tuple[CastFrames, ...]:
    """What the cast of a graph to (height, width) is judged on, the first deciding what stays in float32.

    `macs`: of a graph that takes no other size; None for one that takes every size, whose frames may be smaller.
    Raises InputError as `folder_frames`, and for a smaller graph of other weights.
    """
    contract = source.signature.contract
    small = tuple(min(side, CROP) for side in size)
    crop = (small[0], small[1])
    if macs is None:
        through = f"{crop[0]}x{crop[1]} through the dynamic graph"
        if folder is None:
            return (_drawn(1, crop, f"1 frame of {through}"),)
        if size == crop:
            return (_of_folder(folder, contract, size, f"frames of {through}"),)
        return (_of_folder(folder, contract, crop, f"crops of {through}"), _whole(folder, contract, size))
    if macs <= MOST_MACS:
        if folder is None:
            return (_drawn(1, size, f"1 frame of {size[0]}x{size[1]}"),)
        return (_of_folder(folder, contract, size, f"frames of {size[0]}x{size[1]}"),)
    if smaller is None:
        return (_whole(folder, contract, size),)
    judged = _through(smaller(), source)
    crop = (judged.signature.height or CROP, judged.signature.width or CROP)
    which = "the dynamic graph" if judged.signature.height is None else "a smaller graph of the same weights"
    text = f"crops of {crop[0]}x{crop[1]} through {which}"
    model = open_graph(judged.path)[1]
    if folder is None:
        return (replace(_drawn(MOST, crop, f"{MOST} {text}"), model=model),)
    return (replace(_of_folder(folder, contract, crop, text), model=model), _whole(folder, contract, size))


def folder_frames(
    folder: Path, size: tuple[int, int], contract: PixelContract, most: int = MOST
) -> tuple[tuple[Frame, ...], int]:
    """The middles of up to `most` pictures that are large enough, spread over a folder's, cut to (height, width), and
    how many it has. "gopro:FOLDER" and such name the test part of a data set.

    Raises InputError for a folder without pictures, without one of the size, and as `read_picture`.
    """
    layout, place = named_layout(folder)
    if layout:
        pictures = [pair.blurred for pair in find_pairs(place, layout, "test")]
    else:
        pictures = find_pictures(folder) if folder.is_dir() else [folder] if folder.is_file() else []
    if not pictures:
        raise InputError(f"{folder} is no folder with pictures; name one with frames to measure the cast on.")
    sizes = {path: picture_size(path) for path in pictures}
    large = [path for path, (height, width) in sizes.items() if _holds(contract.padded_size(height, width), size)]
    if not large:
        have = "x".join(map(str, sizes[pictures[0]]))
        raise InputError(f"{pictures[0]} is {have}, smaller than {size[0]}x{size[1]}, as all are; name larger frames.")
    count = min(most, len(large))
    chosen = [large[k * len(large) // count] for k in range(count)]
    return tuple(_middle(path, *size) for path in chosen), len(pictures)


def _through(path: Path, source: GraphFile) -> GraphFile:
    found = open_graph(path)[0]
    if (found.checkpoint, found.signature.contract) != (source.checkpoint, source.signature.contract):
        raise InputError(f"{path} is of other weights or pixels than {source.path}; the cast cannot be judged by it.")
    return found


def _drawn(count: int, size: tuple[int, int], text: str) -> CastFrames:
    """From pictures that no network here was trained on."""
    frames = tuple(synthetic_pair(SEED + k, *size, "heldout")[0] for k in range(count))
    return CastFrames(frames, f"{text}, drawn")


def _of_folder(folder: Path, contract: PixelContract, size: tuple[int, int], text: str) -> CastFrames:
    frames, there = folder_frames(folder, size, contract)
    return CastFrames(frames, f"{len(frames)} {text}, from {there} in {folder.name}")


def _whole(folder: Path | None, contract: PixelContract, size: tuple[int, int]) -> CastFrames:
    text = f"1 whole frame of {size[0]}x{size[1]}"
    if folder is None:
        return _drawn(1, size, text)
    frames, _ = folder_frames(folder, size, contract, 1)
    return CastFrames(frames, f"{text}, from {folder.name}")


def _holds(picture: tuple[int, int], size: tuple[int, int]) -> bool:
    return picture[0] >= size[0] and picture[1] >= size[1]


def _middle(path: Path, height: int, width: int) -> Frame:
    frame = read_picture(path).frame
    top, left = (max(0, have - want) // 2 for have, want in zip(frame.shape[:2], (height, width), strict=True))
    return frame[top : top + height, left : left + width]
