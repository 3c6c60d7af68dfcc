"""The X-ray as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from unblur.engines.xray.kernel_kinds import KINDS
from unblur.engines.xray.profile_times import Measured
from unblur.engines.xray.report import Row, Sum, XRayReport
from unblur.engines.xray.roofline import ASSUMPTIONS, BYTES_BOUND, NOTE, Roofline

SHOWN_KERNELS = 10
SHOWN_FINDINGS = 12

RIGHT = frozenset({"kernels", "findings", "MB", "share", "GMAC", "GB/s", "at least, ms", "bytes alone",
                   "arithmetic alone", "bound by bytes", "bound by arithmetic", "#",
                   "measured, us", "at least, us", "times"})  # fmt: skip
"""Headings of columns that hold numbers."""


def describe(report: XRayReport, every_kernel: bool = False) -> str:
    """All tables of one engine, ending in an empty line."""
    facts = report.facts
    lines = [
        f"{report.subject}: {report.network or 'a network without a name'}, {facts.height}x{facts.width}, "
        f"{report.precision}, {report.product} {report.version}, target {report.target}",
        f"{len(report.rows)} kernels move {report.bytes_moved / 1e9:.3f} GB a frame (each tensor of each kernel once)",
        activation_line(report),
        arithmetic_line(report),
        "",
        *_table(["kind", "kernels", "MB", "share", "GMAC", "what it is"],
                [[*sum_cells(total), KINDS[total.name]] for total in report.by_kind()]),
        "",
        *_table(["block", "kernels", "MB", "share", "GMAC"], [sum_cells(total) for total in report.by_block()]),
        "",
        *_findings(report),
        "",
        *_rooflines(report),
        "",
        *_kernels(report, every_kernel),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def activation_line(report: XRayReport) -> str:
    """The builder tells the memory of the activations, the inspector does not."""
    memory = f"take {report.activation_bytes / 1e6:.1f} MB" if report.activation_bytes else "are not listed"
    return f"activations {memory}"


def arithmetic_line(report: XRayReport) -> str:
    """Multiply-accumulates by the kernels and by the graph, in one sentence."""
    unknown = f"; {report.unknown_macs} kernels do not tell theirs" if report.unknown_macs else ""
    return (
        f"convolutions: {report.convolution_macs / 1e9:.3f} GMAC by the kernels' shapes, "
        f"{report.facts.convolution_macs / 1e9:.3f} by the graph's{unknown}"
    )


def sum_cells(total: Sum) -> list[str]:
    """Name, kernels, megabytes, share of the bytes, GMAC."""
    return [
        total.name,
        str(total.kernels),
        f"{total.bytes_moved / 1e6:.1f}",
        f"{total.share:.1%}",
        f"{total.macs / 1e9:.2f}",
    ]


ROOFLINE_HEADINGS = ["GPU", "GB/s", "at least, ms", "bytes alone", "arithmetic alone", "bound by bytes",
                     "bound by arithmetic"]  # fmt: skip


def roofline_cells(line: Roofline, target: str) -> list[str]:
    """Under ROOFLINE_HEADINGS; a GPU of another family than the engine's is marked."""
    figures = line.to_json()
    foreign = target.startswith("sm") and line.gpu.target != target
    return [
        line.gpu.name + (f" ({line.gpu.target}, kernels are of {target})" if foreign else f" ({line.gpu.target})"),
        f"{line.gpu.bandwidth:g}",
        f"{line.ms:.3f}",
        f"{figures['bytes_alone_ms']:.3f}",
        f"{figures['arithmetic_alone_ms']:.3f}",
        str(figures["kernels_bound_by_bytes"]),
        str(figures["kernels_bound_by_arithmetic"]),
    ]


def kernel_cells(number: int, row: Row) -> list[str]:
    """Number, kind, block, type, megabytes, GMAC, result, nodes."""
    outputs = ", ".join("x".join(map(str, t.shape)) for t in row.kernel.outputs)
    return [
        str(number),
        row.kind,
        row.block,
        row.runs_in,
        f"{row.kernel.bytes_moved / 1e6:.2f}",
        "?" if row.macs is None else f"{row.macs / 1e9:.3f}",
        outputs,
        ", ".join(row.kernel.nodes) or row.kernel.name,
    ]


KERNEL_HEADINGS = ["#", "kind", "block", "runs in", "MB", "GMAC", "writes", "network layers"]


def describe_measured(measured: Measured) -> str:
    """Measured times beside their lower bounds: the sums, and the kernels that lie furthest above."""
    lines = [
        f"measured on {measured.gpu}: {measured.ms:.3f} ms in {len(measured.kernels)} kernels, at least "
        f"{measured.bound_ms:.3f} by the roofline; profiling runs without a CUDA graph and is slower than a frame",
    ]
    if measured.besides:
        lines.append(f"{len(measured.besides)} layers that are no kernels took {measured.besides_ms:.3f} ms besides")
    if measured.below:
        lines.append(
            f"{len(measured.below)} kernels are faster than their bound, such as {measured.below[0].kernel.name}: "
            "their maps stay in the cache, or this is another GPU"
        )
    worst = sorted(measured.kernels, key=lambda kernel: kernel.bound.ms - kernel.ms)[:SHOWN_KERNELS]
    rows = [
        [f"{k.ms * 1e3:.2f}", f"{k.bound.ms * 1e3:.2f}", "-" if k.times_bound is None else f"{k.times_bound:.1f}",
         k.bound.bound_by, ", ".join(k.kernel.nodes) or k.kernel.name]
        for k in worst
    ]  # fmt: skip
    headings = ["measured, us", "at least, us", "times", "bound by", "network layers"]
    return "\n".join([*lines, f"the {len(worst)} kernels furthest above their bound", *_table(headings, rows), ""])


def _findings(report: XRayReport) -> list[str]:
    broken = [finding for finding in report.findings if finding.broken]
    asked = ", ".join(dict.fromkeys(convolution.asked for convolution in report.facts.convolutions))
    if not broken:
        count = len(report.facts.convolutions)
        lines = [f"audit: all {count} convolutions run in the type the graph asks for ({asked})"]
    else:
        lines = [f"audit: {len(broken)} promises broken"]
        lines += [f"  {finding.subject}: {finding.text}" for finding in broken[:SHOWN_FINDINGS]]
        if len(broken) > SHOWN_FINDINGS:
            lines.append(f"  ... and {len(broken) - SHOWN_FINDINGS} more")
    rules = [[total.name, str(total.kernels), f"{total.bytes_moved / 1e6:.1f}", f"{total.share:.1%}"]
             for total in report.by_rule()]  # fmt: skip
    return [*lines, *(_table(["finding", "findings", "MB", "share"], rules) if rules else [])]


def _rooflines(report: XRayReport) -> list[str]:
    if not report.rooflines:
        return [f"roofline: no figures are known of a GPU for {report.target}; name others with --gpu"]
    rows = [roofline_cells(line, report.target) for line in report.rooflines]
    return [f"roofline: {NOTE}. {ASSUMPTIONS}", *_table(ROOFLINE_HEADINGS, rows)]


def _kernels(report: XRayReport, every: bool) -> list[str]:
    numbered = list(enumerate(report.rows))
    if every:
        title, chosen = "kernels, in launch order", numbered
    else:
        chosen = sorted(numbered, key=lambda pair: -pair[1].kernel.bytes_moved)[:SHOWN_KERNELS]
        title = f"the {len(chosen)} kernels that move most; --kernels shows all, --html and --json with their tensors"
    headings, rows = list(KERNEL_HEADINGS), [kernel_cells(number, row) for number, row in chosen]
    if report.rooflines:
        line = report.rooflines[0]
        headings.insert(6, f"bound ({line.gpu.name})")
        for (number, _), cells in zip(chosen, rows, strict=True):
            cells.insert(6, "bytes" if line.bounds[number].bound_by == BYTES_BOUND else "arithmetic")
    return [title, *_table(headings, rows)]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in [headings, *rows]) for k in range(len(headings))]
    lines = []
    for row in [headings, *rows]:
        cells = [
            cell.rjust(width) if heading in RIGHT else cell.ljust(width)
            for cell, width, heading in zip(row, widths, headings, strict=True)
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
