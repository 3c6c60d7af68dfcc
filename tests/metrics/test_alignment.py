"""RealBlur: a known movement is undone, only what the mask covers counts, and what cannot be aligned is said."""

import importlib.util

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from skimage.metrics import structural_similarity

from unblur.core.errors import InputError, MissingRuntimeError
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.alignment import _within, aligned_quality, can_align
from unblur.metrics.quality import psnr_db, ssim_per_channel

SHARP = synthetic_pair(3, 96, 128, "heldout")[1]


def moved(picture: np.ndarray, rows: float, columns: float, gain: float) -> np.ndarray:
    """The picture shifted by a part of a pixel and darkened; mirrored where it comes in from outside."""
    grid = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(float) + np.array([rows, columns])[:, None, None]
    channels = [map_coordinates(picture[..., c].astype(float), grid, order=3, mode="mirror") for c in range(3)]
    return np.clip(np.stack(channels, -1) * gain + 0.5, 0, 255).astype(np.uint8)


def test_a_movement_and_a_gain_are_undone() -> None:
    pytest.importorskip("cv2", reason="needs the package opencv-python-headless")
    result = moved(SHARP, 2.5, -1.25, 0.9)
    decibels, ssim = aligned_quality(result, SHARP)
    assert psnr_db(result, SHARP, peak=255) < 25
    assert ssim_per_channel(result, SHARP) < 0.9
    # Observed 41.1 dB and 0.986, from 23.0 and 0.507: what is left is two interpolations and the rounding to bytes.
    assert decibels > 38
    assert ssim > 0.97


def test_what_is_not_moved_is_as_without_alignment() -> None:
    pytest.importorskip("cv2", reason="needs the package opencv-python-headless")
    noisy = np.clip(SHARP + np.random.default_rng(0).normal(0, 8, SHARP.shape), 0, 255).astype(np.uint8)
    decibels, ssim = aligned_quality(noisy, SHARP)
    # Observed 30.07 dB for 30.05 and 0.775 for 0.771: the homography is not quite the identity, and smooths a little.
    assert decibels == pytest.approx(psnr_db(noisy, SHARP, peak=255), abs=0.2)
    assert ssim == pytest.approx(ssim_per_channel(noisy, SHARP), abs=0.02)


def test_only_what_is_within_the_mask_counts() -> None:
    """By hand: half of the picture is out, and there everything is wrong."""
    rng = np.random.default_rng(1)
    sharp, result = (rng.random((40, 40, 3)).astype(np.float32) for _ in range(2))
    mask = np.zeros_like(sharp)
    mask[:, :20] = 1
    decibels, ssim = _within(result * mask, sharp * mask, mask)
    assert decibels == pytest.approx(-10 * np.log10(np.mean((sharp[:, :20] - result[:, :20]) ** 2)), abs=1e-4)
    _, whole = structural_similarity(sharp * mask, result * mask, data_range=1.0, gaussian_weights=True, sigma=1.5,
                                     use_sample_covariance=False, channel_axis=-1, full=True)  # fmt: skip
    assert ssim == pytest.approx(np.mean(whole[5:-5, 5:20]), abs=1e-5)
    assert _within(sharp, sharp, np.ones_like(mask))[0] == np.inf
    with pytest.raises(InputError, match="out of its truth"):
        _within(sharp, sharp, np.zeros_like(mask))


def test_pictures_without_detail_are_told() -> None:
    pytest.importorskip("cv2", reason="needs the package opencv-python-headless")
    for result in (np.zeros_like(SHARP), np.full_like(SHARP, 128)):
        with pytest.raises(InputError, match="cannot be aligned"):
            aligned_quality(result, SHARP)


def test_without_opencv_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    assert can_align() is (importlib.util.find_spec("cv2") is not None)
    monkeypatch.setattr("unblur.metrics.alignment.importlib.import_module", missing)
    with pytest.raises(MissingRuntimeError, match=r"needs OpenCV .*\.\[realblur\]"):
        aligned_quality(SHARP, SHARP)
