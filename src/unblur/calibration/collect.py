"""From sources to a manifest: find candidates, refuse those of evaluation sets, choose, pin."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from unblur.calibration.choose import Measured, choose, measure
from unblur.calibration.fingerprint import fingerprint, same_picture
from unblur.calibration.manifest import DRAWN_SPLIT, FEWEST, Crop, Entry, load_manifest, write_manifest
from unblur.core.bounds import COUNT_MAX, SEED_MAX
from unblur.core.config import check
from unblur.core.console import SILENT, Progress, printable
from unblur.core.errors import InputError
from unblur.core.markdown import encodable
from unblur.images.contract import Frame
from unblur.images.files import decode_picture, read_bytes, read_picture
from unblur.images.listing import KINDS, list_folder
from unblur.images.pairs import LAYOUTS, find_pairs
from unblur.images.synthetic import VERSION, synthetic_pair

DRAWN_FOR_EACH = 4
"""Candidates that a synthetic source draws for each frame that is asked for."""

MARK = "# Written by `unblur collect`."
"""How a manifest begins."""

RULE = """Written by `unblur collect`. Chosen by scene, then farthest first in the ranks of brightness and sharpness
(src/unblur/calibration/choose.py). Paths are relative to this file."""


@dataclass(frozen=True)
class Candidate:
    """A picture that may be chosen: a file, or a seed."""

    scene: str
    path: Path | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        return str(self.path) if self.path else f"synthetic:{self.seed}"

    def read(self, height: int, width: int) -> tuple[Frame, str | None]:
        """The picture, and the SHA-256 of the bytes that it was decoded from."""
        if self.path is not None:
            data = read_bytes(self.path)
            return decode_picture(data, self.path).frame, sha256(data).hexdigest()
        assert self.seed is not None
        return synthetic_pair(self.seed, height, width, DRAWN_SPLIT)[0], None


def collect(
    sources: Sequence[str],
    count: int,
    crop: tuple[int, int],
    output: Path,
    *,
    not_in: Sequence[Path] = (),
    allow_overlap: bool = False,
    progress: Progress = SILENT,
) -> tuple[list[Entry], tuple[str, ...]]:
    """Choose `count` frames and write the manifest; gives its entries and the overlaps that were allowed.

    sources: a folder of pictures (each sub-folder is a scene), "gopro:FOLDER", "hide:FOLDER", "realblur:FOLDER" for the
    blurred pictures of a data set's training part, "synthetic:SEED" for drawn ones. crop: (height, width); where it
    lies in a picture follows from the picture's SHA-256. not_in: folders and manifests of evaluation.

    Raises InputError for a crop that is no frame, a source that is none, too few pictures, one smaller than the crop,
    and for a picture that is also in `not_in`, by its pixels' fingerprint, unless `allow_overlap`: then the manifest
    says which.
    """
    if count < FEWEST:
        raise InputError(f"--count {count}: the range of one frame is not the range of the next; take 16 or more.")
    if count > COUNT_MAX:
        raise InputError(f"--count {count}: nobody calibrates on more than {COUNT_MAX} frames; 16 to 64 are enough.")
    height, width = crop
    check(Crop, {"height": height, "width": width}, "--crop")
    candidates = [found for source in sources for found in _find(source, count, progress)]
    for candidate in candidates:
        if candidate.path is not None:
            _demand_text(_relative(candidate.path, output))
    known = [entry for place in not_in for entry in _fingerprints(place, progress)]
    entries, measured, overlaps = [], [], []
    for candidate in progress.track(candidates, "measuring", len(candidates)):
        entry = _pin(candidate, height, width, output)
        same = [name for name, bits in known if same_picture(bits, int(entry.fingerprint, 16))]
        overlaps.append(f"{entry.name} is {same[0]}" if same else "")
        entries.append(entry)
        measured.append(Measured(entry.name, entry.scene, entry.brightness, entry.sharpness))
    if any(overlaps) and not allow_overlap:
        shown = [text for text in overlaps if text]
        raise InputError(
            f"{len(shown)} picture(s) are also in the evaluation set: {'; '.join(shown[:5])}. What is measured there "
            "would flatter the calibration: leave them out, or say --allow-overlap and every report will tell."
        )
    chosen = choose(measured, count)
    told = tuple(overlaps[k] for k in chosen if overlaps[k])
    kept = [entries[k] for k in chosen]
    write_manifest(output, kept, told, RULE)
    return kept, told


def _find(source: str, count: int, progress: Progress) -> Iterator[Candidate]:
    kind, colon, rest = source.partition(":")
    if kind == "synthetic" and colon:
        if not re.fullmatch(r"\d{1,19}", rest) or int(rest) + DRAWN_FOR_EACH * count > SEED_MAX:
            raise InputError(
                f"Source {source[:40]!r}: write synthetic:SEED with a whole number below 2**63, such as synthetic:0."
            )
        # A drawn frame is a scene of its own: seeds have nothing in common.
        yield from (Candidate(f"seed {int(rest) + k}", seed=int(rest) + k) for k in range(DRAWN_FOR_EACH * count))
    elif kind in LAYOUTS and colon:
        folder = Path(rest)
        paths = [pair.blurred for pair in find_pairs(folder, kind)]
        # gopro keeps the blurred pictures of a sequence in a folder `blur` of it.
        yield from (Candidate((p.parent.parent if p.parent.name == "blur" else p.parent).name, p) for p in paths)
    else:
        folder = Path(source)
        if not folder.is_dir():
            known = ", ".join(f"{layout}:FOLDER" for layout in LAYOUTS)
            raise InputError(f"Source {source!r} is no folder; give a folder of pictures, {known} or synthetic:SEED.")
        found = _list(folder, progress)
        if not found:
            raise InputError(f"No picture in {folder}: no {KINDS} that is not hidden.")
        yield from (Candidate(path.parent.relative_to(folder.parent).as_posix(), path) for path in found)


def _list(folder: Path, progress: Progress) -> tuple[Path, ...]:
    listing = list_folder(folder)
    for sentence in listing.passed_over:
        progress.note(f"not looked at: {sentence}")
    return listing.pictures


def _pin(candidate: Candidate, height: int, width: int, output: Path) -> Entry:
    picture, digest = candidate.read(height, width)
    have_height, have_width = picture.shape[:2]
    if have_height < height or have_width < width:
        raise InputError(
            f"{candidate.name} is {have_height}x{have_width}, smaller than the crop {height}x{width}; "
            "leave it out, or lower --crop."
        )
    place = int(digest[:16], 16) if digest else 0
    top, left = place % (have_height - height + 1), (place >> 32) % (have_width - width + 1)
    brightness, sharpness = measure(picture[top : top + height, left : left + width])
    return Entry(
        crop=Crop(height=height, width=width, top=top, left=left),
        scene=candidate.scene,
        brightness=round(brightness, 6),
        sharpness=round(sharpness, 6),
        fingerprint=f"{fingerprint(picture):016x}",
        path=_relative(candidate.path, output) if candidate.path else None,
        sha256=digest,
        seed=candidate.seed,
        generator=None if candidate.seed is None else VERSION,
    )


def _demand_text(name: str) -> None:
    """A manifest is text: said before the measuring, not after it."""
    if encodable(name) != name:
        raise InputError(
            f"A manifest cannot name {printable(name)}: it holds bytes that are no UTF-8. Rename it, or leave it out."
        )


def _relative(path: Path, output: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), output.resolve().parent)).as_posix()
    except ValueError as error:  # another drive of Windows
        raise InputError(
            f"{path} and {output} lie on different drives; put the manifest on that of the frames."
        ) from error


def _fingerprints(place: Path, progress: Progress) -> Iterator[tuple[str, int]]:
    """Every picture of a folder or manifest of evaluation, with its fingerprint."""
    if place.is_dir():
        found = _list(place, progress)
        if not found:
            raise InputError(f"No picture in {place}, so nothing could be held against it; name the evaluation set.")
        # Named below the folder's own name: the manifest tells it, and shall name no machine's paths.
        names = [path.relative_to(place.parent).as_posix() for path in found]
        yield from ((name, fingerprint(read_picture(path).frame)) for name, path in zip(names, found, strict=True))
        return
    manifest = load_manifest(place)
    yield from ((f"{entry.name} of {place.name}", int(entry.fingerprint, 16)) for entry in manifest.entries)
