"""All detectors over one picture, with the thresholds that clean pictures stay below.

Against the reference's picture they are sharp: what differs is the engine's fault. Against the blurred input alone they
are cheap and blunter, for deblurring changes the picture too. The thresholds are argued in compare/README.md, from
docs/lab/detectors.json.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unblur.core.errors import InputError
from unblur.metrics.detectors.colours import banding, clipped, colour_cast, swapped_channels, wrong_range
from unblur.metrics.detectors.pictures import Bytes, Measured, Pictures
from unblur.metrics.detectors.places import border_ringing, constant_block, seam
from unblur.metrics.detectors.whole import output_equals_input, shift, wrong_frame


@dataclass(frozen=True)
class Detector:
    """`measure` gives None where nothing can be told. A finding: more than the threshold, `against_reference` where
    there is a reference's picture, else `against_input`. `says`: the finding in words, around its number.
    """

    name: str
    measure: Callable[[Pictures], Measured | None]
    against_reference: float
    against_input: float
    says: str


DETECTORS = (
    Detector("swapped channels", swapped_channels, 2, 2, "{:.3g} times nearer with its channels in another order"),
    Detector("shift", shift, 0.2, 0.75, "{:.2f} pixels beside its place"),
    Detector("seam", seam, 2, 8, "a jump along a line, {:.3g} times what is usual"),
    Detector("wrong range", wrong_range, 1, 9, "levels are off by {:.3g} of 255: range or gamma"),
    Detector("clipped range", clipped, 0.005, 0.12, "{:.1%} of its values are cut off at an end of its range"),
    Detector("banding", banding, 1.5, 1.5, "{:.3g} times too few levels"),
    Detector("constant block", constant_block, 8, 12, "one colour, off by {:.3g} levels"),
    Detector("output equals input", output_equals_input, 4, 0.95, "the blurred input itself ({:.3g})"),
    Detector("wrong frame", wrong_frame, 0.4, 0.5, "another picture: 1 less their correlation is {:.2f}"),
    Detector("colour cast", colour_cast, 1, 5, "a channel is off by {:.3g} levels"),
    Detector("border ringing", border_ringing, 3, 4, "{:.3g} times more swing at a border than further in"),
)
"""Everything that looks at a picture, by `name`."""


@dataclass(frozen=True)
class Finding:
    """What a detector found: its number, the threshold that it is above, and the place in pixels from the top left."""

    detector: str
    value: float
    threshold: float
    top: int
    left: int
    height: int
    width: int

    @property
    def text(self) -> str:
        """In words, with the place."""
        says = next((one.says for one in DETECTORS if one.name == self.detector), "{:.3g}")
        at = f"{self.height}x{self.width} at row {self.top}, column {self.left}"
        return f"{self.detector}, {says.format(self.value)} ({at})"


def detect(blurred: Bytes, restored: Bytes, reference: Bytes | None = None) -> tuple[Finding, ...]:
    """What is wrong with a restored picture, in the order of DETECTORS; () for nothing.

    All three are (H, W, 3) RGB uint8 of one size; the sharp truth is not asked for, since an engine is to do what the
    network does. Raises InputError for another shape or type.
    """
    pictures = _pictures(blurred, restored, reference)
    if reference is not None and np.array_equal(restored, reference):
        return ()
    findings = []
    for one in DETECTORS:
        threshold = one.against_input if reference is None else one.against_reference
        measured = one.measure(pictures)
        if measured is not None and measured.value > threshold:
            at = measured.place
            findings.append(Finding(one.name, float(measured.value), threshold, at.top, at.left, at.height, at.width))
    return tuple(findings)


def statistics_of(blurred: Bytes, restored: Bytes, reference: Bytes | None = None) -> dict[str, float | None]:
    """The number of each detector, whatever its threshold. Raises as `detect`."""
    pictures = _pictures(blurred, restored, reference)
    measured = {one.name: one.measure(pictures) for one in DETECTORS}
    return {name: None if one is None else float(one.value) for name, one in measured.items()}


def _pictures(blurred: Bytes, restored: Bytes, reference: Bytes | None) -> Pictures:
    given = [blurred, restored, *([] if reference is None else [reference])]
    for picture in given:
        if picture.shape != blurred.shape or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            shapes = ", ".join(f"{one.shape} {one.dtype}" for one in given)
            raise InputError(f"Detectors take (height, width, 3) uint8 pictures of one size, got {shapes}.")
    return Pictures(*(np.ascontiguousarray(picture) for picture in given))
