"""Pairs of blurred and sharp pictures in the folder layouts of the public data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unblur.core.errors import InputError, nearest
from unblur.images.contract import Frame
from unblur.images.files import read_picture
from unblur.images.listing import find_pictures
from unblur.images.sizes import picture_size


@dataclass(frozen=True)
class Pair:
    """Paths of one blurred picture and its sharp truth."""

    blurred: Path
    sharp: Path


def find_pairs(folder: Path, layout: str, split: str = "train") -> list[Pair]:
    """All pairs of a data set, ordered by name. `folder` holds `train` and `test`, or is one of them already.

    gopro:    <split>/<sequence>/{blur,sharp}/NAME.png (the gamma-corrected folder blur_gamma is not read)
    hide:     <split>/**/NAME.png with the truth under GT/NAME.png, the subfolders of `test` may differ from GT's
    realblur: RealBlur_J_train_list.txt (test likewise; R alike), lines "SHARP BLURRED", paths relative to `folder`

    Raises InputError for an unknown layout, a folder without a pair, or a blurred picture without its truth.
    """
    if layout not in LAYOUTS:
        raise InputError(f"Unknown layout {layout!r}{nearest(layout, LAYOUTS)}; known: {', '.join(LAYOUTS)}.")
    if not folder.is_dir():
        raise InputError(f"The {layout} folder {folder} does not exist; name the folder the data set was unpacked to.")
    pairs = LAYOUTS[layout](folder, split)
    if not pairs:
        raise InputError(
            f"No {layout} pair for {split!r} in {folder}; expected {EXPECTED[layout].format(split=split)}."
        )
    for pair in pairs:
        for path in (pair.blurred, pair.sharp):
            if not path.is_file():
                raise InputError(f"{pair.blurred} has no partner: {path} is missing; unpack the {layout} data again.")
    return pairs


def check_pair(pair: Pair) -> None:
    """Raise InputError, by headers alone, when a picture is of a kind that is not taken or the sizes differ."""
    _refuse_other_size(pair, picture_size(pair.blurred), picture_size(pair.sharp))


def read_pair(pair: Pair) -> tuple[Frame, Frame]:
    """(blurred, sharp), each (H, W, 3) RGB uint8. Raises InputError when the sizes differ, and as `read_picture`."""
    blurred, sharp = (read_picture(path).frame for path in (pair.blurred, pair.sharp))
    _refuse_other_size(pair, blurred.shape[:2], sharp.shape[:2])
    return blurred, sharp


def _refuse_other_size(pair: Pair, blurred: tuple[int, ...], sharp: tuple[int, ...]) -> None:
    if blurred != sharp:
        raise InputError(f"{pair.blurred} is {blurred} but {pair.sharp} is {sharp}: not a pair.")


def _pictures(folder: Path) -> list[Path]:
    return find_pictures(folder) if folder.is_dir() else []


def _within(folder: Path, split: str) -> Path:
    inner = folder / split
    return inner if inner.is_dir() else folder


def _gopro(folder: Path, split: str) -> list[Pair]:
    blurred = [path for path in _pictures(_within(folder, split)) if path.parent.name == "blur"]
    return [Pair(path, path.parent.parent / "sharp" / path.name) for path in blurred]


def _hide(folder: Path, split: str) -> list[Pair]:
    truths = _pictures(folder / "GT") or _pictures(folder.parent / "GT")
    by_name = {path.name: path for path in truths}
    blurred = [path for path in _pictures(_within(folder, split)) if "GT" not in path.relative_to(folder).parts]
    if not truths:
        return []
    return [Pair(path, by_name.get(path.name, truths[0].parent / path.name)) for path in blurred]


def _realblur(folder: Path, split: str) -> list[Pair]:
    pairs = []
    for listing in sorted(folder.glob(f"RealBlur_*_{split}_list.txt")):
        for line in listing.read_text("utf-8").splitlines():
            words = line.split()
            if len(words) >= 2:
                pairs.append(Pair(folder / words[1], folder / words[0]))
    return pairs


LAYOUTS: dict[str, Callable[[Path, str], list[Pair]]] = {"gopro": _gopro, "hide": _hide, "realblur": _realblur}
EXPECTED = {
    "gopro": "{split}/<sequence>/blur/*.png beside {split}/<sequence>/sharp",
    "hide": "{split}/**/*.png and GT/*.png",
    "realblur": "RealBlur_J_{split}_list.txt with lines 'SHARP BLURRED'",
}
