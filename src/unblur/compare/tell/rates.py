"""What engines make of their devices, in words: achieved rates against the most that the very machine gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unblur.compare.judge.noise import BUSY
from unblur.compare.timing import Ceilings, Rates
from unblur.metrics.decibels import EMPTY

TITLE = "Of what this machine gives"
HEADINGS = {
    "name": "engine",
    "precision": "precision",
    "tera": "TOP/s",
    "share": "of the peak",
    "bytes": "GB/s",
    "memory": "of memory's",
}


def rate_rows(rates: Mapping[str, Rates | None]) -> list[dict[str, str]]:
    """Cells under HEADINGS of every engine that has rates."""
    return [
        {
            "name": name,
            "precision": found.precision,
            "tera": f"{found.tera_per_s:.3g}",
            "share": EMPTY if found.share is None else f"{found.share:.0%}",
            "bytes": f"{found.gb_s:.3g}",
            "memory": f"{found.memory_share:.0%}",
        }
        for name, found in rates.items()
        if found
    ]


def ceiling_lines(ceilings: Sequence[Ceilings], cores: int) -> list[str]:
    """What was reached, and how the table is to be read; none without ceilings."""
    lines = []
    for one in ceilings:
        peaks = ", ".join(f"{peak.tera_per_s:.3g} in {peak.precision} ({peak.by})" for peak in one.peaks)
        lines.append(
            f"The most that {one.device} gave here on {one.threads} thread(s): {peaks} TOP/s, a multiply-add being two "
            f"operations (float: TFLOP/s); memory {one.memory_gb_s:.3g} GB/s."
        )
        if one.load is not None and one.load > BUSY * cores:
            lines.append(f"Others were at work when that was measured (load {one.load:.1f}): these peaks are too low.")
    if lines:
        lines.append(
            "TOP/s: twice the multiply-adds of the exact graph over the median of `run`. GB/s: if each layer that "
            "multiplies reads its map and weights once and writes its result once, in its own precision, over the "
            "same; maps that stay in a cache cost memory nothing, so this may be more than memory gives."
        )
    return lines
