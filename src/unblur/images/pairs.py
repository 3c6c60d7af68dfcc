"""Pairs of blurred and sharp pictures in the folder layouts of the public data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError, nearest
from unblur.images.contract import Frame
from unblur.images.files import read_picture
from unblur.images.listing import find_pictures
from unblur.images.sizes import picture_size

SHOWN = 5
"""So many names stand in a message."""


@dataclass(frozen=True)
class Pair:
    """Paths of one blurred picture and its sharp truth."""

    blurred: Path
    sharp: Path


def named_layout(source: str | Path) -> tuple[str | None, Path]:
    """ "gopro:FOLDER" -> the layout and the folder; anything else is a path without a layout."""
    kind, colon, rest = str(source).partition(":")
    return (kind, Path(rest)) if colon and kind in LAYOUTS else (None, Path(source))


def find_pairs(folder: Path, layout: str, split: str = "train", progress: Progress = SILENT) -> list[Pair]:
    """All pairs of a data set, ordered by name. `folder` holds `train` and `test`, or is one of them already.

    gopro:    <split>/<sequence>/{blur,sharp}/NAME.png (the gamma-corrected folder blur_gamma is not read)
    hide:     <split>/**/NAME.png with the truth under the same sub-folders of GT, or else the only NAME.png there
    realblur: RealBlur_J_train_list.txt (test likewise; R alike), lines "SHARP BLURRED", paths relative to `folder`
    realblur-j, realblur-r: one of the two lists, as the tables of the papers have it

    Sharp pictures that are no one's truth are named to `progress`, and so is a test part of another number of pairs
    than the papers have. Raises InputError for an unknown layout, a folder
    without a pair, and as `check_pairs`.
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
    if not layout.startswith("realblur"):  # whose lists name every picture
        find_pictures(_within(folder, split), progress)  # tells what in there is not looked at
    check_pairs(pairs, f"unpack the {layout} data again")
    note_extra(_truths(folder, layout, split), [pair.sharp for pair in pairs], folder, progress)
    if split == "test" and len(pairs) != TEST_PAIRS[layout]:
        progress.note(
            f"{layout}: {len(pairs)} test pairs in {folder}; the tables of papers are over {TEST_PAIRS[layout]:,}"
        )
    return pairs


def check_pairs(pairs: Sequence[Pair], cure: str = "name other folders") -> None:
    """Hold pairs to what they are, by their names and headers alone: nothing has been computed yet.

    Raises InputError for a file that is missing, a picture that is its own truth (the same file, whatever its names),
    one that belongs to two pairs, and pairs of two sizes. A header that cannot be read is for whoever reads the
    picture to tell.
    """
    owners: dict[tuple[int, int], int] = {}
    missing = [str(path) for pair in pairs for path in (pair.blurred, pair.sharp) if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} of {len(pairs)} pairs have no partner: {_some(missing)} is missing; {cure}.")
    unequal = []
    for place, pair in enumerate(pairs):
        if pair.blurred.samefile(pair.sharp):
            raise InputError(
                f"{pair.blurred} would be its own truth: {pair.sharp} is the same file. Name the folder of the "
                f"sharp pictures; a data set's layout finds both: {', '.join(f'{name}:FOLDER' for name in LAYOUTS)}."
            )
        for path in (pair.blurred, pair.sharp):
            about = path.stat()
            other = owners.setdefault((about.st_dev, about.st_ino), place)
            if other != place:
                raise InputError(
                    f"{path} belongs to two pairs, of {pairs[other].blurred} and of {pair.blurred}; keep one of them."
                )
        unequal += _unequal(pair)
    if unequal:
        raise InputError(
            f"{len(unequal)} of {len(pairs)} pairs are of two sizes (height x width): {_some(unequal)}. A pair has "
            "one; nothing was computed."
        )


def note_extra(sharp: Sequence[Path], taken: Sequence[Path], folder: Path, progress: Progress) -> None:
    """Name sharp pictures that are no one's truth: half of the frames may be missing."""
    used = set(taken)
    extra = [
        (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
        for path in sharp
        if path not in used
    ]
    if extra:
        progress.note(f"{len(extra)} sharp picture(s) in {folder} are no frame's truth: {_some(extra)}")


def _unequal(pair: Pair) -> list[str]:
    try:
        (height, width), (sharp_height, sharp_width) = (picture_size(path) for path in (pair.blurred, pair.sharp))
    except InputError:
        return []
    if (height, width) == (sharp_height, sharp_width):
        return []
    return [f"{pair.blurred} is {height}x{width} and its truth {sharp_height}x{sharp_width}"]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


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
    truths = _pictures(_hide_truths(folder))
    by_name: dict[str, list[Path]] = {}
    for path in truths:
        by_name.setdefault(path.name, []).append(path)
    inner = _within(folder, split)
    blurred = [path for path in _pictures(inner) if "GT" not in path.relative_to(folder).parts]
    return [Pair(path, _hide_truth(path, path.relative_to(inner), by_name, folder)) for path in blurred if truths]


def _hide_truth(path: Path, below: Path, by_name: dict[str, list[Path]], folder: Path) -> Path:
    """The truth in the same sub-folders; else the only one of that name: the same name may be there twice."""
    same = _hide_truths(folder) / below
    found = by_name.get(path.name, [])
    if same in found or not found:
        return same
    if len(found) > 1:
        raise InputError(
            f"{path} may have {len(found)} truths, {_some([str(one) for one in found])}, and none lies at {same}; "
            "keep one of them, or give it the same sub-folder."
        )
    return found[0]


def _hide_truths(folder: Path) -> Path:
    return next((place / "GT" for place in (folder, folder.parent) if (place / "GT").is_dir()), folder / "GT")


def _realblur(folder: Path, split: str, camera: str = "*") -> list[Pair]:
    pairs = []
    for listing in sorted(folder.glob(f"RealBlur_{camera}_{split}_list.txt")):
        try:
            lines = listing.read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{listing} is no list in UTF-8 ({error}); unpack the realblur data again.") from error
        for line in lines:
            words = line.split()
            if any(Path(word).is_absolute() or ".." in Path(word).parts for word in words[:2]):
                raise InputError(f"{listing} names a picture outside of {folder} ({line.strip()}); correct the list.")
            if len(words) >= 2:
                pairs.append(Pair(folder / words[1], folder / words[0]))
    return pairs


def _truths(folder: Path, layout: str, split: str) -> list[Path]:
    """Every sharp picture that should be someone's truth. HIDE keeps those of both splits together: there it is those
    whose name no blurred picture of any split has."""
    if layout == "gopro":
        return [path for path in _pictures(_within(folder, split)) if path.parent.name == "sharp"]
    if layout == "hide":
        truths = _hide_truths(folder)
        blurred = {path.name for path in _pictures(truths.parent) if not path.is_relative_to(truths)}
        here = {path.name for path in _pictures(_within(folder, split))}
        return [path for path in _pictures(truths) if path.name not in blurred | here]
    return []


LAYOUTS: dict[str, Callable[[Path, str], list[Pair]]] = {
    "gopro": _gopro,
    "hide": _hide,
    "realblur": _realblur,
    "realblur-j": partial(_realblur, camera="J"),
    "realblur-r": partial(_realblur, camera="R"),
}
TEST_PAIRS = {"gopro": 1111, "hide": 2025, "realblur": 2 * 980, "realblur-j": 980, "realblur-r": 980}
"""Of the data sets as they were published, on which the tables of papers stand."""

EXPECTED = {
    "gopro": "{split}/<sequence>/blur/*.png beside {split}/<sequence>/sharp",
    "hide": "{split}/**/*.png and GT/*.png",
    "realblur": "RealBlur_J_{split}_list.txt with lines 'SHARP BLURRED'",
    "realblur-j": "RealBlur_J_{split}_list.txt with lines 'SHARP BLURRED'",
    "realblur-r": "RealBlur_R_{split}_list.txt with lines 'SHARP BLURRED'",
}
