"""Parts of a report that are measured beside the frames: what has changed since a baseline, what an engine takes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from unblur.metrics.decibels import Decibels
from unblur.metrics.quantiles import Interval


class Part(BaseModel):
    """Base of all parts: frozen and closed. Whatever may be infinite is `Decibels`; no other number may."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Change(Part):
    """One engine since its baseline: worst frame's `fidelity_db`, `psnr_db` against truth (means) or `latency_ms`
    (medians).

    `lost`, with the interval `low` to `high`: decibels, mean over the pictures paired; of latency, now over before.
    `worst`: decibels lost on the picture that lost most. `margin`: of latency, up to which nothing is lost.
    """

    engine: str
    measure: Literal["fidelity_db", "psnr_db", "latency_ms"]
    before: Decibels | None
    now: Decibels | None
    lost: Decibels | None
    low: Decibels | None
    high: Decibels | None
    worst: Decibels | None = None
    margin: float | None = None
    state: Literal["kept", "lost", "cannot tell"]
    why: str = ""


class Since(Part):
    """A report held against its baseline: `file` (its name), the digest of it, and why and when it was accepted."""

    file: str
    digest: str
    accepted_utc: str
    reason: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()


class Cost(Part):
    """An engine in a process of its own: seconds of opening it (its imports too, its graph made before) and of its
    first frame, the most memory that the process ever held, and the size of its file, None where it has none yet.
    """

    load_s: float
    first_frame_s: float
    peak_mib: float
    disk_mib: float | None


StepName = Literal["exact graph", "fp16 graph", "bf16 graph", "8-bit graph", "engine"]


class Step(Part):
    """A step from the reference to what an engine gave: fidelity to the reference, and to the step before (`alone`)."""

    name: StepName
    fidelity_db: Decibels
    alone_db: Decibels


class Waterfall(Part):
    """Where an engine loses its fidelity, step by step, PSNR over so many `frames` of (height, width) together.

    `missing`: why a step is not there, "" where none is missing.
    """

    frames: int = 0
    height: int = 0
    width: int = 0
    steps: tuple[Step, ...] = ()
    missing: str = ""


class Difference(Part):
    """PSNR of `better` less that of `other` against truth, in dB: the mean over the `pictures` that have both, and its
    interval. Where that has zero in it, neither is better as far as was measured."""

    better: str
    other: str
    pictures: int
    psnr_db: Interval

    @property
    def is_none(self) -> bool:
        return self.psnr_db.low <= 0 <= self.psnr_db.high


class WorstFrame(Part):
    """A frame that an engine gives with little fidelity; its quality beside the reference's where there is truth."""

    frame: str
    engine: str
    fidelity_db: Decibels
    psnr_db: Decibels | None
    reference_psnr_db: Decibels | None


class Crop(Part):
    """One picture of a strip as a data URI; `note` is the figure under its caption."""

    caption: str
    uri: str
    note: str = ""


class Attention(Part):
    """What the reference looks at on one frame: the frame and each gate of the network, scaled to (height, width).

    `reason` says why this frame. A gate's note: what its black and its white stand for, of 0 to 1.
    """

    frame: str
    reason: str
    height: int
    width: int
    pictures: tuple[Crop, ...]
