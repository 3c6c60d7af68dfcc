"""The report as one self-contained page: no script, no font, no file beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from unblur.compare.report import EngineResult, LatencySession, Report
from unblur.compare.tell.sentences import (
    broken_lines,
    failure_lines,
    how_measured,
    missing_lines,
    verdict_sentence,
    when,
)
from unblur.compare.tell.table import (
    HEADINGS,
    LATENCY_COLUMNS,
    QUALITY_COLUMNS,
    check_text,
    columns_of,
    milliseconds,
    rows_of,
)
from unblur.core.markdown import encodable

PLOT_HEIGHT = 56
SECOND_LINES = {"latency": "spread", "speedup": "interval", "ssim": "ssim_channel"}
"""Columns that stand in small print under another, so that the table fits a screen."""


@dataclass(frozen=True)
class Dot:
    """One raw sample: x in percent of the longest, y in pixels (first round on top)."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Plot:
    """The latency samples of one engine; positions in percent of the width, `limit` is None without a budget."""

    name: str
    is_reference: bool
    text: str
    median: float
    low: float
    high: float
    limit: float | None
    dots: tuple[Dot, ...]


def render_page(report: Report) -> str:
    """HTML of the whole report, pictures inside as data URIs."""
    environment = Environment(
        loader=PackageLoader("unblur", "compare/tell"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    columns = [column for column in columns_of(report) if column not in SECOND_LINES.values()]
    longest = _longest(report)
    page = environment.get_template("report.html.jinja").render(
        report=report,
        columns=columns,
        groups=_groups(columns),
        second_lines=SECOND_LINES,
        headings=HEADINGS,
        rows=[asdict(row) for row in rows_of(report)],
        sentence=verdict_sentence(report),
        state=_state(report),
        how=how_measured(report),
        broken=broken_lines(report),
        failures=failure_lines(report),
        missing=missing_lines(report),
        when=when(report),
        plots=[_plot(e, report.latency, longest) for e in report.engines if e.latency and report.latency],
        plot_height=PLOT_HEIGHT,
        ticks=[(100 * t / longest, f"{t:.6g}") for t in ticks(longest)],
        check_text=check_text,
    )
    return encodable(page)


def ticks(longest: float) -> list[float]:
    """Three to six round numbers from 0 up to `longest` (1, 2 or 5 times a power of ten apart)."""
    power = 10.0**-9
    while True:
        for step in (power, 2 * power, 5 * power):
            if longest / step <= 5:
                return [i * step for i in range(int(longest / step) + 1)]
        power *= 10


def _groups(columns: list[str]) -> list[tuple[str, int]]:
    """Headings above the headings, with the number of columns each spans."""
    groups = [("", 3), ("fidelity to the reference", 2)]
    for title, members in (("quality against truth", QUALITY_COLUMNS), ("latency", LATENCY_COLUMNS)):
        span = sum(column in members for column in columns)
        if span:
            groups.append((title, span))
    return groups


def _state(report: Report) -> str:
    if not report.checks:
        return "none"
    return "kept" if all(check.kept for _, check in report.checks) else "broken"


def _limit(engine: EngineResult) -> float | None:
    return next((check.limit for check in engine.checks if check.budget == "latency_ms_max"), None)


def _longest(report: Report) -> float:
    """Right end of the latency axis: every sample and every limit fits."""
    samples = [s.elapsed_ms for s in report.latency.samples if not s.warmup] if report.latency else []
    limits = [limit for engine in report.engines if (limit := _limit(engine)) is not None and engine.latency]
    return 1.04 * max([*samples, *limits], default=1.0)


def _plot(engine: EngineResult, session: LatencySession, longest: float) -> Plot:
    assert engine.latency is not None
    samples = [s for s in session.samples if s.name == engine.name and not s.warmup]
    top, height = 6.0, PLOT_HEIGHT - 12.0
    dots = tuple(
        Dot(
            x=100 * sample.elapsed_ms / longest,
            y=top + height * (sample.round + 0.5) / session.protocol.rounds,
            title=f"round {sample.round + 1}: {milliseconds(sample.elapsed_ms)} ms",
        )
        for sample in samples
    )
    summary, ratio = engine.latency.summary, engine.latency.speedup
    text = f"{milliseconds(summary.median_ms)} ms"
    if not engine.is_reference:
        text += f", {ratio.value:.2f}× ({ratio.low:.2f}–{ratio.high:.2f})"
    limit = _limit(engine)
    return Plot(
        name=engine.name,
        is_reference=engine.is_reference,
        text=text,
        median=100 * summary.median_ms / longest,
        low=100 * summary.p10_ms / longest,
        high=100 * summary.p90_ms / longest,
        limit=None if limit is None else 100 * limit / longest,
        dots=dots,
    )
