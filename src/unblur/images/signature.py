"""What a graph or engine takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from unblur.core.errors import InputError
from unblur.images.contract import LONGEST_SIDE, PixelContract


@dataclass(frozen=True)
class Signature:
    """What a runner takes and gives. `height` and `width` are None where it takes every padded size to LONGEST_SIDE."""

    contract: PixelContract
    height: int | None = None
    width: int | None = None

    @property
    def sizes(self) -> str:
        """What it takes, for reports: "fixed 720x1280", or "dynamic"."""
        return "dynamic" if self.height is None or self.width is None else f"fixed {self.height}x{self.width}"

    def check(self, tensor: NDArray[Any]) -> None:
        """Raise InputError unless `tensor` is a batch of one of the right type, layout and size."""
        contract = self.contract
        channels_first = contract.layout == "nchw"
        right_rank = tensor.ndim == 4 and tensor.shape[0] == 1 and tensor.shape[1 if channels_first else 3] == 3
        if str(tensor.dtype) != contract.dtype or not right_rank:
            raise InputError(
                f"The engine takes one {contract.layout} {contract.dtype} frame of 3 channels, "
                f"got {tuple(tensor.shape)} {tensor.dtype}; PixelContract.encode makes it."
            )
        height, width = tensor.shape[2:] if channels_first else tensor.shape[1:3]
        if (height, width) != contract.padded_size(height, width):
            even = "x".join(map(str, contract.padded_size(height, width)))
            raise InputError(
                f"The engine takes sizes in multiples of {contract.multiple}, got {height}x{width}: pad to {even}."
            )
        if max(height, width) > LONGEST_SIDE:
            raise InputError(f"The engine takes sides of up to {LONGEST_SIDE} pixels, got {height}x{width}: cut it.")
        if (self.height or height, self.width or width) != (height, width):
            raise InputError(
                f"The engine is built for {self.height}x{self.width}, got {height}x{width}; "
                "export with --dynamic, or for this size."
            )
