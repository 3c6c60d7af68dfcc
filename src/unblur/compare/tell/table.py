"""The main table of a report as text cells, the same on the page, in Markdown and on the console."""

from __future__ import annotations

from dataclasses import dataclass

from unblur.compare.report import Check, EngineResult, Report
from unblur.metrics.decibels import EMPTY, decibels_text
from unblur.metrics.quantiles import Interval


@dataclass(frozen=True)
class Row:
    """Cells of one engine. `verdict`: "reference", "kept", "broken", "no budget", "not measured" or "crashed"."""

    name: str
    verdict: str
    precision: str
    fidelity: str
    error: str
    psnr: str
    psnr_interval: str
    loss: str
    loss_interval: str
    ssim: str
    ssim_channel: str
    latency: str
    spread: str
    device: str
    whole: str
    speedup: str
    interval: str


HEADINGS = {
    "name": "engine",
    "verdict": "verdict",
    "precision": "precision",
    "fidelity": "fidelity, worst frame (dB)",
    "error": "largest error",
    "psnr": "PSNR (dB)",
    "psnr_interval": "PSNR, 95% interval",
    "loss": "PSNR lost (dB)",
    "loss_interval": "PSNR lost, 95% interval",
    "ssim": "SSIM (MATLAB)",
    "ssim_channel": "SSIM (per channel)",
    "latency": "median (ms)",
    "spread": "p10–p90 (ms)",
    "device": "on the GPU (ms)",
    "whole": "frame to frame (ms)",
    "speedup": "speed-up",
    "interval": "95% interval",
}
INTERVAL_COLUMNS = ("psnr_interval", "loss_interval")
QUALITY_COLUMNS = ("psnr", "psnr_interval", "loss", "loss_interval", "ssim", "ssim_channel")
LATENCY_COLUMNS = ("latency", "spread", "device", "whole", "speedup", "interval")


def columns_of(report: Report) -> list[str]:
    """The columns this report fills: none of quality without truth, no interval of one picture, none of latency
    without a session."""
    left_out = (() if report.has_truth else QUALITY_COLUMNS) + (() if report.latency else LATENCY_COLUMNS)
    left_out += () if any(engine.psnr_interval for engine in report.engines) else INTERVAL_COLUMNS
    if not any(engine.latency and engine.latency.end_to_end for engine in report.engines):
        left_out += ("whole",)
    if not any(engine.latency and engine.latency.device_ms for engine in report.engines):
        left_out += ("device",)
    return [column for column in HEADINGS if column not in left_out]


def rows_of(report: Report) -> list[Row]:
    """One row per engine, the blurred input first where there is truth to hold it against."""
    rows = []
    if report.blurred_quality:
        blurred = report.blurred_quality
        cells = dict.fromkeys(HEADINGS, EMPTY)
        cells |= {
            "name": "(blurred input)",
            "psnr": decibels_text(blurred.psnr_db),
            "ssim": _ssim(blurred.ssim_matlab),
            "ssim_channel": f"{blurred.ssim_per_channel:.4f}",
            "verdict": "",
        }
        rows.append(Row(**cells))
    return rows + [_row(engine) for engine in report.engines]


def milliseconds(value: float) -> str:
    """Three or four digits that mean something."""
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def interval_text(interval: Interval | None, digits: int = 2, *, signed: bool = False) -> str:
    """Its bounds."""
    if interval is None:
        return EMPTY
    low, high = (decibels_text(bound, digits, signed=signed) for bound in (interval.low, interval.high))
    return f"{low} to {high}"


def check_text(check: Check) -> str:
    """One budget in words: "speedup_min 1.35: measured 1.52"."""
    measured = "nothing" if check.measured is None else check.told
    return f"{check.budget} {check.limit:g}: measured {measured}"


def _row(engine: EngineResult) -> Row:
    cells = dict.fromkeys(HEADINGS, EMPTY)
    cells |= {"name": engine.name, "verdict": _verdict(engine)}
    cells["precision"] = engine.description.get("precision", EMPTY)
    if engine.worst_fidelity_db is not None and not engine.is_reference:
        cells |= {"fidelity": decibels_text(engine.worst_fidelity_db, 1), "error": _error(engine)}
    if engine.mean_quality:
        cells |= {
            "psnr": decibels_text(engine.mean_quality.psnr_db),
            "psnr_interval": interval_text(engine.psnr_interval),
            "loss_interval": interval_text(engine.loss_interval, 3, signed=True),
            "loss": EMPTY if engine.is_reference or engine.psnr_loss_db is None else _loss(engine.psnr_loss_db),
            "ssim": _ssim(engine.mean_quality.ssim_matlab),
            "ssim_channel": f"{engine.mean_quality.ssim_per_channel:.4f}",
        }
    if engine.latency:
        summary, ratio = engine.latency.summary, engine.latency.speedup
        whole, alone = engine.latency.end_to_end, engine.latency.device_ms
        cells |= {
            "latency": milliseconds(summary.median_ms),
            "spread": f"{milliseconds(summary.p10_ms)}–{milliseconds(summary.p90_ms)}",
            "device": milliseconds(alone) if alone else EMPTY,
            "whole": milliseconds(whole.summary.median_ms) if whole else EMPTY,
            "speedup": f"{ratio.value:.2f}×",
            "interval": EMPTY if engine.is_reference else f"{ratio.low:.2f}–{ratio.high:.2f}",
        }
    return Row(**cells)


def _verdict(engine: EngineResult) -> str:
    if engine.crashed:
        return "crashed"
    if engine.not_measured and not engine.checks:
        return "not measured"
    if not engine.checks:
        return "reference" if engine.is_reference else "no budget"
    return "kept" if all(check.kept for check in engine.checks) else "broken"


def _ssim(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.4f}"


def _loss(value: float) -> str:
    return "0.000" if abs(value) < 0.0005 else decibels_text(value, 3, signed=True)


def _error(engine: EngineResult) -> str:
    """The largest error over all frames: of the tensors where there are any, else in levels of 255."""
    tensors = [f.fidelity.tensor_max_error for f in engine.frames if f.fidelity.tensor_max_error is not None]
    if tensors:
        return f"{max(tensors):.1e}"
    return f"{max(f.fidelity.frame_max_error for f in engine.frames)}/255"
