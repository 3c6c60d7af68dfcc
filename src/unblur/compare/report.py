"""What a comparison found, as data: everything that report.json holds, and the pictures that only the page shows."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from unblur.compare.parts import Attention, Cost, Crop, Difference, Part, Since, Waterfall, WorstFrame
from unblur.compare.timing import Ceilings, LatencyResult, LatencySession, Rates
from unblur.core.errors import BudgetError, CrashError, InputError
from unblur.images.contract import PixelContract
from unblur.metrics.decibels import Decibels, Loss
from unblur.metrics.detectors.detect import Finding
from unblur.metrics.quantiles import Interval

SHOWN = 5
"""So many frames are named in a sentence."""

FINDINGS = "findings_max"
"""The check that an engine with any budget gets where detectors found something. Nobody states it; its limit is 0."""

TOLD = 3
"""So many findings of an engine are told in a sentence; report.json holds all."""


class Fidelity(Part):
    """Candidate against reference on one frame.

    `tensor_db` and `tensor_max_error` are of the float tensors (peak: `high - low` of the pixel contract) and None
    where the engine gives bytes; `frame_db` (peak 255) and `frame_max_error` are of the 8-bit frames.
    """

    tensor_db: Decibels | None
    tensor_max_error: float | None
    frame_db: Decibels
    frame_max_error: int

    @property
    def strictest_db(self) -> float:
        """What a budget is held against: the tensors, which rounding to bytes has not flattered."""
        return self.frame_db if self.tensor_db is None else self.tensor_db


class Quality(Part):
    """Anything against truth on one 8-bit RGB frame. `ssim_matlab` is None where the frame was aligned first."""

    psnr_db: Decibels
    ssim_matlab: float | None
    ssim_per_channel: float


class MeanQuality(Quality):
    """Means over frames. `identical` frames are the truth to the last byte: their PSNR is not in the mean."""

    identical: int = 0


class FrameResult(Part):
    """One engine on one frame. `quality` is None without truth. `findings`: of the detectors, () also where they were
    off. `pixels`: of the reference, what the blurred picture holds (`pixels_of`)."""

    frame: str
    height: int
    width: int
    fidelity: Fidelity
    quality: Quality | None
    findings: tuple[Finding, ...] = ()
    pixels: str | None = None


class Check(Part):
    """One budget and what was measured; `measured` is None where nothing could be, which breaks the budget."""

    budget: str
    limit: float
    measured: Decibels | None
    kept: bool

    @property
    def told(self) -> str:
        """What was measured, in four digits, or as many as set it apart from the limit: "60, measured 60" is no reason
        to be broken. Raises ValueError where nothing was.
        """
        if self.measured is None:
            raise ValueError(f"nothing was measured for {self.budget}")

        def beside(value: float) -> tuple[bool, bool]:
            return value > self.limit, value < self.limit

        texts = (f"{self.measured:.{digits}g}" for digits in range(4, 18))
        return next(text for text in texts if beside(float(text)) == beside(self.measured))


class EngineResult(Part):
    """One engine: what it is, its frames, their means, latency and verdict. `not_measured` holds the reason if any;
    `timed` is False for one that was left out of the latency measurement on purpose. `crashed`: how it ended before it
    was measured to the end; what it gave until then stands.

    Means are arithmetic means over frames of the finite values in dB, as the papers do; the worst frame is named.
    `loss` tells which frames `psnr_loss_db` is of; `gain_db` is over the blurred input (`gain_over_input`). The
    intervals are of the means over pictures, paired where two are subtracted; None where fewer than two are finite.
    `identical`: frames of which the engine gives the reference's very bytes.
    """

    name: str
    is_reference: bool
    not_measured: str | None = None
    crashed: str | None = None
    timed: bool = True
    description: dict[str, str] = Field(default={})
    contract: PixelContract | None = None
    frames: tuple[FrameResult, ...] = ()
    worst_fidelity_db: Decibels | None = None
    worst_fidelity_frame: str | None = None
    mean_fidelity_frame_db: Decibels | None = None
    mean_quality: MeanQuality | None = None
    psnr_loss_db: Decibels | None = None
    loss: Loss | None = None
    gain_db: Decibels | None = None
    psnr_interval: Interval | None = None
    loss_interval: Interval | None = None
    gain_interval: Interval | None = None
    identical: int = 0
    latency: LatencyResult | None = None
    cost: Cost | None = None
    rates: Rates | None = None
    waterfall: Waterfall | None = None
    checks: tuple[Check, ...] = ()

    @property
    def findings(self) -> list[tuple[str, Finding]]:
        """Frame and finding, in the order of the frames."""
        return [(frame.frame, finding) for frame in self.frames for finding in frame.findings]

    @property
    def findings_text(self) -> str:
        """The worst finding of each detector with its frame and place, TOLD of them; "" for none."""
        worst: dict[str, list[tuple[str, Finding]]] = {}
        for frame, finding in self.findings:
            worst.setdefault(finding.detector, []).append((frame, finding))
        parts = []
        for found in list(worst.values())[:TOLD]:
            frame, finding = max(found, key=lambda one: one[1].value)
            parts.append(f"{frame}: {finding.text}{f', and {len(found) - 1} more' if len(found) > 1 else ''}")
        more = f"; {len(worst) - TOLD} more kinds are in report.json" if len(worst) > TOLD else ""
        return "; ".join(parts) + more


class Failure(Part):
    """A frame that could not be compared, by one engine or (None) by any."""

    frame: str
    engine: str | None
    reason: str


class View(Part):
    """A wider part of a frame, as it was blurred and as each engine restored it, to be slid one over the other.

    The pictures are compressed with loss: to be looked at, while crops hold the very bytes.
    """

    top: int
    left: int
    height: int
    width: int
    pictures: tuple[Crop, ...]


class Strip(Part):
    """One place of one frame as every engine gives it. `reason` says why this place; pixels from the top left.

    `crops` leaves out the candidates in `same`, which give the reference's bytes here; `differences` those whose
    difference nobody would see, which `faint` tells of. `view`: with the first strip of a frame.
    """

    frame: str
    reason: str
    top: int
    left: int
    height: int
    width: int
    amplification: int
    crops: tuple[Crop, ...]
    differences: tuple[Crop, ...]
    same: tuple[str, ...] = ()
    faint: tuple[str, ...] = ()
    view: View | None = None


class Report(Part):
    """A whole comparison. `checkpoint`: the file that the reference is of, a graph where one was named.
    `notes`: what else a reader must know. `warnings`: what nobody may overlook, whatever the budgets say. `budgets`: as
    they were stated. `blurred`: quality of the inputs, in the order of the reference's frames. `differences`: of every
    two engines. `worst`: frames of the least fidelity, the worst first. `since`: what has changed since the baseline,
    if one was named. `detectors`: names of those that looked at every picture. `ceilings`: of the devices that engines'
    `rates` are of. `repeats`: short sessions of latency, for which every engine was opened anew, in processes of their
    own: they tell what sessions differ by. `strips` and `attention` are shown on the page only."""

    form: Literal["unblur comparison 1"] = "unblur comparison 1"
    created_utc: str
    network: str
    checkpoint: str
    checkpoint_digest: str
    reference: str
    reference_text: str = "eager float32 PyTorch"
    machine: dict[str, str]
    versions: dict[str, str]
    engines: tuple[EngineResult, ...]
    blurred_quality: MeanQuality | None
    latency: LatencySession | None
    failures: tuple[Failure, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    budgets: dict[str, dict[str, float]] = Field(default={})
    blurred: tuple[Quality, ...] = ()
    differences: tuple[Difference, ...] = ()
    worst: tuple[WorstFrame, ...] = ()
    since: Since | None = None
    detectors: tuple[str, ...] = ()
    ceilings: tuple[Ceilings, ...] = ()
    repeats: tuple[LatencySession, ...] = ()
    strips: tuple[Strip, ...] = Field(default=(), exclude=True)
    attention: tuple[Attention, ...] = Field(default=(), exclude=True)

    @property
    def has_truth(self) -> bool:
        return self.blurred_quality is not None

    @property
    def checks(self) -> list[tuple[EngineResult, Check]]:
        """Every budget of every engine."""
        return [(engine, check) for engine in self.engines for check in engine.checks]

    def loss_remark(self, engine: EngineResult) -> str:
        """Which frames the engine's loss is not of, and the names of those it spoilt; "" where it is of all."""
        if engine.loss is None or not engine.loss.remark:
            return ""
        base = next(one for one in self.engines if one.is_reference)
        had = {frame.frame for frame in base.frames if frame.quality and math.isinf(frame.quality.psnr_db)}
        lost = [f.frame for f in engine.frames if f.frame in had and f.quality and math.isfinite(f.quality.psnr_db)]
        names = f"; spoilt: {', '.join(lost[:SHOWN])}{' and more' if len(lost) > SHOWN else ''}" if lost else ""
        return engine.loss.remark + names

    def to_json(self) -> dict[str, Any]:
        """Strict JSON values; infinite decibels are words."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return values

    def remark_on(self, engine: EngineResult, check: Check) -> str:
        """What a number alone does not say of a check, in brackets: frames of a loss, findings; "" for others."""
        remarks = {"psnr_loss_db_max": self.loss_remark(engine), FINDINGS: engine.findings_text}
        remark = remarks.get(check.budget, "")
        return f" ({remark})" if remark else ""

    def enforce(self) -> None:
        """Raise what this comparison should leave with, after the report has been written.

        BudgetError naming engine, budget and measured value of every broken budget; otherwise CrashError for engines
        that crashed, or InputError listing the frames that could not be compared.
        """
        broken = [(engine, check) for engine, check in self.checks if not check.kept]
        failed = "".join(
            f"\n  {failure.frame}{f' ({failure.engine})' if failure.engine else ''}: {failure.reason}"
            for failure in self.failures
        )
        crashed = [f"\n  {engine.name}: {engine.crashed}" for engine in self.engines if engine.crashed]
        crashed_lines = "".join(crashed)
        also = f"\nFrames that could not be compared:{failed}" if failed else ""
        if broken:
            lines = "".join(
                f"\n  {engine.name}: {check.budget} is {check.limit:g}, measured {_number(engine, check)}"
                f"{self.remark_on(engine, check)}"
                for engine, check in broken
            )
            raise BudgetError(f"{len(broken)} budget(s) broken:{lines}{also}")
        if crashed:
            raise CrashError(
                f"{len(crashed)} engine(s) crashed, the others are in the report; the same command goes on where they "
                f"stopped:{crashed_lines}{also}"
            )
        if self.failures:
            raise InputError(f"{len(self.failures)} comparison(s) failed, the others are in the report:{failed}")


def _number(engine: EngineResult, check: Check) -> str:
    if check.measured is None:
        return f"nothing ({engine.not_measured or engine.crashed or 'see the failed frames'})"
    return check.told
