"""What calibration hands to quantisation: for each tensor of a float32 graph the interval that 8 bits shall cover."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unblur.core.artefacts import json_text, value_digest
from unblur.core.errors import InputError
from unblur.core.reading import parse_json

FORMAT = 1
"""Raised whenever the JSON of `Ranges` changes its meaning."""

SMALLEST_SCALE = 2.0**-126
"""The smallest normal float32; a graph would hold a smaller scale as zero or nearly so."""


@dataclass(frozen=True)
class Range:
    """The closed interval [low, high] of a tensor, in the tensor's own unit; low == high for a constant tensor.

    Raises InputError when an end is NaN or infinite, or low > high. `Ranges` adds the tensor's name.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise InputError(f"the range [{self.low}, {self.high}] is not finite; check the checkpoint and the frames.")
        if self.low > self.high:
            raise InputError(f"the range [{self.low}, {self.high}] is empty: its low end is above its high end.")

    def symmetric_scale(self, largest: int = 127) -> float:
        """Scale of signed values without a zero point: max(|low|, |high|) / largest, the rule of TensorRT.

        A constant c becomes ±largest and is exact up to float32. For an all-zero tensor every positive scale is exact,
        and 1 is taken; so it is where the scale would be no normal float32.
        """
        return _usable(max(abs(self.low), abs(self.high)) / largest)

    def affine(self, levels: int = 256) -> tuple[float, int]:
        """(scale, zero point) of unsigned values 0 to levels - 1, as ONNX QuantizeLinear takes them.

        The interval is widened to hold 0, which padding and ReLU make of everything and which must be exact (Jacob et
        al., CVPR 2018, section 2.1). So a constant c becomes [0, c] or [c, 0]; all zero: scale 1, zero point 0.
        """
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        scale = _usable((high - low) / (levels - 1))
        return scale, min(levels - 1, max(0, round(-low / scale)))


@dataclass(frozen=True)
class Ranges:
    """Ranges of tensors of one float32 graph, by name, and how they were chosen, such as "entropy s8".

    Raises InputError for an end that is not finite, naming the tensor, and for no tensor at all.
    """

    algorithm: str
    by_tensor: Mapping[str, Range]

    def __post_init__(self) -> None:
        if not self.by_tensor:
            raise InputError("Ranges of no tensor: the graph has no convolution to calibrate.")

    @property
    def digest(self) -> str:
        """SHA-256 of algorithm and ranges."""
        return value_digest(self._values())

    def of(self, tensor: str) -> Range:
        """The range of a tensor. Raises InputError when it was not measured."""
        if tensor not in self.by_tensor:
            raise InputError(f"Tensor {tensor!r} has no measured range; calibrate this very graph again.")
        return self.by_tensor[tensor]

    def to_json(self) -> str:
        """Text that `from_json` reads: floats keep every bit."""
        return json_text(self._values(), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Ranges:
        """Raises InputError for another format, a missing or unknown key, and as the constructors."""
        try:
            values: Any = parse_json(text)
        except ValueError as error:
            raise InputError(f"Not a file of ranges ({error}); calibrate again.") from error
        if not isinstance(values, dict) or set(values) != {"format", "algorithm", "ranges"}:
            raise InputError("Not a file of ranges (keys format, algorithm, ranges expected); calibrate again.")
        if values["format"] != FORMAT:
            raise InputError(f"Ranges of format {values['format']!r}, this unblur reads {FORMAT}; calibrate again.")
        if not isinstance(values["algorithm"], str) or not isinstance(values["ranges"], dict):
            raise InputError("Not a file of ranges (algorithm is text, ranges a table); calibrate again.")
        return cls(values["algorithm"], {name: named_range(name, ends) for name, ends in values["ranges"].items()})

    def _values(self) -> dict[str, Any]:
        ends = {name: [r.low, r.high] for name, r in self.by_tensor.items()}
        return {"format": FORMAT, "algorithm": self.algorithm, "ranges": ends}


def _usable(scale: float) -> float:
    return scale if scale >= SMALLEST_SCALE else 1.0


def named_range(tensor: str, ends: Any) -> Range:
    """The range of a tensor from its two ends. Raises InputError as `Range`, naming the tensor."""
    if not isinstance(ends, (list, tuple)) or len(ends) != 2 or any(type(end) not in (int, float) for end in ends):
        raise InputError(f"Tensor {tensor!r}: {ends!r} is no range; it is two numbers, low and high.")
    try:
        return Range(float(ends[0]), float(ends[1]))
    except InputError as error:
        raise InputError(f"Tensor {tensor!r}: {error}") from error
