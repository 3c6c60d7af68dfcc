"""The synthetic source: same seed, same pixels; a truth that is sharp and in place; two splits that share nothing."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from unblur.core.errors import InputError
from unblur.images.motion import MotionPath, camera_path
from unblur.images.scenes import PHOTOGRAPHS, blob, dead_leaves, photograph
from unblur.images.synthetic import synthetic_pair

DIGEST = """
import hashlib
from unblur.images.synthetic import synthetic_pair
print(hashlib.sha256(b"".join(frame.tobytes() for s in (3, 4) for frame in synthetic_pair(s, 64, 80))).hexdigest())
"""


def test_the_same_seed_gives_the_same_pixels_in_another_process() -> None:
    here = hashlib.sha256(b"".join(f.tobytes() for s in (3, 4) for f in synthetic_pair(s, 64, 80))).hexdigest()
    run = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == here


def test_frames_are_rgb_bytes_of_the_size_asked_for_and_seeds_and_splits_differ() -> None:
    blurred, sharp = synthetic_pair(0, 48, 70)
    assert blurred.shape == sharp.shape == (48, 70, 3)
    assert blurred.dtype == sharp.dtype == np.uint8
    others = [synthetic_pair(1, 48, 70)[1], synthetic_pair(0, 48, 70, "heldout")[1]]
    assert all((sharp != other).mean() > 0.5 for other in others)


def test_the_blurred_frame_is_smoother_than_the_truth_and_not_shifted_against_it() -> None:
    steeper, shifts = 0, []
    for seed in range(8):
        blurred, sharp = (frame.astype(np.float64).mean(-1) for frame in synthetic_pair(seed, 96, 96))
        steeper += np.abs(np.diff(sharp)).sum() + np.abs(np.diff(sharp, axis=0)).sum() > (
            np.abs(np.diff(blurred)).sum() + np.abs(np.diff(blurred, axis=0)).sum()
        )
        spectrum = np.fft.fft2(sharp - sharp.mean()) * np.fft.fft2(blurred - blurred.mean()).conj()
        peak = np.unravel_index(np.fft.ifft2(spectrum).real.argmax(), sharp.shape)
        shifts.append([(p + 48) % 96 - 48 for p in peak])
    assert steeper >= 7  # a still camera leaves nothing but noise in one or the other
    # The truth is the middle of the exposure, so on the average there is no shift; observed mean at most 0.8 px.
    assert np.abs(np.mean(shifts, axis=0)).max() < 2.5


def test_a_layer_that_does_not_move_is_not_touched() -> None:
    still = MotionPath(np.zeros((3, 2)), np.zeros(3), np.zeros(3), np.zeros(2))
    matrix, shift = still.at(0.37)
    np.testing.assert_array_equal(matrix, np.eye(2))
    np.testing.assert_array_equal(shift, [0, 0])
    assert still.reach(64, 64) == 0


def test_every_path_passes_through_rest_at_the_middle_of_the_exposure() -> None:
    path = camera_path(np.random.default_rng(1), 128, 128, 16.0)
    matrix, shift = path.at(0.0)
    np.testing.assert_allclose(matrix, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(shift, [0, 0], atol=1e-12)
    assert path.reach(128, 128) > 0.5


def test_the_photographs_are_inside_the_wheel_and_no_photograph_is_in_both_splits() -> None:
    for names in PHOTOGRAPHS.values():
        for name in names:
            assert photograph(name).shape[2] == 3
    assert not set(PHOTOGRAPHS["train"]) & set(PHOTOGRAPHS["heldout"])


def test_generated_scenes_stay_in_range_and_are_busy() -> None:
    leaves = dead_leaves(np.random.default_rng(0), 60, 50)
    assert leaves.shape == (60, 50, 3)
    assert leaves.min() >= 0
    assert leaves.max() <= 1
    assert leaves.std() > 0.05
    cover = blob(np.random.default_rng(0), 60, 50)
    assert 0 <= cover.min() <= cover.max() <= 1


@pytest.mark.parametrize(("seed", "height", "width", "split"), [(-1, 64, 64, "train"), (0, 8, 64, "train"),
                                                                (0, 64, 64, "test")])  # fmt: skip
def test_what_cannot_be_drawn_is_refused(seed: int, height: int, width: int, split: str) -> None:
    with pytest.raises(InputError):
        synthetic_pair(seed, height, width, split)  # type: ignore[arg-type]
