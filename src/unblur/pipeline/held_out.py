"""Frames that algorithms are scored on, held apart from those that calibration saw."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from unblur.calibration.fingerprint import fingerprint, same_picture
from unblur.calibration.manifest import Manifest
from unblur.calibration.score import HeldOut
from unblur.core.artefacts import value_digest
from unblur.core.errors import InputError
from unblur.images.contract import Frame
from unblur.images.synthetic import synthetic_pair
from unblur.pipeline.job import Size

DRAWN = 4
"""Frames that algorithms are scored on where nobody names others."""


def drawn_held_out(size: Size, count: int = DRAWN, seed: int = 0) -> list[HeldOut]:
    """Pairs drawn from pictures and a random stream that calibration frames are never drawn from."""
    return [HeldOut(*synthetic_pair(seed + k, *size, "heldout")) for k in range(count)]


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
