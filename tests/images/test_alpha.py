"""What hides under full transparency does not reach the network, and is not lost."""

from __future__ import annotations

import numpy as np

from unblur.images.alpha import fill_hidden, put_back_hidden


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_hidden_pixels_take_the_nearest_visible_colour_whatever_hides_there() -> None:
    frame, alpha = noise(5, 6, 3), np.full((5, 6), 9, np.uint8)
    alpha[:, 3:] = 0
    filled = fill_hidden(frame, alpha)
    assert np.array_equal(filled[:, :3], frame[:, :3])
    assert np.array_equal(filled[:, 3:], np.repeat(frame[:, 2:3], 3, axis=1))
    other = np.where((alpha == 0)[..., None], noise(5, 6, 3, seed=1), frame)
    assert np.array_equal(fill_hidden(other, alpha), filled)


def test_hidden_pixels_come_back_and_the_others_stay_restored() -> None:
    frame, restored, alpha = noise(4, 4, 3), noise(4, 4, 3, seed=1), noise(4, 4, seed=2) & 1
    back = put_back_hidden(restored, frame, alpha)
    assert np.array_equal(back[alpha == 0], frame[alpha == 0])
    assert np.array_equal(back[alpha == 1], restored[alpha == 1])


def test_nothing_to_fill_or_nothing_to_fill_it_with() -> None:
    frame = noise(3, 3, 3)
    for alpha in (None, np.full((3, 3), 1, np.uint8), np.zeros((3, 3), np.uint8)):
        assert fill_hidden(frame, alpha) is frame
    assert put_back_hidden(frame, frame, None) is frame
