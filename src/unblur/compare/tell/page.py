"""The report as one self-contained page: the answer first, then where it comes from. Nothing beside the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from unblur.compare.parts import Attention, Crop
from unblur.compare.report import Report, Strip, View
from unblur.compare.tell import answer as short
from unblur.compare.tell.pictures import WORST_HEADINGS, difference_lines, worst_rows
from unblur.compare.tell.plots import (
    BOTTOM,
    HEIGHT,
    LEFT,
    STRIP_HEIGHT,
    TOP,
    WIDTH,
    latency_ticks,
    longest_ms,
    paretos,
    samples_of,
)
from unblur.compare.tell.rates import HEADINGS as RATE_HEADINGS
from unblur.compare.tell.rates import TITLE as RATES
from unblur.compare.tell.rates import ceiling_lines, rate_rows
from unblur.compare.tell.sentences import (
    WORDS,
    broken_lines,
    failure_lines,
    how_measured,
    missing_lines,
    since_lines,
    verdict_sentence,
    when,
)
from unblur.compare.tell.table import (
    HEADINGS,
    LATENCY_COLUMNS,
    QUALITY_COLUMNS,
    check_text,
    columns_of,
    rows_of,
)
from unblur.compare.tell.waterfall import bars_of, how_far, ticks_of
from unblur.core.page import render

SECOND_LINES = {
    "latency": "spread",
    "speedup": "interval",
    "ssim": "ssim_channel",
    "psnr": "psnr_interval",
    "loss": "loss_interval",
}
"""Columns that stand in small print under another, so that the table fits a screen."""

PICTURES_MAX = 5_000_000
"""Bytes of all pictures of a page: with them it stays under 6 MB, however many frames were asked for."""


@dataclass(frozen=True)
class Slider:
    """Two pictures of one place of a frame, to be slid one over the other; `truth` beside them where there is any."""

    frame: str
    view: View
    before: Crop
    after: Crop


def render_page(report: Report) -> str:
    """HTML of the whole report, pictures inside as data URIs."""
    columns = [column for column in columns_of(report) if column not in SECOND_LINES.values()]
    told = short.answer(report)
    sliders, attention, strips, left_out = _pictures(report, told.best)
    return render(
        "compare/tell/page.html.jinja",
        f"engines of {report.network}",
        {
            **report.machine,
            **report.versions,
            "reference": f"{report.reference}, {report.reference_text}",
            "checkpoint": f"{report.checkpoint} {report.checkpoint_digest}",
            "measured": when(report),
        },
        report=report,
        answer=told,
        short_columns=short.columns_of(report),
        short_headings=short.HEADINGS,
        short_rows=short.short_rows(report),
        paretos=paretos(report, told.best),
        plot={"width": WIDTH, "height": HEIGHT, "left": LEFT, "bottom": BOTTOM, "top": TOP},
        columns=columns,
        groups=_groups(columns),
        second_lines=SECOND_LINES,
        headings=HEADINGS,
        rows=[asdict(row) for row in rows_of(report)],
        sentence=verdict_sentence(report),
        how=how_measured(report),
        broken=broken_lines(report),
        failures=failure_lines(report),
        missing=missing_lines(report),
        when=when(report),
        since=since_lines(report),
        samples=samples_of(report),
        rates=rate_rows({engine.name: engine.rates for engine in report.engines}),
        rate_headings=RATE_HEADINGS,
        rate_title=RATES,
        rate_how=ceiling_lines(report.ceilings, int(report.machine["usable_cores"])),
        waterfalls=bars_of(report),
        waterfall_how=how_far(report),
        waterfall_ticks=ticks_of(),
        strip_height=STRIP_HEIGHT,
        ticks=latency_ticks(longest_ms(report)),
        check_text=check_text,
        words=WORDS,
        worst=worst_rows(report),
        worst_headings=WORST_HEADINGS,
        differences=difference_lines(report),
        sliders=sliders,
        attention=attention,
        strips=strips,
        left_out=left_out,
    )


def _groups(columns: list[str]) -> list[tuple[str, int]]:
    """Headings above the headings, with the number of columns each spans."""
    groups = [("", 3), ("fidelity to the reference", 2)]
    for title, members in (("quality against truth", QUALITY_COLUMNS), ("latency", LATENCY_COLUMNS)):
        span = sum(column in members for column in columns)
        if span:
            groups.append((title, span))
    return groups


def _pictures(report: Report, best: str | None) -> tuple[list[Slider], list[Attention], list[Strip], int]:
    """What fits: sliders first, what the network looks at, then strips in their order; and how many of these do not."""
    sliders = [slider for strip in report.strips if (slider := _slider(strip, best or report.reference))]
    room = PICTURES_MAX
    shown = []
    for slider in sliders:
        room -= _size((slider.before, slider.after))
        if room >= 0:
            shown.append(slider)
    attention = []
    for one in report.attention:
        if _size(one.pictures) <= room:
            room -= _size(one.pictures)
            attention.append(one)
    strips = []
    for strip in report.strips:
        room -= _size((*strip.crops, *strip.differences))
        if room < 0:
            break
        strips.append(strip)
    left_out = len(report.strips) - len(strips) + len(report.attention) - len(attention)
    return shown, attention, strips, left_out


def _slider(strip: Strip, name: str) -> Slider | None:
    """Of the blurred input and what `name` made of it; None where the strip has no view, or the engine failed there."""
    if strip.view is None:
        return None
    pictures = {crop.caption: crop for crop in strip.view.pictures}
    if "blurred" not in pictures or name not in pictures:
        return None
    return Slider(strip.frame, strip.view, pictures["blurred"], pictures[name])


def _size(crops: Sequence[Crop]) -> int:
    return sum(len(crop.uri) for crop in crops)
