"""What single pictures say: the worst of them, and engines beside each other picture by picture."""

from __future__ import annotations

from unblur.compare.parts import Difference, WorstFrame
from unblur.compare.report import Report
from unblur.compare.tell.table import interval_text
from unblur.metrics.decibels import decibels_text, gain_decibels

WORST_HEADINGS = {
    "frame": "picture",
    "engine": "engine",
    "fidelity": "fidelity (dB)",
    "psnr": "PSNR (dB)",
    "loss": "PSNR lost (dB)",
}


def worst_rows(report: Report) -> list[dict[str, str]]:
    """One row a picture under WORST_HEADINGS, the worst first."""
    return [
        {
            "frame": worst.frame,
            "engine": worst.engine,
            "fidelity": decibels_text(worst.fidelity_db, 1),
            "psnr": decibels_text(worst.psnr_db),
            "loss": decibels_text(_loss(worst), 3, signed=True),
        }
        for worst in report.worst
    ]


def worst_lines(report: Report) -> list[str]:
    """One sentence a picture, the worst first."""
    lines = []
    for worst in report.worst:
        truth = ""
        if worst.psnr_db is not None:
            truth = f"; PSNR {decibels_text(worst.psnr_db)} dB, {decibels_text(_loss(worst), 3, signed=True)} lost"
        lines.append(f"{worst.frame} ({worst.engine}): fidelity {decibels_text(worst.fidelity_db, 1)} dB{truth}")
    return lines


def difference_lines(report: Report) -> list[str]:
    """One sentence for every two engines, those that differ first and the largest difference first."""
    ordered = sorted(report.differences, key=lambda one: (one.is_none, -one.psnr_db.value))
    return [_difference(one) for one in ordered]


def _difference(one: Difference) -> str:
    size, over = one.psnr_db, f"over {one.pictures} pictures"
    if size.low == size.high == 0:
        return f"{one.better} and {one.other}: the same PSNR on each of {one.pictures} pictures"
    interval = f"{decibels_text(size.value, 3)} dB ({interval_text(size, 3, signed=True)})"
    if one.is_none:
        return f"{one.better} and {one.other}: no difference: {interval} {over}"
    return f"{one.better} is {interval} above {one.other} {over}"


def _loss(worst: WorstFrame) -> float | None:
    if worst.psnr_db is None or worst.reference_psnr_db is None:
        return None
    return gain_decibels(worst.psnr_db, worst.reference_psnr_db)
