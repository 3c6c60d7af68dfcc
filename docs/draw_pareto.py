"""Draw decibels against milliseconds of committed comparisons: docs/pareto/NAME.svg of compare/baselines/NAME.

The same plot as on the page of the report, for a light and a dark ground.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path

from unblur.compare.report import Report
from unblur.compare.tell.plots import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, Pareto, paretos

STYLE = """
svg { --ink: #1c1d1f; --soft: #5b6067; --line: #dfe1e4; --accent: #2457c5; --plain: #6b7178; --card: #fff; }
@media (prefers-color-scheme: dark) {
  svg { --ink: #ecedee; --soft: #a6abb2; --line: #33373c; --accent: #85abff; --plain: #9aa0a8; --card: #131416; }
}
.card { fill: var(--card); } text { fill: var(--soft); font: 12px system-ui, sans-serif; } .name { fill: var(--ink); }
line { stroke: var(--line); } .input { stroke: var(--soft); stroke-dasharray: 2 3; }
.front { fill: none; stroke: var(--accent); stroke-width: 1.5; stroke-opacity: .55; }
.mark { fill: var(--accent); } .mark.reference { fill: var(--plain); }
"""


def drawings(root: Path) -> Iterator[tuple[Path, str]]:
    """Each drawing's file and what it holds."""
    for file in sorted((root / "compare/baselines").glob("*/report.json")):
        values = json.loads(file.read_text())
        if str(values.get("form", "")).startswith("unblur comparison") and values["latency"]:
            plots = paretos(Report.model_validate(values), None)
            yield root / "docs/pareto" / f"{file.parent.name}.svg", svg(plots)


def svg(plots: list[Pareto]) -> str:
    """One below the other."""
    height = (HEIGHT + 24) * len(plots)
    label = escape(". ".join(f"{one.title}: {one.text}" for one in plots), quote=True)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
        f'<rect class="card" width="{WIDTH}" height="{height}"/>',
    ]
    for number, one in enumerate(plots):
        lines += [f'<g transform="translate(0 {(HEIGHT + 24) * number + 24})">', *_plot(one), "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def _plot(one: Pareto) -> Iterator[str]:
    foot = HEIGHT - BOTTOM
    yield f'<text class="name" x="{LEFT}" y="-6">{escape(one.title)} (dB)</text>'
    for tick in one.up:
        yield f'<line x1="{LEFT}" x2="{WIDTH}" y1="{tick.at:.1f}" y2="{tick.at:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{tick.at + 4:.1f}" text-anchor="end">{tick.text}</text>'
    for tick in one.across:
        yield f'<line x1="{tick.at:.1f}" x2="{tick.at:.1f}" y1="{TOP}" y2="{foot}"/>'
        yield f'<text x="{tick.at:.1f}" y="{foot + 16}" text-anchor="middle">{tick.text}</text>'
    middle = (LEFT + WIDTH) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">ms a frame (median, logarithmic)</text>'
    if one.inputs is not None:
        yield f'<line class="input" x1="{LEFT}" x2="{WIDTH}" y1="{one.inputs:.1f}" y2="{one.inputs:.1f}"/>'
        yield f'<text x="{LEFT + 6}" y="{one.inputs - 5:.1f}">blurred input</text>'
    yield f'<polyline class="front" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in one.front)}"/>'
    for mark in one.marks:
        yield (
            f'<circle class="mark {mark.kind}" cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="{mark.radius:.1f}">'
            f"<title>{escape(mark.title)}</title></circle>"
        )
        yield f'<text class="name" x="{mark.label_x:.1f}" y="{mark.label_y:.1f}">{escape(mark.name)}</text>'
