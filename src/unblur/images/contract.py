"""The pixel contract: how an 8-bit picture becomes the tensor a network or graph takes, and back.

It is data, so that it can travel: a network's checkpoint has one, every exported graph carries one in its
metadata, every engine in its manifest. This class is the only place that normalises, pads, crops or rounds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from unblur.core.errors import InputError, nearest
from unblur.core.reading import parse_json

Frame = NDArray[np.uint8]
"""One picture, (height, width, 3) RGB, 8 bit."""

Pixels = Literal["float", "uint8", "rgb01"]
"""What a graph of a network takes: floats as the network was trained, RGB bytes in NHWC, or float RGB in [0, 1]."""

PIXELS: tuple[Pixels, ...] = get_args(Pixels)

METADATA_KEY = "unblur.pixel_contract"

LONGEST_SIDE = 2**15
"""Longest side of a frame that an engine takes: as far as the indices of a graph of every size are proved."""

MULTIPLE_MAX = 1024
"""The coarsest padding that is taken for meant: of a network that halves its maps ten times."""

_CHOICES = {
    "channel_order": ("rgb", "bgr"),
    "layout": ("nchw", "nhwc"),
    "dtype": ("float32", "uint8"),
    "padding": ("edge", "reflect"),
}


@dataclass(frozen=True, kw_only=True)
class PixelContract:
    """Pixels of one batch tensor. `low` and `high` are the values of byte 0 and byte 255.

    With dtype "uint8" the graph itself does the arithmetic, so `low`, `high` are 0 and 255.
    `multiple`: height and width are padded right and bottom (numpy mode `padding`) to a multiple of it, and
    the result is cropped. Bytes are rounded half up, as torchvision's save_image did for the papers.
    """

    channel_order: Literal["rgb", "bgr"]
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["float32", "uint8"] = "float32"
    low: float
    high: float
    multiple: int
    padding: Literal["edge", "reflect"] = "edge"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"Pixel contract: {name} is {getattr(self, name)!r}; known: {', '.join(known)}.")
        if type(self.multiple) is not int or not 1 <= self.multiple <= MULTIPLE_MAX:
            raise InputError(
                f"Pixel contract: multiple is {self.multiple!r}; it must be a whole number from 1 to {MULTIPLE_MAX}."
            )
        low, high = (self.low, self.high)
        if any(type(value) not in (int, float) for value in (low, high)):
            raise InputError(f"Pixel contract: low and high are {low!r} and {high!r}; they must be numbers.")
        # float32 keeps 256 levels apart only while the span is not tiny beside the values (NaN fails here too, and
        # integers that no float holds).
        largest = max(abs(low), abs(high))
        if not (largest <= 1e9 and 1e-6 <= high - low <= 1e6 and largest <= 1024 * (high - low)):
            raise InputError(f"Pixel contract: low {low} and high {high} cannot hold 256 levels in float32.")
        if self.dtype == "uint8" and (low, high) != (0, 255):
            raise InputError(f"Pixel contract: bytes go from 0 to 255, not from {low} to {high}.")

    def as_uint8(self) -> PixelContract:
        """The contract of a graph that takes and gives RGB bytes in NHWC and does this contract's work inside."""
        return replace(self, channel_order="rgb", layout="nhwc", dtype="uint8", low=0.0, high=255.0)

    def as_pixels(self, pixels: Pixels) -> PixelContract:
        """The contract of a graph of this contract's network that takes and gives `pixels`."""
        if pixels == "uint8":
            return self.as_uint8()
        return self if pixels == "float" else replace(CONTRACTS[pixels], multiple=self.multiple, padding=self.padding)

    @property
    def name(self) -> str:
        """As `parse_contract` reads it where CONTRACTS has it, else its JSON."""
        for name, contract in CONTRACTS.items():
            if replace(contract, multiple=self.multiple) == self:
                return name if self.multiple == 1 else f"{name}/{self.multiple}"
        return self.to_json()

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Smallest (height, width) >= the given one that the network takes."""
        m = self.multiple
        return -(-height // m) * m, -(-width // m) * m

    def encode(self, frame: Frame) -> NDArray[Any]:
        """(H, W, 3) RGB uint8 -> batch of one, padded, in this contract's layout, order, type and range.

        Raises InputError for another shape or type.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0 or frame.dtype != np.uint8:
            raise InputError(
                f"A frame is (height, width, 3) RGB uint8, got {frame.shape} {frame.dtype}; "
                "open pictures with unblur.images.files.read_picture."
            )
        height, width = frame.shape[:2]
        to_height, to_width = self.padded_size(height, width)
        if (to_height, to_width) != (height, width):
            mode = self.padding
            frame = np.pad(frame, ((0, to_height - height), (0, to_width - width), (0, 0)), mode=mode)
        if self.channel_order == "bgr":
            frame = frame[..., ::-1]
        tensor: NDArray[Any] = frame[None]
        if self.layout == "nchw":
            tensor = tensor.transpose(0, 3, 1, 2)
        if self.dtype == "float32":
            tensor = tensor.astype(np.float32) / np.float32(255) * np.float32(self.high - self.low)
            tensor += np.float32(self.low)
        return np.ascontiguousarray(tensor)

    def crop(self, tensor: NDArray[Any], height: int, width: int) -> NDArray[Any]:
        """The part of a tensor in this contract's layout that is the frame, without what `encode` padded: a view."""
        return tensor[..., :height, :width] if self.layout == "nchw" else tensor[:, :height, :width]

    def decode(self, tensor: NDArray[Any], height: int, width: int) -> Frame:
        """Inverse of `encode`: clamp, round half up, crop to (height, width); -> (height, width, 3) RGB uint8.

        Raises InputError when the tensor is not what `encode` makes of such a frame, or holds NaN or infinity:
        a crop and bytes would hide it.
        """
        padded = self.padded_size(height, width)
        expected = (1, 3, *padded) if self.layout == "nchw" else (1, *padded, 3)
        if tensor.shape != expected or (self.dtype == "uint8") != (tensor.dtype == np.uint8):
            raise InputError(
                f"The network's output is {tuple(tensor.shape)} {tensor.dtype} instead of {expected} {self.dtype}; "
                "the graph does not keep the contract it states: export it again."
            )
        picture = tensor[0].transpose(1, 2, 0) if self.layout == "nchw" else tensor[0]
        picture = picture[:height, :width]
        if self.channel_order == "bgr":
            picture = picture[..., ::-1]
        if self.dtype == "float32":
            if not np.isfinite(picture).all():
                raise InputError(
                    "The network's output has NaN or infinity in it; check the checkpoint and the precision."
                )
            # In float32 and in this order these are the bits of clamp(-0.5, 0.5) + 0.5, x255, +0.5, truncate.
            levels = (np.clip(picture.astype(np.float32), self.low, self.high) - np.float32(self.low)) * np.float32(
                255 / (self.high - self.low)
            )
            picture = np.floor(np.clip(levels, 0, 255) + np.float32(0.5))
        return np.ascontiguousarray(picture.astype(np.uint8))

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> PixelContract:
        """Raises InputError when the text is not a contract of this version."""
        try:
            values = parse_json(text)
        except ValueError as error:
            raise InputError(f"Not a pixel contract ({error}); export the graph again.") from error
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) != known:
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise InputError(f"Not a pixel contract ({found} instead of the keys {sorted(known)}); export again.")
        return cls(**values)


_ORDERS: tuple[Literal["rgb", "bgr"], ...] = ("rgb", "bgr")


def _contract(
    order: Literal["rgb", "bgr"], layout: Literal["nchw", "nhwc"], dtype: Literal["float32", "uint8"], low: float,
    high: float,
) -> PixelContract:  # fmt: skip
    return PixelContract(
        channel_order=order, layout=layout, dtype=dtype, low=low, high=high, multiple=1, padding="edge"
    )


CONTRACTS: Mapping[str, PixelContract] = {
    **{
        f"{order}{name}": _contract(order, "nchw", "float32", low, high)
        for name, low, high in (("01", 0.0, 1.0), ("-0.5", -0.5, 0.5), ("-1", -1.0, 1.0), ("255", 0.0, 255.0))
        for order in _ORDERS
    },
    "uint8-nhwc": _contract("rgb", "nhwc", "uint8", 0.0, 255.0),
    "uint8-nchw": _contract("rgb", "nchw", "uint8", 0.0, 255.0),
}
"""Pixels of graphs that do not say theirs, by name: order and range of floats in NCHW ("rgb-0.5": from -0.5 to 0.5), or
RGB bytes."""


def parse_contract(text: str) -> PixelContract:
    """ "rgb01" -> float RGB in [0, 1]; "rgb01/8": of height and width that are multiples of 8. Raises InputError."""
    name, slash, multiple = text.partition("/")
    if name not in CONTRACTS:
        raise InputError(f"Unknown pixel contract {name!r}{nearest(name, CONTRACTS)}; known: {', '.join(CONTRACTS)}.")
    if slash and not (multiple.isascii() and multiple.isdigit() and len(multiple) <= 9):
        raise InputError(f"Pixel contract {text!r}: behind the stroke stands what sizes are multiples of, as rgb01/8.")
    return replace(CONTRACTS[name], multiple=int(multiple)) if slash else CONTRACTS[name]
