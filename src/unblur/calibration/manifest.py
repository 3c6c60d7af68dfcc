"""A calibration set as a file that names its frames: small, readable, and true or refused.

A frame is a crop of a picture on disk, which its SHA-256 pins, or is drawn from a seed and needs no file. Drawn pixels
may differ in a last bit between processors, so what pins those is the generator's version and a fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from unblur.calibration.fingerprint import fingerprint, same_picture
from unblur.core.artefacts import read_sealed, value_digest, write_bytes, write_sealed
from unblur.core.config import SIDE_MAX, Section, Seed, Side, check, check_pixels, read_toml
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.core.reading import read_regular
from unblur.images.contract import Frame
from unblur.images.files import Picture, decode_picture, encode_picture
from unblur.images.scenes import Split
from unblur.images.synthetic import VERSION, synthetic_pair

FORMAT = 1
FEWEST = 2
DRAWN_SPLIT: Split = "train"


class Crop(Section):
    """The part of the picture that is used, in pixels."""

    height: Side
    width: Side
    top: int = Field(0, ge=0, le=SIDE_MAX)
    left: int = Field(0, ge=0, le=SIDE_MAX)

    @model_validator(mode="after")
    def _a_frame(self) -> Crop:
        check_pixels(self.height, self.width)
        return self


class Entry(Section):
    """One frame: `path`, relative to the manifest, with its `sha256`; or `seed` with the `generator`'s version.

    scene, brightness and sharpness are what the choice was made by (unblur.calibration.choose).
    """

    crop: Crop
    scene: str
    brightness: float
    sharpness: float
    fingerprint: str = Field(pattern="^[0-9a-f]{16}$")
    path: str | None = None
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    seed: Seed | None = None
    generator: int | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Entry:
        given = tuple(value is not None for value in (self.path, self.sha256, self.seed, self.generator))
        if given not in ((True, True, False, False), (False, False, True, True)):
            raise ValueError("a frame has either path and sha256, or seed and generator")
        return self

    @property
    def name(self) -> str:
        """What a person knows it by."""
        return self.path or f"synthetic:{self.seed}"


class ManifestFile(Section):
    """The whole file. `overlaps`: frames that are also in an evaluation set, kept because a person insisted."""

    format: int
    overlaps: tuple[str, ...] = ()
    frames: tuple[Entry, ...] = ()


class Manifest:
    """A verified calibration set; going through it gives its frames, (H, W, 3) RGB uint8, one in memory at a time.

    Iterating verifies each frame again and raises InputError as `load_manifest`.
    """

    def __init__(self, path: Path, file: ManifestFile, drawn: Path | None) -> None:
        self.path, self.entries, self.overlaps = path, file.frames, file.overlaps
        self._drawn = drawn

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Frame]:
        for entry in self.entries:
            crop = entry.crop
            picture = self.picture(entry)
            yield picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every frame. Raises InputError when they differ."""
        sizes = sorted({(entry.crop.height, entry.crop.width) for entry in self.entries})
        if len(sizes) > 1:
            found = ", ".join(f"{height}x{width}" for height, width in sizes)
            raise InputError(f"{self.path} has crops of {found}; a graph has one size: collect the frames with --crop.")
        return sizes[0]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all pixels in their order, as they are on this machine, and of `overlaps`; computed once."""
        pixels = [[*frame.shape, sha256(frame.tobytes()).hexdigest()] for frame in self]
        return value_digest({"pixels": pixels, "overlaps": list(self.overlaps)})

    def picture(self, entry: Entry) -> Frame:
        """The whole picture of an entry. Raises InputError when it is not what the manifest says."""
        if entry.seed is not None:
            picture = self._draw(entry.seed, entry.crop.height, entry.crop.width)
            known = entry.generator == VERSION and same_picture(fingerprint(picture), int(entry.fingerprint, 16))
            if not known:
                raise InputError(
                    f"{self.path}: {entry.name} was drawn by generator {entry.generator} and comes out differently "
                    f"from this one ({VERSION}); collect the manifest again."
                )
            return picture
        path = self.path.parent / str(entry.path)
        try:
            data = read_regular(path)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error
        except OSError as error:
            raise InputError(
                f"{self.path}: frame {path} cannot be opened ({error.strerror}); restore it, or collect the manifest "
                "again."
            ) from error
        if sha256(data).hexdigest() != entry.sha256:
            raise InputError(
                f"{self.path}: frame {path} has changed since it was chosen; restore it, or collect the manifest again."
            )
        picture = decode_picture(data, path).frame
        crop, (height, width) = entry.crop, picture.shape[:2]
        if crop.top + crop.height > height or crop.left + crop.width > width:
            raise InputError(
                f"{self.path}: the crop of {path} ({crop.height}x{crop.width} at {crop.top}, {crop.left}) does not "
                f"fit into its {height}x{width}; collect the manifest again with a smaller --crop."
            )
        return picture

    def _draw(self, seed: int, height: int, width: int) -> Frame:
        """A drawn picture, kept on disk where there is a place: drawing takes a second, reading a millisecond."""
        path = self._drawn / f"{VERSION}-{DRAWN_SPLIT}-{seed}-{height}x{width}.png" if self._drawn else None
        if path is not None and (data := read_sealed(path)) is not None:
            return decode_picture(data, path).frame
        frame = synthetic_pair(seed, height, width, DRAWN_SPLIT)[0]
        if path is not None:
            write_sealed(path, encode_picture(path, Picture(frame), frame))
        return frame


def load_manifest(path: Path, drawn: Path | None = None, progress: Progress = SILENT) -> Manifest:
    """Read a manifest and verify every frame of it. `drawn`: a folder that keeps frames drawn from seeds.

    Raises InputError for a file that is no manifest of this version, an unknown key, fewer than two frames, a frame
    that is missing, unreadable, changed since it was chosen or smaller than its crop.
    """
    file = check(ManifestFile, read_toml(path), str(path))
    if file.format != FORMAT:
        raise InputError(f"{path} is of format {file.format}, this unblur reads {FORMAT}; collect it again.")
    if len(file.frames) < FEWEST:
        raise InputError(
            f"{path} has {len(file.frames)} frame(s), and the range of one frame is not the range of the next: collect "
            f"at least {FEWEST}, better 16 or more."
        )
    manifest = Manifest(path, file, drawn)
    for _ in progress.track(manifest, "verifying frames", len(manifest)):
        pass
    return manifest


def write_manifest(path: Path, entries: Sequence[Entry], overlaps: Sequence[str], note: str) -> None:
    """Write a manifest atomically; `note` says in a comment how the frames were chosen."""
    lines = [f"# {line}" for line in note.splitlines()]
    lines += [f"format = {FORMAT}", f"overlaps = {_toml(list(overlaps))}"]
    for entry in entries:
        values = entry.model_dump(exclude_none=True)
        lines += ["", "[[frames]]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    # Numbers, lists and text are written alike in JSON and TOML, but for DEL, which only JSON takes as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
