"""A search as files: report.json with everything, report.md to read in a terminal, report.html to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unblur.calibration.search.search import Point, SearchResult, Sensitivity
from unblur.core.artefacts import json_bytes, write_together
from unblur.core.markdown import escaped, table_row
from unblur.core.page import Tick, render
from unblur.metrics.decibels import decibels_text

WIDTH, BARS, FRONT = 1140, 240, 320
"""Pixels: width of both pictures, height of the bars, height of the front."""

ROOM = 60
"""Pixels left of the pictures and below the front, for their axes."""

TOP_DB = 90.0
"""What keeps more is drawn at this height: nothing to decide there, and the rest would lie flat."""

EIGHT, WIDE, OUT = "var(--c0)", "var(--c4)", "var(--c6)"
"""Colours: in 8 bits in the chosen assignment, left wider, beyond the budget."""


@dataclass(frozen=True)
class Bar:
    """How much fidelity one group alone in 8 bits leaves: the higher the bar, the less. Pixels."""

    x: float
    width: float
    height: float
    colour: str
    name: str
    title: str


@dataclass(frozen=True)
class Spot:
    """One measured assignment at its cost and fidelity. Pixels."""

    x: float
    y: float
    colour: str
    title: str
    chosen: bool


@dataclass(frozen=True)
class SearchReport:
    """A result, the unit of its cost ("ms on openvino"), the sentence of its budget, and what repeats it.

    notes: sentences of what a reader should know besides, such as what the engine really runs.
    """

    result: SearchResult
    unit: str
    budget: str
    recipe: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For report.json."""
        head = {"unit": self.unit, "budget": self.budget, "recipe": dict(self.recipe), "notes": list(self.notes)}
        return head | self.result.to_json()


def write_search(report: SearchReport, folder: Path, others: Mapping[Path, bytes] | None = None) -> Path:
    """Write the three files and `others` that belong to them, all or none; returns the page.

    Raises InputError as `atomic_paths`.
    """
    page = folder / "report.html"
    told = {folder / "report.md": render_markdown(report).encode(), page: render_page(report).encode()}
    write_together({**(others or {}), **told, folder / "report.json": json_bytes(report.to_json())})
    return page


HEADINGS = ("point", "8-bit MACs", "groups in 8 / 16 / 32 bits", "fidelity dB", "PSNR lost dB", "cost", "remark")


def rows_of(report: SearchReport) -> list[tuple[str, ...]]:
    """Cells of every measured point by rising cost; the last says what is special about it."""
    rows: list[tuple[str, ...]] = []
    for point in report.result.points:
        bits = list(point.assignment.values())
        marks = ["chosen"] if point == report.result.chosen else []
        marks += ["the widest"] if point == report.result.widest else []
        marks += ["on the front"] if point in report.result.front else []
        marks += [] if point.allowed else ["beyond the budget"]
        loss = "" if point.psnr_loss_db is None else decibels_text(point.psnr_loss_db, 4, signed=True)
        counts = " / ".join(str(bits.count(level)) for level in (8, 16, 32))
        numbers = (f"{point.share:.1%}", counts, f"{point.fidelity_db:.2f}", loss, _cost(point))
        rows.append((str(point.number), *numbers, ", ".join(marks)))
    return rows


def summary(report: SearchReport) -> str:
    """What was found, in one sentence."""
    chosen, widest = report.result.chosen, report.result.widest
    loss = (
        "" if chosen.psnr_loss_db is None else f", {decibels_text(chosen.psnr_loss_db, 4, signed=True)} dB of PSNR lost"
    )
    reached = f"fidelity {chosen.fidelity_db:.1f} dB{loss}"
    if chosen == widest:
        return (
            f"{report.budget}: nothing in 8 bits that keeps this is cheaper than the network without ({_cost(widest)} "
            f"{report.unit}); {reached}."
        )
    return (
        f"{report.budget}: {chosen.share:.0%} of the multiply-accumulates in 8 bits, {_cost(chosen)} {report.unit}, "
        f"{widest.cost / chosen.cost:.2f} times cheaper than without ({_cost(widest)}); {reached}."
    )


def render_markdown(report: SearchReport) -> str:
    """Summary, points and sensitivities as tables."""
    told = (summary(report), "", f"Cost: {report.unit}.", *report.notes)
    lines = ["# Precision search", "", *map(escaped, told), ""]
    lines += [table_row(HEADINGS), table_row(["---:"] * 6 + ["---"]), *map(table_row, rows_of(report))]
    lines += [
        "",
        "## Each group alone in 8 bits",
        "",
        table_row(("group", "fidelity dB", "PSNR lost dB", "chosen bits")),
    ]
    lines.append(table_row(("---", "---:", "---:", "---:")))
    for s in report.result.sensitivities:
        loss = "" if s.psnr_loss_db is None else decibels_text(s.psnr_loss_db, 4, signed=True)
        lines.append(table_row((s.group, f"{s.fidelity_db:.2f}", loss, str(report.result.chosen.assignment[s.group]))))
    return "\n".join(lines) + "\n"


def render_page(report: SearchReport) -> str:
    """One self-contained page: no script, no font, no file beside it."""
    result = report.result
    bars, bar_ticks = _bars(result.sensitivities, result.chosen)
    spots, across, up = _front(report)
    places = {point.number: spot for point, spot in zip(result.points, spots, strict=True)}
    longest = max(len(bar.name) for bar in bars)
    return render(
        "calibration/search/page.html.jinja",
        "precision search",
        report.recipe,
        report=report,
        summary=summary(report),
        headings=HEADINGS,
        numbers=HEADINGS[:-1],
        rows=rows_of(report),
        bars=bars,
        bar_ticks=bar_ticks,
        bars_height=BARS + 12 + 7.5 * longest,
        spots=spots,
        line=[places[point.number] for point in result.front],
        across=across,
        up=up,
        size={"width": WIDTH, "bars": BARS, "front": FRONT, "room": ROOM},
        colours={"8 bits": EIGHT, "wider": WIDE},
        top_db=TOP_DB,
    )


def _bars(sensitivities: Sequence[Sensitivity], chosen: Point) -> tuple[list[Bar], list[Tick]]:
    values = [s.fidelity_db for s in sensitivities]
    top = min(values) - 3
    span = max(1.0, min(100.0, max(values)) + 3 - top)
    step = (WIDTH - ROOM) / len(values)
    bars = [
        Bar(
            x=ROOM + k * step,
            width=step,
            height=max(2.0, BARS * (1 - (min(s.fidelity_db, 100.0) - top) / span)),
            colour=EIGHT if chosen.assignment[s.group] == 8 else WIDE,
            name=s.group,
            title=f"{s.group}: {s.fidelity_db:.2f} dB",
        )
        for k, s in enumerate(sensitivities)
    ]
    return bars, [Tick(tick / 4 * BARS, f"{top + tick / 4 * span:.1f} dB") for tick in range(5)]


def _front(report: SearchReport) -> tuple[list[Spot], list[Tick], list[Tick]]:
    points = report.result.points
    costs = [p.cost for p in points]
    levels = [min(p.fidelity_db, TOP_DB) for p in points]
    left, right = min(costs), max(costs)
    low, high = min(levels) - 1, max(levels) + 1

    def x_of(share: float) -> float:
        return ROOM + 20 + share * (WIDTH - ROOM - 60)

    def y_of(share: float) -> float:
        return (FRONT - ROOM) * (1 - share) + 10

    spots = [
        Spot(
            x=x_of((point.cost - left) / (right - left) if right > left else 0.5),
            y=y_of((level - low) / (high - low)),
            colour=EIGHT if point.allowed else OUT,
            title=f"{_cost(point)}, {point.fidelity_db:.2f} dB, {point.share:.0%} of MACs in 8 bits",
            chosen=point == report.result.chosen,
        )
        for point, level in zip(points, levels, strict=True)
    ]
    across = [Tick(x_of(k / 4), f"{left + k / 4 * (right - left):.4g}") for k in range(5)]
    up = [Tick(y_of(k / 4), f"{low + k / 4 * (high - low):.1f} dB") for k in range(5)]
    return spots, across, up


def _cost(point: Point) -> str:
    return f"{point.cost:.4g}"
