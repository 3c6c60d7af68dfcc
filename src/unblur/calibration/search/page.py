"""A search as files: report.json with everything, report.md to read in a terminal, report.html to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from unblur.calibration.search.search import Point, SearchResult, Sensitivity
from unblur.core.artefacts import json_bytes, write_together
from unblur.core.markdown import encodable, escaped, table_row
from unblur.metrics.decibels import decibels_text

WIDTH, BARS, FRONT = 1200, 240, 320
"""Pixels: width of both pictures, height of the bars, height of the front."""

ROOM = 60
"""Pixels left of the pictures and below the front, for their axes."""

TOP_DB = 90.0
"""What keeps more is drawn at this height: nothing to decide there, and the rest would lie flat."""

STYLE = """
:root { color-scheme: light }
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 1240px; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem } .note { color: #555; max-width: 60rem }
table { border-collapse: collapse; font-size: 13px } th, td { padding: .2rem .7rem; text-align: right;
  border-bottom: 1px solid #e3e3e3; font-variant-numeric: tabular-nums; white-space: nowrap }
svg { width: 100%; height: auto; display: block } svg text { font: 11px system-ui, sans-serif; fill: #555 }
.chosen { font-weight: 600 } .wide { overflow-x: auto }
.recipe td { white-space: normal; overflow-wrap: anywhere; text-align: left }
"""
EIGHT, WIDE, OUT = "#33658a", "#e07a1f", "#b9bec4"
"""Colours: in 8 bits in the chosen assignment, left wider, beyond the budget."""


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


HEADINGS = ("point", "8-bit MACs", "groups in 8 / 16 / 32 bits", "fidelity dB", "PSNR lost dB", "cost", "")


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
    rows = ""
    for row in rows_of(report):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        rows += f"<tr{' class=chosen' if 'chosen' in row[-1] else ''}>{cells}</tr>"
    recipe = "".join(f"<tr><td>{escape(k)}</td><td>{escape(str(v))}</td></tr>" for k, v in report.recipe.items())
    return encodable(
        "<!doctype html><html lang=en><meta charset=utf-8><title>unblur: precision search</title>"
        f"<style>{STYLE}</style><h1>Precision search</h1><p>{escape(summary(report))}</p>"
        f"<p class=note>{escape(' '.join(report.notes))}</p>"
        "<h2>Where 8 bits hurt: each group alone in 8 bits, along the network</h2>"
        f"<p class=note>Height: how little fidelity it leaves (higher is worse); blue went to 8 bits, "
        f"orange stayed wider.</p>{_bars(report.result.sensitivities, report.result.chosen)}"
        f"<h2>Decibels against {escape(report.unit)}</h2>"
        "<p class=note>Every measured assignment; the line is the front that no other beats, the ring is the choice, "
        f"grey is beyond the budget; what keeps {TOP_DB:.0f} dB and more stands at the top.</p>{_front(report)}"
        f"<h2>All points</h2><div class=wide><table><tr>{''.join(f'<th>{h}</th>' for h in HEADINGS)}</tr>{rows}</table>"
        f"</div><h2>What repeats it</h2><table class=recipe>{recipe}</table></html>\n"
    )


def _bars(sensitivities: Sequence[Sensitivity], chosen: Point) -> str:
    values = [s.fidelity_db for s in sensitivities]
    top = min(values) - 3
    span = max(1.0, min(100.0, max(values)) + 3 - top)
    step = (WIDTH - ROOM) / len(values)
    parts = []
    for tick in range(5):
        y = tick / 4 * BARS
        parts.append(f'<text x="4" y="{max(y, 10):.0f}">{top + tick / 4 * span:.1f} dB</text>')
        parts.append(f'<line x1="{ROOM}" x2="{WIDTH}" y1="{y:.0f}" y2="{y:.0f}" stroke="#e6e6e6"/>')
    for k, s in enumerate(sensitivities):
        height = max(2.0, BARS * (1 - (min(s.fidelity_db, 100.0) - top) / span))
        colour = EIGHT if chosen.assignment[s.group] == 8 else WIDE
        x = ROOM + k * step
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{BARS - height:.1f}" width="{step - 2:.1f}" height="{height:.1f}" '
            f'fill="{colour}"><title>{escape(s.group)}: {s.fidelity_db:.2f} dB</title></rect>'
            f'<text transform="translate({x + step / 2 + 3:.1f},{BARS + 6}) rotate(90)">{escape(s.group)}</text>'
        )
    longest = max(len(s.group) for s in sensitivities)
    return f'<svg viewBox="0 0 {WIDTH} {BARS + 12 + 7.5 * longest:.0f}" role="img">{"".join(parts)}</svg>'


def _front(report: SearchReport) -> str:
    points = report.result.points
    costs = [p.cost for p in points]
    levels = [min(p.fidelity_db, TOP_DB) for p in points]
    left, right = min(costs), max(costs)
    low, high = min(levels) - 1, max(levels) + 1

    def at(point: Point) -> tuple[float, float]:
        across = (point.cost - left) / (right - left) if right > left else 0.5
        up = (min(point.fidelity_db, TOP_DB) - low) / (high - low)
        return ROOM + 20 + across * (WIDTH - ROOM - 60), (FRONT - ROOM) * (1 - up) + 10

    parts = []
    for k in range(5):
        x = ROOM + 20 + k / 4 * (WIDTH - ROOM - 60)
        y = (FRONT - ROOM) * (1 - k / 4) + 10
        parts.append(
            f'<text x="{x:.0f}" y="{FRONT - ROOM + 32}" text-anchor="middle">{left + k / 4 * (right - left):.4g}</text>'
        )
        parts.append(f'<text x="4" y="{y + 4:.0f}">{low + k / 4 * (high - low):.1f} dB</text>')
        parts.append(f'<line x1="{ROOM}" x2="{WIDTH - 20}" y1="{y:.0f}" y2="{y:.0f}" stroke="#e6e6e6"/>')
    parts.append(f'<text x="{WIDTH / 2:.0f}" y="{FRONT - 8}">{escape(report.unit)}</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, report.result.front))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{EIGHT}" stroke-width="1.5"/>')
    for point in points:
        x, y = at(point)
        title = f"{_cost(point)}, {point.fidelity_db:.2f} dB, {point.share:.0%} of MACs in 8 bits"
        colour = EIGHT if point.allowed else OUT
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"><title>{title}</title></circle>')
        if point == report.result.chosen:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="10" fill="none" stroke="{WIDE}" stroke-width="2.5"/>')
    return f'<svg viewBox="0 0 {WIDTH} {FRONT}" role="img">{"".join(parts)}</svg>'


def _cost(point: Point) -> str:
    return f"{point.cost:.4g}"
