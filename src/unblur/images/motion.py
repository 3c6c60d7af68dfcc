"""How things move while the shutter is open: smooth paths of small affine maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SHORTEST_SHIFT_PX = 2.0
"""A camera held by hand never stands quite still over seven frames."""


@dataclass(frozen=True)
class MotionPath:
    """Motion of one layer, relative to the middle of the exposure; time t runs from -0.5 to 0.5.

    shift: (3, 2) pixels (y, x) for the modes `_modes`; turn: (3,) radians; zoom: (3,) relative; slope: (2,) relative
    change of the shift per pixel away from the centre (y, x), which is what a slanted ground does.
    """

    shift: NDArray[np.float64]
    turn: NDArray[np.float64]
    zoom: NDArray[np.float64]
    slope: NDArray[np.float64]

    def at(self, t: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(matrix 2x2, shift 2) such that output position p, from the centre, reads the layer at matrix @ p + shift."""
        modes = _modes(t)
        shift = modes @ self.shift
        turn, zoom = float(modes @ self.turn), float(modes @ self.zoom)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return rotation * (1 + zoom) + np.outer(shift, self.slope), shift

    def reach(self, height: int, width: int) -> float:
        """Largest displacement of any corner over the exposure, in pixels."""
        corners = np.array([[y, x] for y in (-height / 2, height / 2) for x in (-width / 2, width / 2)])
        longest = 0.0
        for t in np.linspace(-0.5, 0.5, 9):
            matrix, shift = self.at(float(t))
            longest = max(longest, float(np.linalg.norm(corners @ matrix.T + shift - corners, axis=1).max()))
        return longest

    def joined(self, own: NDArray[np.float64], nearness: float) -> MotionPath:
        """The path of a thing `nearness` times as near as the background, with a shift (3, 2) of its own added."""
        return MotionPath(self.shift * nearness + own, self.turn, self.zoom, np.zeros(2))


def _modes(t: float) -> NDArray[np.float64]:
    """Steady motion, acceleration, tremor: three smooth functions that vanish at t = 0."""
    return np.array([t, 2 * t * t, 0.5 * np.sin(2 * np.pi * t) / np.pi])


def shift_modes(rng: Generator, length: float) -> NDArray[np.float64]:
    """(3, 2) shifts of about `length` pixels from first to last moment, mostly steady, in a random direction."""
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 1, (3, 2))
    modes = np.zeros((3, 2))
    modes[0] = length * np.array([np.sin(angle), np.cos(angle)])
    return np.asarray(modes + bend * np.array([[0.0], [0.2], [0.3]]) * length)


def camera_path(rng: Generator, height: int, width: int, longest_px: float) -> MotionPath:
    """A hand-held camera: 2 to `longest_px` pixels of shift, a little roll and zoom, a slanted ground.

    Roll and zoom are drawn as pixels at the edge of a 256 pixel patch, and limited for larger frames.
    """
    away = max(256, height, width) / 2
    return MotionPath(
        shift=shift_modes(rng, rng.uniform(SHORTEST_SHIFT_PX, longest_px)),
        turn=rng.normal(0, [1.6, 0.5, 0.5], 3) / away,
        zoom=rng.normal(0, [0.8, 0.3, 0.0], 3) / away,
        slope=rng.uniform(-0.4, 0.4, 2) / away,
    )
