"""The pixel contract: how an 8-bit picture becomes the tensor a network or graph takes, and back.

It is data, so that it can travel: a network's checkpoint has one, every exported graph carries one in its
metadata, every engine in its manifest. This class is the only place that normalises, pads, crops or rounds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unblur.core.errors import InputError

Frame = NDArray[np.uint8]
"""One picture, (height, width, 3) RGB, 8 bit."""

METADATA_KEY = "unblur.pixel_contract"


@dataclass(frozen=True)
class PixelContract:
    """Pixels of one batch tensor. `low` and `high` are the values of byte 0 and byte 255.

    With dtype "uint8" the graph itself does the arithmetic, so `low`, `high` are 0 and 255.
    `multiple`: height and width are padded right and bottom (numpy mode `padding`) to a multiple of it, and
    the result is cropped. Bytes are rounded half up, as torchvision's save_image did for the papers.
    """

    channel_order: Literal["rgb", "bgr"] = "bgr"
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["float32", "uint8"] = "float32"
    low: float = -0.5
    high: float = 0.5
    multiple: int = 2
    padding: Literal["edge", "reflect"] = "edge"

    def as_uint8(self) -> PixelContract:
        """The contract of a graph that takes and gives RGB bytes in NHWC and does this contract's work inside."""
        return replace(self, channel_order="rgb", layout="nhwc", dtype="uint8", low=0.0, high=255.0)

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Smallest (height, width) >= the given one that the network takes."""
        m = self.multiple
        return -(-height // m) * m, -(-width // m) * m

    def encode(self, frame: Frame) -> NDArray[Any]:
        """(H, W, 3) RGB uint8 -> batch of one, padded, in this contract's layout, order, type and range.

        Raises InputError for another shape or type.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
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

    def decode(self, tensor: NDArray[Any], height: int, width: int) -> Frame:
        """Inverse of `encode`: clamp, round half up, crop to (height, width); -> (height, width, 3) RGB uint8.

        Raises InputError when the tensor holds NaN: bytes would hide it.
        """
        picture = tensor[0].transpose(1, 2, 0) if self.layout == "nchw" else tensor[0]
        picture = picture[:height, :width]
        if self.channel_order == "bgr":
            picture = picture[..., ::-1]
        if self.dtype == "float32":
            if np.isnan(picture).any():
                raise InputError("The network's output has NaN in it; check the checkpoint and the precision.")
            unit = (np.clip(picture, self.low, self.high) - self.low) / (self.high - self.low)
            picture = np.floor(unit * np.float32(255) + np.float32(0.5))
        return np.ascontiguousarray(picture.astype(np.uint8))

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> PixelContract:
        """Raises InputError when the text is not a contract of this version."""
        try:
            values = json.loads(text)
            known = {f.name for f in fields(cls)}
            if not isinstance(values, dict) or set(values) != known:
                raise ValueError(f"keys {sorted(values)} instead of {sorted(known)}")
            return cls(**values)
        except ValueError as error:
            raise InputError(f"Not a pixel contract ({error}); export the graph again.") from error
