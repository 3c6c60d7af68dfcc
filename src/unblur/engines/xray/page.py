"""The X-ray as one self-contained page: no script, no font, no file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from unblur.engines.xray.kernel_kinds import (
    CONVOLUTION,
    COPY,
    EPILOGUE,
    GEMM,
    KINDS,
    OTHER,
    PIXELS,
    REQUANTISATION,
    STRIPS,
)
from unblur.engines.xray.report import Row, XRayReport
from unblur.engines.xray.roofline import ASSUMPTIONS, NOTE, KernelBound
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

COLOURS = {
    CONVOLUTION: "#33658a",
    GEMM: "#86bbd8",
    STRIPS: "#7a9e59",
    COPY: "#c1121f",
    REQUANTISATION: "#e07a1f",
    EPILOGUE: "#b5179e",
    PIXELS: "#8d99ae",
    OTHER: "#4a4a4a",
}
WIDTH, UP, DOWN = 1200, 220, 110
"""Pixels of the chart: its width, the height for bytes (upwards) and for arithmetic (downwards)."""

LETTER = 7
"""Pixels a letter takes; a block too narrow for its name goes without."""

STYLE = """
:root { color-scheme: light }
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 1240px; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 2.5rem 0 .3rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; font-size: 13px } th, td { padding: .2rem .7rem; text-align: left;
  border-bottom: 1px solid #e3e3e3; vertical-align: top } td.n, th.n { text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap }
svg { width: 100%; height: auto; display: block } svg text { font: 11px system-ui, sans-serif; fill: #555 }
rect:hover { opacity: .6 } .key span { display: inline-block; margin-right: 1.2rem; white-space: nowrap }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; vertical-align: -1px }
.broken { color: #a4000f; font-weight: 600 } .note { color: #555; max-width: 60rem }
details { margin-top: 1rem } summary { cursor: pointer; font-weight: 600 } .wide { overflow-x: auto }
"""


def render_page(reports: Sequence[XRayReport]) -> str:
    """HTML of all reports, one after the other."""
    body = "\n".join(_section(report) for report in reports)
    title = escape(", ".join(dict.fromkeys(report.subject for report in reports)))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>X-ray: {title}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _section(report: XRayReport) -> str:
    facts = report.facts
    head = (
        f"{report.network or 'a network without a name'}, {facts.height}x{facts.width}, {report.precision}, "
        f"{report.product} {report.version}, target {report.target}"
    )
    bound = report.rooflines[0].bounds if report.rooflines else None
    kinds = [[*sum_cells(total), KINDS[total.name]] for total in report.by_kind()]
    return "\n".join(
        [
            f"<h1>{escape(report.subject)}</h1>",
            f"<p>{escape(head)}<br>{len(report.rows)} kernels move <b>{report.bytes_moved / 1e9:.3f} GB</b> a frame, "
            f"every tensor of every kernel once; {activation_line(report)}; "
            f"{escape(arithmetic_line(report))}.</p>",
            f"<h2>Kernels along the network</h2>{_key(report)}{_chart(report)}",
            f"<h2>By kind</h2>{_table(['kind', 'kernels', 'MB', 'share', 'GMAC', 'what it is'], kinds)}",
            f"<h2>Audit</h2>{_audit(report)}",
            f'<h2>Roofline: {NOTE}</h2><p class="note">{escape(ASSUMPTIONS)}</p>'
            + _table(ROOFLINE_HEADINGS, [roofline_cells(line, report.target) for line in report.rooflines]),
            "<h2>By block of the network</h2>"
            + _table(["block", "kernels", "MB", "share", "GMAC"], [sum_cells(total) for total in report.by_block()]),
            f"<details><summary>Every kernel with its tensors</summary>{_kernels(report, bound)}</details>",
        ]
    )


def _key(report: XRayReport) -> str:
    spans = (f'<span><i style="background:{COLOURS[total.name]}"></i>{total.name}</span>' for total in report.by_kind())
    return f'<p class="key">{"".join(spans)}</p>'


def _chart(report: XRayReport) -> str:
    """A bar a kernel: bytes upwards, arithmetic downwards; a line and a name where a new block begins."""
    most_bytes = max((row.kernel.bytes_moved for row in report.rows), default=0) or 1
    most_macs = max((row.macs or 0 for row in report.rows), default=0) or 1
    step = WIDTH / max(len(report.rows), 1)
    axis = UP + 18
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {axis + DOWN + 22}" role="img" aria-label="bytes and arithmetic of each kernel">'
    ]
    starts = [k for k, row in enumerate(report.rows) if k == 0 or row.block != report.rows[k - 1].block]
    for k, end in zip(starts, [*starts[1:], len(report.rows)], strict=True):
        block = report.rows[k].block
        parts.append(f'<line x1="{k * step:.1f}" x2="{k * step:.1f}" y1="0" y2="{axis + DOWN}" stroke="#ddd"/>')
        if (end - k) * step > LETTER * len(block):
            parts.append(f'<text x="{k * step + 2:.1f}" y="10">{escape(block)}</text>')
    for k, row in enumerate(report.rows):
        x = k * step
        up = UP * row.kernel.bytes_moved / most_bytes
        down = DOWN * (row.macs or 0) / most_macs
        parts.append(
            f'<rect x="{x:.2f}" y="{axis - up:.2f}" width="{max(step - 0.6, 0.6):.2f}" height="{up + down:.2f}" '
            f'fill="{COLOURS[row.kind]}"><title>{escape(_title(k, row))}</title></rect>'
        )
    parts.append(f'<line x1="0" x2="{WIDTH}" y1="{axis}" y2="{axis}" stroke="#fff" stroke-width="1.5"/>')
    parts.append(
        f'<text x="0" y="{axis + DOWN + 16}">up: bytes, at most {most_bytes / 1e6:.1f} MB; down: '
        f"multiply-accumulates, at most {most_macs / 1e9:.2f} G; left to right in launch order</text></svg>"
    )
    return "".join(parts)


def _title(number: int, row: Row) -> str:
    macs = "arithmetic unknown" if row.macs is None else f"{row.macs / 1e9:.3f} GMAC"
    nodes = ", ".join(row.kernel.nodes) or row.kernel.name
    return f"#{number} {row.kind}, {row.block}, {row.runs_in}\n{row.kernel.bytes_moved / 1e6:.2f} MB, {macs}\n{nodes}"


def _audit(report: XRayReport) -> str:
    broken = [finding for finding in report.findings if finding.broken]
    asked = ", ".join(dict.fromkeys(convolution.asked for convolution in report.facts.convolutions))
    if broken:
        verdict = f'<p class="broken">{len(broken)} promises broken: the precision that was asked for is not there.</p>'
    else:
        count = len(report.facts.convolutions)
        verdict = f"<p>All {count} convolutions run in the type the graph asks for ({escape(asked)}).</p>"
    rows = [[f.rule, f"{f.bytes_moved / 1e6:.2f}", f.subject, f.text] for f in report.findings]
    return verdict + (_table(["finding", "MB", "subject", "what"], rows) if rows else "<p>No other finding.</p>")


def _kernels(report: XRayReport, bounds: tuple[KernelBound, ...] | None) -> str:
    headings = [*KERNEL_HEADINGS, "tensors"] + ([f"bound ({report.rooflines[0].gpu.name})"] if bounds else [])
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
    return _table(headings, rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = [' class="n"' if heading in RIGHT else "" for heading in headings]
    head = "".join(f"<th{mark}>{escape(text)}</th>" for text, mark in zip(headings, marks, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{escape(cell)}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
