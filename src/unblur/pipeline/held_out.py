"""Frames that algorithms are scored on, held apart from those that calibration saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from unblur.calibration.fingerprint import fingerprint, same_picture
from unblur.calibration.manifest import Manifest
from unblur.calibration.score import HeldOut
from unblur.compare.measure.frames import FrameFile
from unblur.core.artefacts import value_digest
from unblur.core.bounds import Size
from unblur.core.errors import InputError
from unblur.images.contract import Frame
from unblur.images.sizes import picture_size
from unblur.images.synthetic import synthetic_pair

DRAWN = 4
"""Frames that algorithms are scored on where nobody names others."""

MOST = 8
"""Of named pictures so many are scored on: each costs several runs of a graph as it is written."""

Padded = Callable[[int, int], Size]
"""Height and width of a frame -> those that a network takes."""


def drawn_held_out(size: Size, count: int = DRAWN, seed: int = 0) -> list[HeldOut]:
    """Pairs drawn from pictures and a random stream that calibration frames are never drawn from."""
    return [HeldOut(*synthetic_pair(seed + k, *size, "heldout")) for k in range(count)]


@dataclass(frozen=True)
class Named:
    """Pictures that somebody named to judge precisions on, with their truths or without; none: drawn ones take their
    place. `blurred` and `sharp`: as they were named."""

    files: tuple[FrameFile, ...] = ()
    blurred: Path | None = None
    sharp: Path | None = None

    def fits(self, size: Size, padded: Padded) -> bool:
        """Whether any is as large as a graph of (height, width). `padded`: of a frame, what a graph takes."""
        return any(_holds(padded(*picture_size(file.path)), size) for file in self.files)

    def at(self, size: Size, padded: Padded, most: int = MOST) -> tuple[list[HeldOut], str]:
        """Up to `most` of those that are as large as (height, width), spread over all, cut to their middles where they
        are larger; and what they are, in words. Drawn ones where none is named.

        Raises InputError where none is as large, and as `FrameFile.read`.
        """
        if not self.files:
            return drawn_held_out(size), f"{DRAWN} drawn, seeds from 0"
        large = [file for file in self.files if _holds(padded(*picture_size(file.path)), size)]
        if not large:
            raise InputError(
                f"None of the {len(self.files)} pictures, such as {self.files[0].path}, is as large as the graph's "
                f"{size[0]}x{size[1]}; name larger ones, or a smaller --size."
            )
        count = min(most, len(large))
        chosen = [large[k * len(large) // count] for k in range(count)]
        what = "pairs" if chosen[0].truth else "frames"
        where = f" in {self.blurred.name}" if self.blurred else ""
        return [_middle(file, size) for file in chosen], f"{count} of {len(self.files)} {what}{where}"


def _holds(picture: Size, size: Size) -> bool:
    return picture[0] >= size[0] and picture[1] >= size[1]


def _middle(file: FrameFile, size: Size) -> HeldOut:
    frame, truth = file.read()
    top, left = (max(0, have - want) // 2 for have, want in zip(frame.shape[:2], size, strict=True))
    cut = np.s_[top : top + size[0], left : left + size[1]]
    return HeldOut(frame[cut], None if truth is None else truth[cut])


def find_overlaps(manifest: Manifest, frames: Sequence[HeldOut]) -> tuple[str, ...]:
    """Which frames to score on are also in the calibration set, by their pixels' fingerprints."""
    return tuple(
        f"held-out frame {number} is the calibration frame {name}"
        for number, held in enumerate(frames, start=1)
        for name in calibration_frames_like(manifest, held.frame)
    )


def calibration_frames_like(manifest: Manifest, frame: Frame) -> tuple[str, ...]:
    """Names of the manifest's frames that are the same picture, by fingerprint."""
    own = fingerprint(frame)
    return tuple(entry.name for entry in manifest.entries if same_picture(own, int(entry.fingerprint, 16)))


def refuse_overlaps(manifest: Manifest, overlaps: Sequence[str]) -> None:
    """Raise InputError naming frames that are in both sets."""
    if overlaps:
        raise InputError(
            f"{manifest.path}: {'; '.join(overlaps[:5])}. Its score would flatter the ranges: score on other frames, "
            "or say --allow-overlap and the report will tell."
        )


def digest_of_frames(frames: Sequence[HeldOut]) -> str:
    """SHA-256 of the pixels of frames and truths."""
    pictures = [picture for held in frames for picture in (held.frame, held.truth)]
    return value_digest([p is not None and [*p.shape, sha256(p.tobytes()).hexdigest()] for p in pictures])
