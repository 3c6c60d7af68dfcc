"""Where to look: crops at the sharpest detail and at the largest difference, and a wider view, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unblur.compare.parts import Crop, WorstFrame
from unblur.compare.report import Strip, View
from unblur.images.contract import Frame
from unblur.metrics.decibels import decibels_text

CROP = 160
"""Height and width of a crop in pixels, less where the frame is smaller."""

VIEW = (360, 640)
"""Height and width of a view."""

VIEW_QUALITY = 90
"""Of its JPEG, without subsampling of colour: a quarter of the bytes of PNG, and no block that an eye would find."""

AMPLIFICATION_MAX = 64

SEEN = 64
"""A byte of a difference picture below this is as good as black to an eye."""

SEEN_SHARE = 1e-3
"""A difference picture with fewer bytes than this share to be seen is one that shows nothing."""


def strips_of(
    name: str,
    blurred: Frame,
    reference: tuple[str, Frame],
    candidates: Mapping[str, Frame],
    truth: Frame | None,
    notes: Mapping[str, str],
) -> list[Strip]:
    """Strips of one frame, all of (H, W, 3) RGB uint8: the sharpest detail, and where a candidate is furthest off.

    `reference`: its name and frame. `notes`: engine name to the text under its picture. The second strip is left out
    when nobody would see a difference of any candidate to the reference, or when it would show the same place.
    """
    sharpest = truth if truth is not None else reference[1]
    detail = best_window(gradient(sharpest))
    source = "truth" if truth is not None else "reference"
    places = [(detail, f"the sharpest detail of the {source}")]
    if candidates:
        difference = np.max([_difference(frame, reference[1]) for frame in candidates.values()], axis=0)
        place = best_window(difference)
        if difference.any() and place != detail:
            places.append((place, "the largest difference between a candidate and the reference"))
    size = min(CROP, blurred.shape[0]), min(CROP, blurred.shape[1])
    pictures = [
        ("blurred", blurred),
        reference,
        *candidates.items(),
        *([("truth", truth)] if truth is not None else []),
    ]
    strips = [_strip(name, place, size, why, pictures, reference, candidates, notes) for place, why in places]
    strips[1:] = [strip for strip in strips[1:] if strip.differences]
    strips[0] = strips[0].model_copy(update={"view": _view(sharpest, pictures, notes)})
    return strips


def worst_strip(
    worst: WorstFrame, blurred: Frame, reference: str, restored: Mapping[str, Frame], truth: Frame | None
) -> Strip | None:
    """Where the engine of `worst` is furthest from the reference on its frame; None where nobody would see it there.

    `restored`: what each engine made of the frame, (H, W, 3) RGB uint8 as `blurred` and `truth`.
    """
    base, own = restored[reference], restored[worst.engine]
    size = min(CROP, blurred.shape[0]), min(CROP, blurred.shape[1])
    pictures = [("blurred", blurred), (reference, base), (worst.engine, own)]
    pictures += [("truth", truth)] if truth is not None else []
    texts = {
        name: f"{decibels_text(value)} dB"
        for name, value in ((worst.engine, worst.psnr_db), (reference, worst.reference_psnr_db))
        if value is not None
    }
    reason = f"the largest difference of {worst.engine}, on one of its worst pictures"
    place = best_window(_difference(own, base))
    strip = _strip(worst.frame, place, size, reason, pictures, (reference, base), {worst.engine: own}, texts)
    return strip if strip.differences else None


def gradient(frame: Frame) -> NDArray[np.float64]:
    """Magnitude of the forward differences of luminance, (H, W)."""
    grey = frame.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    down = np.diff(grey, axis=0, append=grey[-1:])
    right = np.diff(grey, axis=1, append=grey[:, -1:])
    magnitude: NDArray[np.float64] = np.hypot(down, right)
    return magnitude


def best_window(values: NDArray[np.float64], size: tuple[int, int] = (CROP, CROP)) -> tuple[int, int]:
    """(top, left) of the window of this (height, width) with the largest sum, the first of equals."""
    height, width = min(size[0], values.shape[0]), min(size[1], values.shape[1])
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    sums[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    window = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    # Sums of equal windows differ by rounding; the first place within it keeps the choice stable.
    first = int(np.argmax(window >= window.max() - 1e-9 * max(1.0, float(sums[-1, -1]))))
    return first // window.shape[1], first % window.shape[1]


def png_uri(frame: Frame) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def jpeg_uri(frame: Frame) -> str:
    """A picture as a data URI, compressed with loss."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=VIEW_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def amplification(largest: int) -> int:
    """The power of two that brings the largest difference of bytes near 255, at most AMPLIFICATION_MAX."""
    factor = 1
    while largest and 2 * factor * largest <= 255 and 2 * factor <= AMPLIFICATION_MAX:
        factor *= 2
    return factor


def _difference(frame: Frame, reference: Frame) -> NDArray[np.float64]:
    difference: NDArray[np.float64] = np.abs(frame.astype(np.float64) - reference.astype(np.float64)).sum(axis=2)
    return difference


def _view(sharpest: Frame, pictures: Sequence[tuple[str, Frame]], notes: Mapping[str, str]) -> View:
    top, left = best_window(gradient(sharpest), VIEW)
    height, width = min(VIEW[0], sharpest.shape[0]), min(VIEW[1], sharpest.shape[1])
    window = np.s_[top : top + height, left : left + width]
    crops = tuple(
        Crop(caption=caption, uri=jpeg_uri(np.ascontiguousarray(frame[window])), note=notes.get(caption, ""))
        for caption, frame in pictures
    )
    return View(top=top, left=left, height=height, width=width, pictures=crops)


def _strip(
    name: str,
    place: tuple[int, int],
    size: tuple[int, int],
    reason: str,
    pictures: Sequence[tuple[str, Frame]],
    reference: tuple[str, Frame],
    candidates: Mapping[str, Frame],
    notes: Mapping[str, str],
) -> Strip:
    window = np.s_[place[0] : place[0] + size[0], place[1] : place[1] + size[1]]
    wide = {
        engine: np.abs(frame[window].astype(np.int16) - reference[1][window].astype(np.int16))
        for engine, frame in candidates.items()
    }
    same = tuple(engine for engine, difference in wide.items() if not difference.any())
    factor = amplification(max((int(d.max()) for d in wide.values()), default=0))
    differences, faint = [], []
    for engine, difference in wide.items():
        if engine in same:
            continue
        note = f"largest {int(difference.max())} of 255, {np.count_nonzero(difference)} of {difference.size} bytes"
        shown = np.clip(difference * factor, 0, 255).astype(np.uint8)
        if np.count_nonzero(shown >= SEEN) < SEEN_SHARE * shown.size:
            faint.append(f"{engine}: {note}")
        else:
            differences.append(Crop(caption=engine, uri=png_uri(shown), note=note))
    return Strip(
        frame=name,
        reason=reason,
        top=place[0],
        left=place[1],
        height=size[0],
        width=size[1],
        amplification=factor,
        crops=tuple(
            Crop(caption=caption, uri=png_uri(frame[window]), note=notes.get(caption, ""))
            for caption, frame in pictures
            if caption not in same
        ),
        differences=tuple(differences),
        same=same,
        faint=tuple(faint),
    )
