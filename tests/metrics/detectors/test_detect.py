"""Each detector sees its fault and where it is, and nothing on pictures that are right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from unblur.core.errors import InputError
from unblur.images.contract import Frame
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.detectors.detect import DETECTORS, Finding, detect, statistics_of

HEIGHT, WIDTH = 128, 160
Pair = tuple[Frame, Frame]


def to_bytes(values: np.ndarray) -> Frame:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def noisy(frame: Frame, seed: int = 0) -> Frame:
    return to_bytes(frame + np.random.default_rng([1, seed]).normal(0, 1, frame.shape))


def sharpened(frame: Frame) -> Frame:
    wide = frame.astype(float)
    return to_bytes(wide + 0.5 * (wide - gaussian_filter(wide, (1, 1, 0))))


def moved(frame: Frame, rows: int, columns: int) -> Frame:
    return np.pad(frame, ((rows, 0), (columns, 0), (0, 0)), mode="edge")[: frame.shape[0], : frame.shape[1]]


def block(value: int) -> Callable[[Frame], Frame]:
    def put(frame: Frame) -> Frame:
        result = frame.copy()
        result[32:80, 48:112] = value
        return result

    return put


def seam(levels: float) -> Callable[[Frame], Frame]:
    return lambda frame: to_bytes(frame + levels * (np.arange(frame.shape[1]) >= 64)[:, None])


def ringing(levels: float) -> Callable[[Frame], Frame]:
    def put(frame: Frame) -> Frame:
        wide = frame.astype(float)
        wide[-8:] += levels * (np.cos(np.pi * np.arange(8)) * np.exp(-np.arange(8)[::-1] / 4))[:, None, None]
        return to_bytes(wide)

    return put


@pytest.fixture(scope="module")
def pair() -> Pair:
    """A blurred scene with every level, and what a network that halves the blur would make of it."""
    blurred, sharp = synthetic_pair(5, HEIGHT, WIDTH, "heldout")
    return blurred, to_bytes((blurred.astype(float) + sharp) / 2)


FAULTS: dict[str, tuple[str, Callable[[Frame], Frame]]] = {
    "two channels": ("swapped channels", lambda f: f[..., ::-1].copy()),
    "all channels": ("swapped channels", lambda f: f[..., [1, 2, 0]].copy()),
    "to the right": ("shift", lambda f: moved(f, 0, 2)),
    "down": ("shift", lambda f: moved(f, 2, 0)),
    "tiles": ("seam", seam(24)),
    "limited range": ("wrong range", lambda f: to_bytes(f * 0.5 + 64)),
    "gamma": ("wrong range", lambda f: to_bytes(255 * (f / 255) ** 2.2)),
    "clipped": ("clipped range", lambda f: np.minimum(f, np.quantile(f, 0.7).astype(np.uint8))),
    "banding": ("banding", lambda f: f // 4 * 4),
    "black": ("constant block", block(0)),
    "grey": ("constant block", block(128)),
    "cast": ("colour cast", lambda f: to_bytes(f + np.array([12.0, 0, 0]))),
    "ringing": ("border ringing", ringing(60)),
}


def names(found: tuple[Finding, ...]) -> set[str]:
    return {one.detector for one in found}


def test_a_right_picture_has_no_finding(pair: Pair) -> None:
    blurred, restored = pair
    assert detect(blurred, restored) == ()
    assert detect(blurred, restored, restored) == ()
    assert detect(blurred, noisy(restored), restored) == ()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(pair: Pair, fault: str) -> None:
    blurred, restored = pair
    detector, put = FAULTS[fault]
    assert detector in names(detect(blurred, put(restored), restored)), "against the reference"
    assert detector in names(detect(blurred, put(restored))), "against the input"


@pytest.mark.parametrize(
    ("fault", "put"),
    [
        ("shift", lambda f: to_bytes((f + moved(f, 0, 1).astype(float)) / 2)),
        ("seam", seam(4)),
        ("border ringing", ringing(8)),
        ("wrong range", lambda f: to_bytes(f * 219 / 255 + 16)),
        ("banding", lambda f: f // 2 * 2),
        ("colour cast", lambda f: to_bytes(f + np.array([3.0, 0, 0]))),
        ("wrong frame", lambda f: moved(f, 3, 6)),
    ],
)
def test_against_the_reference_little_is_enough(pair: Pair, fault: str, put: Callable[[Frame], Frame]) -> None:
    """Half a pixel, a faint seam and ringing, video levels, one bit, a pale cast, the next frame of a video."""
    blurred, restored = pair
    assert fault in names(detect(blurred, put(restored), restored))


def test_the_input_and_another_frame_are_told_apart_from_the_result(pair: Pair) -> None:
    blurred, restored = pair
    other = synthetic_pair(6, HEIGHT, WIDTH, "heldout")[1]
    for reference in (None, restored):
        assert names(detect(blurred, blurred, reference)) >= {"output equals input"}
        assert names(detect(blurred, other, reference)) >= {"wrong frame"}


def test_every_detector_has_a_fault_here(pair: Pair) -> None:
    blurred, restored = pair
    seen = {detector for detector, _ in FAULTS.values()} | {"output equals input", "wrong frame"}
    assert seen == {one.name for one in DETECTORS} == set(statistics_of(blurred, restored))


def test_the_place_is_told(pair: Pair) -> None:
    blurred, restored = pair

    def found(put: Callable[[Frame], Frame], detector: str) -> Finding:
        return next(one for one in detect(blurred, put(restored), restored) if one.detector == detector)

    black = found(block(0), "constant block")
    assert (black.top, black.left, black.height, black.width) == (32, 48, 48, 64)
    assert black.value > black.threshold
    assert black.text.endswith("levels (48x64 at row 32, column 48)")
    assert (found(seam(4), "seam").left, found(seam(4), "seam").width) == (64, 1)
    below = found(ringing(8), "border ringing")
    assert (below.top, below.left, below.height, below.width) == (HEIGHT - 8, 0, 8, WIDTH)


def test_the_thresholds_are_above_all_that_was_measured_and_the_runbook_says_them() -> None:
    root = Path(__file__).parents[3]
    measured = json.loads((root / "docs/lab/detectors.json").read_text())
    runbook = (root / "compare/README.md").read_text()
    assert [row["detector"] for row in measured["thresholds"]] == [one.name for one in DETECTORS]
    for row, one in zip(measured["thresholds"], DETECTORS, strict=True):
        for form, limit in (("reference", one.against_reference), ("input", one.against_input)):
            assert row[f"against_{form}"] == limit > 1.25 * row[f"largest_clean_{form}"], (one.name, form)
        numbers = (one.against_reference, row["largest_clean_reference"], one.against_input, row["largest_clean_input"])
        cells = " | ".join(f"{number:.3g}" for number in numbers)
        assert re.search(rf"(?m)^\| {one.name} \| .* \| {re.escape(cells)} \|$", runbook), one.name
    assert [panel["false_alarms"] for panel in measured["clean"].values()] == [[]] * len(measured["clean"])
    assert measured["cost_720p"]["share"] < 0.05


SIDES = st.integers(16, 90)
SEEDS = st.integers(0, 2**16)


@st.composite
def plain_frames(draw: st.DrawFn) -> Frame:
    """Black, dim, flat, grey, coloured; smooth or of noise alone; from 16x16 up."""
    rng = np.random.default_rng(draw(SEEDS))
    height, width = draw(SIDES), draw(SIDES)
    level, contrast = draw(st.sampled_from([0, 3, 40, 128, 255])), draw(st.sampled_from([0, 2, 10, 60]))
    texture = gaussian_filter(rng.normal(size=(height, width, 3)), (draw(st.sampled_from([0, 1, 4])),) * 2 + (0,))
    texture /= np.abs(texture).max()
    if draw(st.booleans()):
        texture[:] = texture[..., :1]  # grey
    return to_bytes(level + contrast * texture)


@given(plain_frames(), SEEDS)
@settings(max_examples=150, deadline=None)
def test_plain_pictures_with_noise_or_sharpened_raise_no_alarm(frame: Frame, seed: int) -> None:
    for clean in (noisy(frame, seed), sharpened(frame)):
        assert detect(frame, clean) == ()
        assert detect(frame, noisy(clean, seed + 1), clean) == ()


def test_a_picture_of_one_pixel_raises_no_alarm() -> None:
    one = np.full((1, 1, 3), 100, np.uint8)
    assert detect(one, one + np.uint8(9)) == ()


def test_black_that_stays_black_is_right() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    assert detect(black, black) == detect(black, black, black) == ()
    assert names(detect(black, black + np.uint8(60), black)) >= {"wrong range"}


def test_other_shapes_and_types_are_refused(pair: Pair) -> None:
    blurred, restored = pair
    for wrong in (restored[:-1], restored[..., 0], restored.astype(np.float32)):
        with pytest.raises(InputError, match="of one size, got"):
            detect(blurred, wrong)
