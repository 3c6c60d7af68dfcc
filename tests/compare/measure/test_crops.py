"""Where the report looks, and what it shows there."""

import base64
import io

import numpy as np
from PIL import Image

from unblur.compare.measure.crops import CROP, VIEW, amplification, best_window, gradient, strips_of
from unblur.compare.measure.latency import fit_frame, most_frequent


def _decode(uri: str) -> np.ndarray:
    head, data = uri.split(",", 1)
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))))


def test_the_window_with_the_largest_sum() -> None:
    values = np.zeros((300, 400))
    values[250, 390] = 1
    values[20:30, 30:40] = 0.5
    top, left = best_window(values)
    assert top <= 20
    assert left <= 30
    brute = max(
        ((values[i : i + CROP, j : j + CROP].sum(), -i, -j) for i in range(0, 141, 5) for j in range(0, 241, 5)),
    )
    assert values[top : top + CROP, left : left + CROP].sum() >= brute[0]


def test_frames_smaller_than_a_crop_are_shown_whole() -> None:
    assert best_window(np.random.default_rng(0).random((40, 60))) == (0, 0)
    assert best_window(np.zeros((400, 400))) == (0, 0)


def test_gradient_finds_edges_of_every_direction() -> None:
    frame = np.zeros((6, 6, 3), np.uint8)
    frame[3:, 2:] = 255
    found = gradient(frame) > 0
    assert found[2, 2:].all()
    assert found[3:, 1].all()
    assert found.sum() == 7


def test_strips_show_blurred_reference_candidates_truth_in_order() -> None:
    rng = np.random.default_rng(1)
    reference = rng.integers(40, 200, (200, 300, 3), dtype=np.uint8)
    candidate = reference.copy()
    candidate[180:190, 280:290] += 3
    truth = np.zeros_like(reference)
    truth[:20, :20] = rng.integers(0, 255, (20, 20, 3))
    strips = strips_of("f.png", reference, ("torch", reference), {"half": candidate}, truth, {"half": "30 dB"})
    assert [strip.reason for strip in strips] == [
        "the sharpest detail of the truth",
        "the largest difference between a candidate and the reference",
    ]
    detail, difference = strips
    assert (detail.top, detail.left, detail.same, detail.differences) == (0, 0, ("half",), ())
    assert [crop.caption for crop in detail.crops] == ["blurred", "torch", "truth"], "the same bytes are shown once"
    assert [crop.caption for crop in difference.crops] == ["blurred", "torch", "half", "truth"]
    assert difference.crops[2].note == "30 dB"
    assert (difference.same, difference.view) == ((), None)
    window = np.s_[difference.top : difference.top + CROP, difference.left : difference.left + CROP]
    assert np.array_equal(_decode(difference.crops[2].uri), candidate[window])
    assert difference.amplification == 64
    assert difference.differences[0].note == "largest 3 of 255, 300 of 76800 bytes"
    shown = _decode(difference.differences[0].uri)
    assert set(np.unique(shown)) == {0, 3 * 64}
    assert (shown > 0).sum() == 300


def test_a_view_is_wider_and_shows_every_engine() -> None:
    rng = np.random.default_rng(2)
    truth = np.zeros((400, 700, 3), np.uint8)
    truth[380:, 680:] = rng.integers(0, 255, (20, 20, 3))
    blurred = np.full_like(truth, 128)
    (strip,) = strips_of("f.png", blurred, ("torch", truth), {"same": truth}, truth, {"torch": "20 dB"})
    view = strip.view
    assert view is not None
    assert (view.top, view.left, view.height, view.width) == (40, 60, *VIEW)
    assert [(crop.caption, crop.note) for crop in view.pictures] == [
        ("blurred", ""), ("torch", "20 dB"), ("same", ""), ("truth", ""),
    ]  # fmt: skip
    assert np.abs(_decode(view.pictures[0].uri).astype(int) - 128).max() <= 1
    assert _decode(view.pictures[1].uri).shape == (*VIEW, 3)


def test_a_difference_that_nobody_sees_is_told_and_not_shown() -> None:
    frame = np.random.default_rng(1).integers(60, 200, (160, 160, 3), dtype=np.uint8)
    loud, faint, rare = frame + np.uint8(40), frame.copy(), frame.copy()
    faint[:, :, 0] += 1  # times 4 is 4 of 255: black
    rare[0, :20, 0] += 40  # bright, but 20 bytes of 76800
    engines = {"loud": loud, "faint": faint, "rare": rare}
    (strip,) = strips_of("f.png", frame, ("torch", frame), engines, None, {})
    assert [crop.caption for crop in strip.differences] == ["loud"]
    assert strip.faint == (
        "faint: largest 1 of 255, 25600 of 76800 bytes",
        "rare: largest 40 of 255, 20 of 76800 bytes",
    )


def test_a_place_where_the_largest_difference_cannot_be_seen_is_not_shown() -> None:
    reference = np.random.default_rng(1).integers(40, 200, (400, 400, 3), dtype=np.uint8)
    reference[200:] = 120
    once = reference.copy()
    once[390, 390, 0] += 1
    strips = strips_of("f.png", reference, ("torch", reference), {"once": once}, None, {})
    assert [strip.reason for strip in strips] == ["the sharpest detail of the reference"]
    once[300:340, 300:340] += 1
    assert len(strips_of("f.png", reference, ("torch", reference), {"once": once}, None, {})) == 2


def test_only_one_strip_when_no_byte_differs() -> None:
    frame = np.random.default_rng(1).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    strips = strips_of("f.png", frame, ("torch", frame), {"same": frame.copy()}, None, {})
    assert len(strips) == 1
    assert strips[0].reason == "the sharpest detail of the reference"
    assert (strips[0].same, strips[0].differences, strips[0].faint) == (("same",), (), ())


def test_amplification_is_a_power_of_two_that_does_not_clip() -> None:
    assert [amplification(largest) for largest in (0, 1, 3, 4, 60, 127, 128, 255)] == [1, 64, 64, 32, 4, 2, 1, 1]


def test_frames_are_cut_or_mirrored_to_the_size_of_the_latency() -> None:
    frame = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    assert np.array_equal(fit_frame(frame, 4, 4), frame[1:5, 2:6])
    assert fit_frame(frame, 10, 3).shape == (10, 3, 3)
    assert np.array_equal(fit_frame(frame, 12, 8)[6:], frame[::-1])


def test_the_commonest_size() -> None:
    assert most_frequent([(2, 2), (4, 4), (4, 4)]) == (4, 4)
    assert most_frequent([(2, 2), (4, 4)]) == (2, 2)
