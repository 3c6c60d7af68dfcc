"""The frames of a comparison, each with its sharp partner if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from unblur.core.artefacts import file_digest
from unblur.core.console import SILENT, Progress, printable
from unblur.core.errors import ChangedError, InputError, nearest
from unblur.images.contract import Frame
from unblur.images.files import decode_picture, read_picture
from unblur.images.listing import KINDS, find_pictures
from unblur.images.pairs import LAYOUTS, Pair, check_pairs, find_pairs, named_layout, note_extra
from unblur.metrics.alignment import can_align


@dataclass(frozen=True)
class FrameFile:
    """A blurred picture, its name in the report (relative, so that reports name no one's folders), and its truth.

    `layout`: of the data set it came from, None for a folder of pictures. `digests`: SHA-256 of both files where they
    are pinned; each reading is then held to them.
    """

    name: str
    path: Path
    truth: Path | None = None
    layout: str | None = None
    digests: tuple[str, str | None] | None = None

    def pinned(self) -> FrameFile:
        """The same, held to what the files are now. Raises InputError for one that cannot be opened."""
        try:
            return replace(self, digests=(file_digest(self.path), file_digest(self.truth) if self.truth else None))
        except OSError as error:
            raise InputError(f"{error.filename} cannot be opened: {error.strerror}; check its permissions.") from error

    @property
    def from_two_cameras(self) -> bool:
        """Whether blurred and sharp were taken by two cameras, as RealBlur's were."""
        return (self.layout or "").startswith("realblur")

    @property
    def aligned(self) -> bool:
        """Whether results are aligned with the truth before they are compared: two cameras took RealBlur's pairs."""
        return self.from_two_cameras and can_align()

    def read(self) -> tuple[Frame, Frame | None]:
        """(H, W, 3) RGB uint8, and the truth's or None. Raises InputError, naming the file, for either picture
        unreadable or two different sizes; ChangedError where a pinned file is another than it was.
        """
        first, second = self.digests or (None, None)
        frame = _read(self.path, first)
        if self.truth is None:
            return frame, None
        truth = _read(self.truth, second)
        if truth.shape != frame.shape:
            sizes = f"{frame.shape[0]}x{frame.shape[1]} and {truth.shape[0]}x{truth.shape[1]}"
            raise InputError(
                f"{self.path} and its truth {self.truth} are {sizes} (height x width); a pair has one size."
            )
        return frame, truth

    def strip_paths(self, reason: str) -> str:
        """The reason of a failure with the relative name in place of whole paths."""
        for path in (self.path, self.truth):
            reason = reason.replace(str(path), self.name) if path else reason
        return printable(reason, keep="\n")


def pixels_of(frame: Frame) -> str:
    """Half a SHA-256 of a frame's bytes: the same for one picture in another file."""
    return sha256(np.ascontiguousarray(frame).data).hexdigest()[:32]


def _read(path: Path, digest: str | None) -> Frame:
    """The bytes that are decoded are those that are hashed."""
    if digest is None:
        return read_picture(path).frame
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ChangedError(f"{path} changed during the run ({error.strerror}); run the same command again.") from error
    if sha256(data).hexdigest() != digest:
        raise ChangedError(f"{path} changed during the run; run the same command again when it stays as it is.")
    return decode_picture(data, path).frame


def find_frames(frames: Path | str, truth: Path | None = None, progress: Progress = SILENT) -> list[FrameFile]:
    """Pictures of a folder (or one file), sorted; partners in `truth` have the same relative path and stem.

    "gopro:FOLDER", "hide:FOLDER", "realblur-j:FOLDER" and the like are the test part of a data set, and bring the truth
    (`find_pairs`). Sharp pictures that are no frame's partner are named to `progress`.

    Raises InputError for a missing or empty folder, a frame without a partner, a partner that is there twice, `truth`
    beside a layout, and as `check_pairs`: before anything is computed.
    """
    layout, frames = named_layout(frames)
    if layout is not None:
        if truth is not None:
            raise InputError(f"{layout}:{frames} brings its sharp pictures; leave --truth {truth} out.")
        pairs = find_pairs(frames, layout, "test", progress)
        names = [pair.blurred.relative_to(frames).as_posix() for pair in pairs]
        return _named([FrameFile(n, p.blurred, p.sharp, layout) for n, p in zip(names, pairs, strict=True)])
    result = _find(frames, truth, progress)
    check_pairs([Pair(frame.path, frame.truth) for frame in result if frame.truth])
    return _named(result)


def _named(frames: Sequence[FrameFile]) -> list[FrameFile]:
    """The frames under names that any terminal, page and JSON can hold."""
    named = [replace(frame, name=printable(frame.name)) for frame in frames]
    by_name: dict[str, FrameFile] = {}
    for frame in named:
        if by_name.setdefault(frame.name, frame) is not frame:
            raise InputError(f"Two frames are called {frame.name} in every report; rename one of them.")
    return named


def _find(frames: Path, truth: Path | None, progress: Progress) -> list[FrameFile]:
    found = _pictures(frames, "frames", progress)
    root = frames if frames.is_dir() else frames.parent
    names = {path: path.relative_to(root).as_posix() for path in found}
    if truth is None:
        return [FrameFile(names[path], path) for path in found]
    sharp, sharp_root = _pictures(truth, "truth", progress), truth if truth.is_dir() else truth.parent
    if frames.is_file() and truth.is_file():
        return [FrameFile(names[frames], frames, truth)]
    partners = _by_stem(sharp, sharp_root)
    result, alone = [], []
    for path in found:
        candidates = partners.get(path.relative_to(root).with_suffix("").as_posix(), [])
        if len(candidates) > 1:
            same = " and ".join(str(candidate) for candidate in candidates)
            raise InputError(f"{path} has more than one truth: {same}; keep one of them.")
        if candidates:
            result.append(FrameFile(names[path], path, candidates[0]))
        else:
            alone.append(names[path])
    if alone:
        shown = ", ".join(alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
        raise InputError(
            f"{len(alone)} of {len(found)} frames have no sharp partner in {truth}: {shown}. A partner has the same "
            "relative path and stem; add it, or leave the frame out."
        )
    note_extra(sharp, [frame.truth for frame in result if frame.truth], sharp_root, progress)
    return result


def _pictures(place: Path, what: str, progress: Progress) -> list[Path]:
    if not place.exists():
        kind, colon, _ = str(place).partition(":")
        hint = nearest(kind, LAYOUTS) if colon else ""
        raise InputError(f"There is no {place} ({what}){hint}; name a folder of pictures, or one picture.")
    if place.is_file():
        return [place]
    found = find_pictures(place, progress)
    if not found:
        raise InputError(f"No picture in {place}; unblur reads {KINDS}.")
    return found


def _by_stem(paths: Sequence[Path], root: Path) -> dict[str, list[Path]]:
    stems: dict[str, list[Path]] = {}
    for path in paths:
        stems.setdefault(path.relative_to(root).with_suffix("").as_posix(), []).append(path)
    return stems
