"""The X-ray as one self-contained page: no script, no font, no file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unblur.core.page import render
from unblur.engines.xray.kernel_kinds import KINDS
from unblur.engines.xray.report import Row, XRayReport
from unblur.engines.xray.roofline import ASSUMPTIONS, NOTE
from unblur.engines.xray.text import (
    KERNEL_HEADINGS,
    RIGHT,
    ROOFLINE_HEADINGS,
    activation_line,
    arithmetic_line,
    kernel_cells,
    roofline_cells,
    sum_cells,
)

COLOURS = {kind: f"var(--c{place % 8})" for place, kind in enumerate(KINDS)}
WIDTH, UP, DOWN = 1140, 220, 110
"""Pixels of the chart: its width, the height for bytes (upwards) and for arithmetic (downwards)."""

AXIS = UP + 18
LETTER = 7
"""Pixels a letter takes; a block too narrow for its name goes without."""

SUM_HEADINGS = ["kernels", "MB", "share", "GMAC"]


@dataclass(frozen=True)
class Bar:
    """One kernel: `y` and `height` from the top of its bytes to the end of its arithmetic."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    title: str


@dataclass(frozen=True)
class Section:
    """One engine for one target, ready to be laid out: tables as cells, the chart as bars and (x, name) of blocks."""

    heading: str
    head: str
    sentence: str
    kinds: list[list[str]]
    colours: dict[str, str]
    blocks: list[list[str]]
    bars: list[Bar]
    marks: list[tuple[float, str]]
    axis: str
    broken: bool
    verdict: str
    findings: list[list[str]]
    rooflines: list[list[str]]
    kernel_headings: list[str]
    kernels: list[list[str]]


def render_page(reports: Sequence[XRayReport]) -> str:
    """HTML of all reports, one after the other."""
    subjects = ", ".join(dict.fromkeys(report.subject for report in reports))
    made_by = ", ".join(dict.fromkeys(f"{report.product} {report.version}" for report in reports))
    targets = ", ".join(dict.fromkeys(report.target for report in reports))
    gpus = ", ".join(dict.fromkeys(line.gpu.name for report in reports for line in report.rooflines))
    return render(
        "engines/xray/page.html.jinja",
        f"X-ray of {subjects}",
        {"compiled by": made_by, "targets": targets, "GPUs of the roofline": gpus or "none"},
        sections=[_section(report) for report in reports],
        numbers=RIGHT,
        sums=SUM_HEADINGS,
        roofline_headings=ROOFLINE_HEADINGS,
        note=NOTE,
        assumptions=ASSUMPTIONS,
        width=WIDTH,
        axis=AXIS,
        down=DOWN,
    )


def _section(report: XRayReport) -> Section:
    facts, kinds = report.facts, report.by_kind()
    broken = [finding for finding in report.findings if finding.broken]
    asked = ", ".join(dict.fromkeys(convolution.asked for convolution in facts.convolutions))
    if broken:
        verdict = f"{len(broken)} promises broken: the precision that was asked for is not there."
    else:
        verdict = f"All {len(facts.convolutions)} convolutions run in the type the graph asks for ({asked})."
    most_bytes = max((row.kernel.bytes_moved for row in report.rows), default=0) or 1
    most_macs = max((row.macs or 0 for row in report.rows), default=0) or 1
    return Section(
        heading=report.subject,
        head=f"{report.network or 'a network without a name'}, {facts.height}×{facts.width}, {report.precision}, "
        f"{report.product} {report.version}, target {report.target}",
        sentence=f"{len(report.rows)} kernels move {report.bytes_moved / 1e9:.3f} GB a frame, every tensor of every "
        f"kernel once; {activation_line(report)}; {arithmetic_line(report)}.",
        kinds=[[*sum_cells(total), KINDS[total.name]] for total in kinds],
        colours={total.name: COLOURS[total.name] for total in kinds},
        blocks=[sum_cells(total) for total in report.by_block()],
        bars=_bars(report, most_bytes, most_macs),
        marks=_marks(report),
        axis=f"up: bytes, at most {most_bytes / 1e6:.1f} MB; down: multiply-accumulates, at most "
        f"{most_macs / 1e9:.2f} G; left to right in launch order",
        broken=bool(broken),
        verdict=verdict,
        findings=[[f.rule, f"{f.bytes_moved / 1e6:.2f}", f.subject, f.text] for f in report.findings],
        rooflines=[roofline_cells(line, report.target) for line in report.rooflines],
        kernel_headings=[
            *KERNEL_HEADINGS,
            "tensors",
            *([f"bound ({report.rooflines[0].gpu.name})"] if report.rooflines else []),
        ],
        kernels=_kernels(report),
    )


def _step(report: XRayReport) -> float:
    return WIDTH / max(len(report.rows), 1)


def _bars(report: XRayReport, most_bytes: int, most_macs: int) -> list[Bar]:
    """A bar a kernel: bytes upwards, arithmetic downwards."""
    step = _step(report)
    bars = []
    for k, row in enumerate(report.rows):
        up = UP * row.kernel.bytes_moved / most_bytes
        down = DOWN * (row.macs or 0) / most_macs
        bars.append(Bar(k * step, AXIS - up, max(step - 0.6, 0.6), up + down, COLOURS[row.kind], _title(k, row)))
    return bars


def _marks(report: XRayReport) -> list[tuple[float, str]]:
    """Where a new block begins, and its name where there is room for it."""
    step, rows = _step(report), report.rows
    starts = [k for k, row in enumerate(rows) if k == 0 or row.block != rows[k - 1].block]
    return [
        (k * step, rows[k].block if (end - k) * step > LETTER * len(rows[k].block) else "")
        for k, end in zip(starts, [*starts[1:], len(rows)], strict=True)
    ]


def _title(number: int, row: Row) -> str:
    macs = "arithmetic unknown" if row.macs is None else f"{row.macs / 1e9:.3f} GMAC"
    nodes = ", ".join(row.kernel.nodes) or row.kernel.name
    return f"#{number} {row.kind}, {row.block}, {row.runs_in}\n{row.kernel.bytes_moved / 1e6:.2f} MB, {macs}\n{nodes}"


def _kernels(report: XRayReport) -> list[list[str]]:
    bounds = report.rooflines[0].bounds if report.rooflines else None
    rows = []
    for number, row in enumerate(report.rows):
        kernel = row.kernel
        tensors = " | ".join(
            f"{word} " + "; ".join(f"{t.type} {'x'.join(map(str, t.shape)) or 'scalar'}" for t in group)
            for word, group in (("in", kernel.inputs), ("constant", kernel.constants), ("out", kernel.outputs))
            if group
        )
        limit = [f"{bounds[number].bound_by}, {bounds[number].ms * 1e3:.2f} µs at least"] if bounds else []
        rows.append([*kernel_cells(number, row), tensors, *limit])
    return rows
