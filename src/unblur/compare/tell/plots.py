"""The two plots of a report, laid out: decibels against milliseconds, and every sample of the latency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unblur.compare.report import EngineResult, Report
from unblur.compare.tell.table import milliseconds
from unblur.compare.timing import LatencySession
from unblur.core.page import Tick, round_steps
from unblur.metrics.decibels import decibels_text

STRIP_HEIGHT = 56
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 320, 46, 44, 12
"""Pixels of a plot of decibels against milliseconds, and what its axes take."""

HIGHEST_DB = 100.0
"""Fidelity above this is drawn here: float32 rounding, nothing to decide, and the rest would lie flat."""

RADIUS = 5.5
"""Pixels of a mark; where memory was measured, of the engine that takes least."""

LETTER, LINE = 6.7, 15.0
"""Pixels that a letter and a line of a label take."""


@dataclass(frozen=True)
class Dot:
    """One raw sample: x in percent of the longest, y in pixels (first round on top)."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Samples:
    """The latency samples of one engine; positions in percent of the width, `limit` is None without a budget."""

    name: str
    is_reference: bool
    text: str
    median: float
    low: float
    high: float
    limit: float | None
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Mark:
    """One engine. `kind`: "best", "kept", "broken", "plain" or "reference". The label is at (`label_x`, `label_y`)."""

    name: str
    kind: str
    x: float
    y: float
    label_x: float
    label_y: float
    title: str
    radius: float = RADIUS


@dataclass(frozen=True)
class Pareto:
    """Decibels (upwards) against milliseconds (to the right, logarithmic); `front`: corners of the line that no engine
    lies above of; `limits`: (name, x or y place, is it milliseconds) of budgets of all engines; `inputs`: the place of
    the blurred input's decibels, or None."""

    title: str
    unit: str
    text: str
    marks: tuple[Mark, ...]
    front: tuple[tuple[float, float], ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    limits: tuple[tuple[str, float, bool], ...]
    inputs: float | None


def paretos(report: Report, best: str | None) -> list[Pareto]:
    """PSNR against truth where there is any, and fidelity to the reference; none without latency."""
    timed = [e for e in report.engines if e.latency and e.worst_fidelity_db is not None]
    if len(timed) < 2:
        return []
    found = []
    if report.blurred_quality and all(e.mean_quality for e in timed):
        points = [(e, e.mean_quality.psnr_db) for e in timed if e.mean_quality]
        if all(math.isfinite(db) for _, db in points) and math.isfinite(report.blurred_quality.psnr_db):
            found.append(
                _pareto(report, best, points, "PSNR against the sharp pictures", report.blurred_quality.psnr_db)
            )
    near = [(e, min(e.worst_fidelity_db or 0.0, HIGHEST_DB)) for e in timed if not e.is_reference]
    if near:
        found.append(_pareto(report, best, near, "Fidelity to the reference, worst frame", None))
    return found


def _pareto(
    report: Report, best: str | None, points: Sequence[tuple[EngineResult, float]], title: str, blurred: float | None
) -> Pareto:
    times = [e.latency.summary.median_ms for e, _ in points if e.latency]
    every = report.budgets.get("*", {})
    latency_max = every.get("latency_ms_max")
    level_min = every.get("fidelity_db_min") if blurred is None else None
    ends = [*times, latency_max] if latency_max else times
    left, right = math.log(min(ends) / 1.25), math.log(max(ends) * 1.25)
    levels = [db for _, db in points] + [v for v in (blurred, level_min) if v is not None and v <= HIGHEST_DB]
    pad = max(0.1 if blurred is not None else 2.0, 0.12 * (max(levels) - min(levels)))
    low, high = min(levels) - pad, max(levels) + pad

    def x_of(ms: float) -> float:
        return LEFT + (WIDTH - LEFT - 8) * (math.log(ms) - left) / (right - left)

    def y_of(db: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - db) / (high - low)

    places = [(x_of(ms), y_of(db)) for ms, (_, db) in zip(times, points, strict=True)]
    least = min((e.cost.peak_mib for e, _ in points if e.cost), default=0.0)
    labels = _labels(places, [e.name for e, _ in points])
    marks = tuple(
        Mark(
            name=e.name,
            kind=_kind(e, best),
            x=x,
            y=y,
            label_x=label_x,
            label_y=label_y,
            title=f"{e.name}: {milliseconds(ms)} ms, {_level(e, blurred is not None)} dB{_memory(e)}",
            radius=_radius(e, least),
        )
        for ms, (e, _), (x, y), (label_x, label_y) in zip(times, points, places, labels, strict=True)
    )
    limits = [("latency_ms_max", x_of(latency_max), True)] if latency_max else []
    limits += [("fidelity_db_min", y_of(level_min), False)] if level_min is not None and level_min <= high else []
    step = round_steps(high - low)[1]
    ticks = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return Pareto(
        title=title,
        unit="dB",
        text="; ".join(mark.title for mark in marks),
        marks=marks,
        front=_front(places),
        across=tuple(Tick(x_of(ms), f"{ms:g}") for ms in _decades(math.exp(left), math.exp(right))),
        up=tuple(Tick(y_of(db), f"{db:.{max(0, -math.floor(math.log10(step)))}f}") for db in ticks),
        limits=tuple(limits),
        inputs=None if blurred is None else y_of(blurred),
    )


def _memory(engine: EngineResult) -> str:
    return f", {engine.cost.peak_mib:.0f} MiB" if engine.cost else ""


def _radius(engine: EngineResult, least_mib: float) -> float:
    """A mark's area is its engine's memory, up to nine times the smallest."""
    return RADIUS * min(3.0, math.sqrt(engine.cost.peak_mib / least_mib)) if engine.cost else RADIUS


def _kind(engine: EngineResult, best: str | None) -> str:
    if engine.is_reference:
        return "reference"
    if any(not check.kept for check in engine.checks):
        return "broken"
    return "best" if engine.name == best else "kept" if engine.checks else "plain"


def _level(engine: EngineResult, quality: bool) -> str:
    if quality and engine.mean_quality:
        return decibels_text(engine.mean_quality.psnr_db)
    return decibels_text(engine.worst_fidelity_db, 1)


def _front(places: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Steps through the places that no other is both left of and above, from left to right."""
    corners: list[tuple[float, float]] = []
    for x, y in sorted(places):
        if not corners or y < corners[-1][1]:
            if corners:
                corners.append((x, corners[-1][1]))
            corners.append((x, y))
    return tuple(corners)


def _decades(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis, finer where there would be fewer than three."""
    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    found: list[float] = []
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(1 + k / 4 for k in range(36))):
        found = [float(f"{power * step:.6g}") for power in powers for step in steps if low <= power * step <= high]
        if len(found) >= 3:
            break
    return found


def _labels(places: Sequence[tuple[float, float]], names: Sequence[str]) -> list[tuple[float, float]]:
    """Where each label begins (its left end, its baseline): beside its mark, over no other mark and no other label."""
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in places]
    found = []
    for (x, y), name in zip(places, names, strict=True):
        width = LETTER * len(name)
        sides = [(x + 11, y + 4), (x - 11 - width, y + 4), (x - width / 2, y - 12), (x - width / 2, y + 22)]
        sides += [(x + 8, y + 4 + k * LINE) for k in (-1, 1)] + [(x - 8 - width, y + 4 + k * LINE) for k in (-1, 1)]
        sides += [(x - width / 2, y - 12 - k * LINE) for k in (1, 2)]
        sides += [(x - width / 2, y + 22 + k * LINE) for k in (1, 2)]
        # In a crowd: anywhere above or below, the nearest first, which touches the edge before it leaves the plot.
        within = min(max(x - width / 2, LEFT), WIDTH - width)
        farther = [(within + dx, y + 4 + dy) for dx in range(-120, 121, 12) for dy in range(-150, 151, 15)]
        sides += sorted(farther, key=lambda one: math.hypot(one[0] - within, one[1] - 4 - y))
        place = next((one for one in sides if _free(one, width, taken)), (within, y - 12))
        taken.append(_box(place, width))
        found.append(place)
    return found


def _box(place: tuple[float, float], width: float) -> tuple[float, float, float, float]:
    return place[0], place[1] - LINE + 4, place[0] + width, place[1] + 3


def _free(place: tuple[float, float], width: float, taken: Sequence[tuple[float, float, float, float]]) -> bool:
    left, top, right, bottom = _box(place, width)
    if left < LEFT or right > WIDTH or top < 0 or bottom > HEIGHT - BOTTOM:
        return False
    return all(right < a or left > c or bottom < b or top > d for a, b, c, d in taken)


def longest_ms(report: Report) -> float:
    """Right end of the latency axis: every sample and every limit fits."""
    samples = [s.elapsed_ms for s in report.latency.samples if not s.warmup] if report.latency else []
    limits = [limit for engine in report.engines if (limit := _limit(engine)) is not None and engine.latency]
    return 1.04 * max([*samples, *limits], default=1.0)


def latency_ticks(longest: float) -> list[Tick]:
    """Round milliseconds with their place in percent."""
    return [Tick(100 * t / longest, f"{t:.6g}") for t in round_steps(longest)]


def samples_of(report: Report) -> list[Samples]:
    """One strip an engine that was timed."""
    longest = longest_ms(report)
    session = report.latency
    return [_samples(engine, session, longest) for engine in report.engines if engine.latency and session]


def _limit(engine: EngineResult) -> float | None:
    return next((check.limit for check in engine.checks if check.budget == "latency_ms_max"), None)


def _samples(engine: EngineResult, session: LatencySession, longest: float) -> Samples:
    assert engine.latency is not None
    top, height = 6.0, STRIP_HEIGHT - 12.0
    dots = tuple(
        Dot(
            x=100 * sample.elapsed_ms / longest,
            y=top + height * (sample.round + 0.5) / session.protocol.rounds,
            title=f"round {sample.round + 1}: {milliseconds(sample.elapsed_ms)} ms",
        )
        for sample in session.samples
        if sample.name == engine.name and not sample.warmup
    )
    summary, ratio = engine.latency.summary, engine.latency.speedup
    text = f"{milliseconds(summary.median_ms)} ms"
    if not engine.is_reference:
        text += f", {ratio.value:.2f}× ({ratio.low:.2f}–{ratio.high:.2f}){'' if ratio.differs else ', no difference'}"
    if tail := engine.latency.quantiles:
        of = (f"{name} {milliseconds(q.value)} ({milliseconds(q.low)}–{milliseconds(q.high)})"
              for name, q in (("p50", tail.p50), ("p95", tail.p95), ("p99", tail.p99)))  # fmt: skip
        text += f"; {', '.join(of)}"
    limit = _limit(engine)
    return Samples(
        name=engine.name,
        is_reference=engine.is_reference,
        text=text,
        median=100 * summary.median_ms / longest,
        low=100 * summary.p10_ms / longest,
        high=100 * summary.p90_ms / longest,
        limit=None if limit is None else 100 * limit / longest,
        dots=dots,
    )
