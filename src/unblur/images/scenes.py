"""Still pictures to move about: photographs out of scikit-image's wheel, dead leaves, text.

Everything is drawn from the generator that is handed in, so that a seed fixes every pixel. Pictures are
(height, width, 3) RGB float32 in [0, 1], in display (gamma) values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.resources import files
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unblur.core.errors import InputError

Split = Literal["train", "heldout"]
Picture = NDArray[np.float32]

PHOTOGRAPHS: dict[Split, tuple[str, ...]] = {
    "train": ("astronaut.png", "rocket.jpg", "camera.png", "coins.png", "brick.png", "grass.png", "gravel.png",
              "hubble_deep_field.jpg"),
    "heldout": ("chelsea.png", "coffee.png"),
}  # fmt: skip
"""Photographs inside the wheel (nothing is downloaded) that its documentation says are CC0, in the public domain or
without known copyright restrictions. The Middlebury stereo pair, the moon and the scanned page are left out because
it says nothing of the kind about them; diagrams, micrographs and `clock_motion`, which is blurred already, as well."""

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789&%$?!/"


@functools.cache
def photograph(name: str) -> Picture:
    """One photograph of the wheel as it is stored, read-only.

    Raises InputError when the installed scikit-image does not ship it.
    """
    path = files("skimage") / "data" / name
    if not path.is_file():
        raise InputError(
            f"scikit-image's data folder has no {name}: install a scikit-image that pyproject.toml allows."
        )
    with path.open("rb") as file, Image.open(file) as image:
        array = np.asarray(image.convert("RGB"), np.float32) / np.float32(255)
    array.setflags(write=False)
    return array


def photograph_patch(rng: Generator, height: int, width: int, split: Split, largest_scale: float = 1.0) -> Picture:
    """A patch of a random photograph: scaled, turned, mirrored, tinted; mirrored outwards where it ends.

    Beyond a `largest_scale` of 1 some are magnified and so have no crisp edge: photographs have soft places that no
    motion made, and a network that has only seen crisp truths sharpens those as well and loses.
    """
    names = PHOTOGRAPHS[split]
    source = photograph(names[rng.integers(len(names))])
    grey = bool((source[..., 0] == source[..., 2]).all())
    scale = rng.uniform(0.45, largest_scale)
    size = (max(8, round(source.shape[1] * scale)), max(8, round(source.shape[0] * scale)))
    image = Image.fromarray((source * 255 + np.float32(0.5)).astype(np.uint8)).resize(size, Image.Resampling.LANCZOS)
    scaled = np.rot90(np.asarray(image, np.float32) / np.float32(255), int(rng.integers(4)))
    if rng.integers(2):
        scaled = scaled[:, ::-1]
    rows = _mirrored_range(rng, scaled.shape[0], height)
    columns = _mirrored_range(rng, scaled.shape[1], width)
    patch = scaled[rows[:, None], columns]
    tint = rng.uniform(0.75, 1.0, 3) if grey else rng.uniform(0.9, 1.0, 3)
    contrast = rng.uniform(0.8, 1.15)
    return np.clip((patch - 0.45) * contrast + 0.45, 0, 1).astype(np.float32) * tint.astype(np.float32)


def _mirrored_range(rng: Generator, have: int, want: int) -> NDArray[np.int64]:
    """`want` consecutive positions in a line of `have` pixels that is mirrored at both ends for ever."""
    start = int(rng.integers(0, max(1, have - want + 1)))
    position = np.arange(start, start + want) % (2 * have)
    return np.where(position < have, position, 2 * have - 1 - position)


def dead_leaves(rng: Generator, height: int, width: int) -> Picture:
    """Occluding discs, ellipses and boxes whose radii follow r^-3: the edge statistics of photographs.

    Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001. Drawn at twice the size and averaged.
    """
    rows, columns = 2 * height, 2 * width
    picture = np.empty((rows, columns, 3), np.float32)
    picture[:] = rng.uniform(0, 1, 3)
    palette = rng.uniform(0, 1, (int(rng.integers(4, 12)), 3)).astype(np.float32)
    grey = palette.mean(1, keepdims=True)
    palette = grey + (palette - grey) * np.float32(rng.uniform(0.1, 0.8))
    palette = palette.mean() + (palette - palette.mean()) * np.float32(rng.uniform(0.3, 0.9))
    smallest, largest = 10.0, 0.3 * max(rows, columns)
    count = 20 + rows * columns // 700  # every place is covered about twice over
    # Inverse transform of p(r) ~ r^-3 on [smallest, largest].
    u = rng.uniform(0, 1, count)
    radii = 1 / np.sqrt(u / smallest**2 + (1 - u) / largest**2)
    for radius in radii:
        aspect, angle = rng.uniform(0.4, 1.0), rng.uniform(0, np.pi)
        y, x = rng.uniform(0, rows), rng.uniform(0, columns)
        top, bottom = max(0, int(y - radius)), min(rows, int(y + radius) + 2)
        left, right = max(0, int(x - radius)), min(columns, int(x + radius) + 2)
        dy, dx = np.mgrid[top:bottom, left:right].astype(np.float32)
        dy, dx = dy - np.float32(y), dx - np.float32(x)
        along = (dx * np.float32(np.cos(angle)) + dy * np.float32(np.sin(angle))) / np.float32(radius)
        across = (dy * np.float32(np.cos(angle)) - dx * np.float32(np.sin(angle))) / np.float32(radius * aspect)
        box = rng.integers(3) == 0
        inside = np.maximum(abs(along), abs(across)) < 0.7 if box else along**2 + across**2 < 1
        colour = palette[rng.integers(len(palette))] + rng.normal(0, 0.08, 3).astype(np.float32)
        shade = np.float32(rng.normal(0, 0.12)) * along[..., None] + colour
        grain = rng.normal(0, rng.choice([0.0, 0.0, 0.06]), inside.shape).astype(np.float32)
        picture[top:bottom, left:right][inside] = (shade + grain[..., None])[inside]
    small = picture.reshape(height, 2, width, 2, 3).mean((1, 3))
    result: Picture = np.clip(small, 0, 1).astype(np.float32)
    return result


def text_sheet(rng: Generator, height: int, width: int, ground: Picture) -> Picture:
    """Lines of random letters of several sizes over `ground` (height, width, 3)."""
    image = Image.new("L", (2 * width, 2 * height), 0)
    draw = ImageDraw.Draw(image)
    y = int(rng.integers(-20, 20))
    while y < 2 * height:
        size = int(rng.integers(18, 90))
        letters = "".join(rng.choice(list(ALPHABET), int(rng.integers(4, 24))).tolist())
        draw.text((int(rng.integers(-40, width)), y), letters, fill=255, font=ImageFont.load_default(size))
        y += int(size * rng.uniform(1.1, 2.2))
    ink = np.asarray(image, np.float32).reshape(height, 2, width, 2).mean((1, 3))[..., None] / np.float32(255)
    # Ink keeps its distance from the ground, or there would be nothing to read.
    mean = float(ground.mean())
    distance = rng.uniform(0.25, 0.6) * (-1 if mean > 0.5 else 1)
    colour = np.clip(mean + distance + rng.normal(0, 0.1, 3), 0, 1).astype(np.float32)
    result: Picture = (ground * (1 - ink) + colour * ink).astype(np.float32)
    return result


def ramp(rng: Generator, height: int, width: int) -> Picture:
    """A smooth gradient between two colours."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    t = (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))) / np.float32(max(height, width))
    a, b = rng.uniform(0, 1, (2, 3)).astype(np.float32)
    result: Picture = np.clip(a + (b - a) * (t[..., None] * np.float32(0.5) + np.float32(0.5)), 0, 1).astype(np.float32)
    return result


def scene(rng: Generator, height: int, width: int, split: Split, largest_scale: float = 1.0) -> Picture:
    """A still picture: seven in ten a photograph, the rest dead leaves, or text over a photograph or a gradient."""
    kinds: dict[str, tuple[float, Callable[[], Picture]]] = {
        "photograph": (0.7, lambda: photograph_patch(rng, height, width, split, largest_scale)),
        "leaves": (0.2, lambda: dead_leaves(rng, height, width)),
        "text on photograph": (
            0.05,
            lambda: text_sheet(rng, height, width, photograph_patch(rng, height, width, split, largest_scale)),
        ),
        "text on gradient": (0.05, lambda: text_sheet(rng, height, width, ramp(rng, height, width))),
    }
    draw = rng.uniform()
    for chance, make in kinds.values():
        draw -= chance
        if draw < 0:
            return make()
    return ramp(rng, height, width)


def blob(rng: Generator, height: int, width: int) -> NDArray[np.float32]:
    """The outline of a moving thing: (height, width) coverage in [0, 1], a wobbly ellipse somewhere inside."""
    y, x = np.mgrid[0 : 2 * height, 0 : 2 * width].astype(np.float32)
    radius = rng.uniform(0.10, 0.30) * 2 * min(height, width)
    aspect = rng.uniform(0.5, 1.0)
    y, x = y - np.float32(rng.uniform(0, 2 * height)), x - np.float32(rng.uniform(0, 2 * width))
    around = np.arctan2(y / np.float32(aspect), x)
    wobble = np.ones_like(y)
    for order in (2, 3, 5):
        wobble += np.float32(rng.normal(0, 0.25 / order)) * np.sin(order * around + np.float32(rng.uniform(0, 6.28)))
    inside = np.hypot(x, y / np.float32(aspect)) < np.float32(radius) * wobble
    result: Picture = inside.reshape(height, 2, width, 2).mean((1, 3), dtype=np.float32).astype(np.float32)
    return result
