"""Blurred and sharp pairs from nothing but a seed, for training, calibration and demonstration without a data set.

As GoPro was made (Nah, Kim, Lee, CVPR 2017): the moments of one exposure are averaged and the middle one is the truth.
Here the moments come from a still scene under a smooth camera path, with things in it that move by themselves.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, spline_filter

from unblur.core.errors import InputError
from unblur.images.contract import Frame
from unblur.images.motion import MotionPath, camera_path, shift_modes
from unblur.images.scenes import Split, blob, scene

LONGEST_SHIFT_PX = 14.0
"""GoPro's exposures are 7 to 13 frames of a 240 Hz camera; most of their blur is shorter than this at 720p."""

MOST_MOMENTS = 33
STREAMS: dict[Split, int] = {"train": 0, "heldout": 1}
VERSION = 1
"""Raised whenever the same seed would give other pixels, so that stored pairs are not mistaken for fresh ones."""


def synthetic_pair(
    seed: int, height: int, width: int, split: Split = "train", largest_scale: float = 1.0
) -> tuple[Frame, Frame]:
    """(blurred, sharp), each (height, width, 3) RGB uint8. The same arguments give the same pixels.

    `largest_scale` above 1 magnifies some of the photographs, whose truth is then soft.

    "heldout" draws from other photographs and another random stream than "train".
    Raises InputError for a size below 16 pixels, a negative seed or an unknown split.
    """
    if height < 16 or width < 16 or seed < 0:
        raise InputError(f"A synthetic pair needs seed >= 0 and sides >= 16, got seed {seed}, {height}x{width}.")
    if split not in get_args(Split):
        raise InputError(f"Unknown split {split!r}; choose train or heldout.")
    rng = np.random.default_rng([STREAMS[split], seed])
    gamma = rng.uniform(1.0, 2.4)  # 1: GoPro's folder `blur`; 2.2: its `blur_gamma`; cameras lie about and between
    paths, layers = _layers(rng, height, width, split, gamma, largest_scale)
    reach = max(path.reach(height, width) for path in paths)
    moments = int(np.clip(2 * np.ceil(reach / 1.3) + 1, 7, MOST_MOMENTS))  # steps of about 1.3 px at most, 0 among them
    times = np.linspace(-0.5, 0.5, moments)
    total = np.zeros((height, width, 3), np.float32)
    for t in times:
        total += _moment(paths, layers, float(t), height, width)
    sharp = _moment(paths, layers, 0.0, height, width)
    blurred = (total / np.float32(moments)) ** np.float32(1 / gamma)
    return _to_bytes(blurred + _noise(rng, blurred)), _to_bytes(sharp ** np.float32(1 / gamma))


def _layers(
    rng: Generator, height: int, width: int, split: Split, gamma: float, largest_scale: float
) -> tuple[list[MotionPath], list[tuple[NDArray[np.float32], NDArray[np.float32]]]]:
    """Paths and layers, back to front. A layer is its pixels (C, H+2m, W+2m) in linear light and their spline
    coefficients; C is 3, or 4 with premultiplied coverage last."""
    margin = int(2 * LONGEST_SHIFT_PX)
    rows, columns = height + 2 * margin, width + 2 * margin
    camera = camera_path(rng, height, width, LONGEST_SHIFT_PX)
    paths, layers = [camera], [scene(rng, rows, columns, split, largest_scale) ** np.float32(gamma)]
    for _ in range(int(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1]))):
        cover = blob(rng, rows, columns)[..., None]
        pixels = scene(rng, rows, columns, split, largest_scale) ** np.float32(gamma)
        layers.append(np.concatenate([pixels * cover, cover], axis=-1))
        own = shift_modes(rng, rng.uniform(0, 0.5 * LONGEST_SHIFT_PX))
        paths.append(camera.joined(own, rng.uniform(1.0, 1.5)))
    planes = [np.ascontiguousarray(layer.transpose(2, 0, 1)) for layer in layers]
    # Coefficients once per layer, not once per moment. Cubic, because a linear read would blur what stands still.
    return paths, [(p, np.stack([spline_filter(c, output=np.float32, mode="mirror") for c in p])) for p in planes]


def _moment(
    paths: list[MotionPath],
    layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
    t: float,
    height: int,
    width: int,
) -> NDArray[np.float32]:
    """The scene at time t, (height, width, 3) in linear light; at t = 0 no pixel is interpolated."""
    picture = np.zeros((height, width, 3), np.float32)
    for path, (pixels, coefficients) in zip(paths, layers, strict=True):
        rows, columns = pixels.shape[1:]
        top, left = (rows - height) // 2, (columns - width) // 2
        if t == 0:
            read = pixels[:, top : top + height, left : left + width]
        else:
            matrix, shift = path.at(t)
            centre = np.array([(height - 1) / 2, (width - 1) / 2])
            offset = centre + np.array([top, left]) + shift - matrix @ centre
            read = np.stack([
                affine_transform(plane, matrix, offset, (height, width), np.float32, 3, "mirror", prefilter=False)
                for plane in coefficients
            ])  # fmt: skip
        layer = np.clip(read.transpose(1, 2, 0), 0, 1)
        picture = layer if len(read) == 3 else picture * (1 - layer[..., 3:]) + layer[..., :3]
    return np.clip(picture, 0, 1)


def _noise(rng: Generator, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """What an average of several frames keeps of the sensor's noise: up to 1.2 of 255 levels, more in the light."""
    read, shot = rng.uniform(0, 0.8) / 255, rng.uniform(0, 1.0) / 255
    sigma = np.sqrt(np.float32(read**2) + np.float32(shot**2) * picture)
    return np.asarray(sigma * rng.standard_normal(picture.shape, np.float32), np.float32)


def _to_bytes(picture: NDArray[np.float32]) -> Frame:
    """Round half up, as the pixel contract does."""
    return np.asarray(np.floor(np.clip(picture, 0, 1) * np.float32(255) + np.float32(0.5)), np.uint8)
