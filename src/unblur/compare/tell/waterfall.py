"""Where decibels are lost, in words and as bars: the same steps in Markdown, on the console and on the page."""

from __future__ import annotations

from dataclasses import dataclass

from unblur.compare.parts import Step, Waterfall
from unblur.compare.report import EngineResult, Report
from unblur.compare.tell.plots import HIGHEST_DB
from unblur.core.page import Tick, round_steps
from unblur.metrics.decibels import decibels_text

BAR, GAP = 18, 4
"""Pixels of a bar and below it."""


@dataclass(frozen=True)
class Bar:
    """One step: pixels from the top, percent of the width."""

    y: int
    width: float
    text: str
    costliest: bool


@dataclass(frozen=True)
class Bars:
    """The waterfall of one engine; `height` in pixels."""

    name: str
    text: str
    height: int
    bars: tuple[Bar, ...]


def waterfall_lines(report: Report) -> list[str]:
    """One line an engine: fidelity after each step, and which step costs most."""
    return [f"{engine.name}: {_sentence(engine.waterfall)}" for engine in _measured(report) if engine.waterfall]


def how_far(report: Report) -> str:
    """What the waterfalls were measured on, "" where there are none."""
    counts = {
        f"{fall.frames} frame(s) of {fall.height}x{fall.width}"
        for engine in report.engines
        if (fall := engine.waterfall) and fall.steps
    }
    if not counts:
        return ""
    return (
        f"Fidelity to {report.reference} after each step, PSNR in dB over {', '.join(sorted(counts))}: graphs as they "
        "are written, in ONNX Runtime, with every rounding that they ask for; then what the engine gave. In brackets: "
        "what the step costs alone, against the step before."
    )


def bars_of(report: Report) -> list[Bars]:
    """One chart an engine, all on one axis; what is more faithful than HIGHEST_DB fills it."""
    charts = []
    for engine in _measured(report):
        fall = engine.waterfall
        assert fall is not None
        cost = costliest(fall)
        bars = tuple(
            Bar(
                y=k * (BAR + GAP),
                width=max(0.0, min(100.0, 100 * step.fidelity_db / HIGHEST_DB)),
                text=_step(step),
                costliest=step is cost,
            )
            for k, step in enumerate(fall.steps)
        )
        charts.append(Bars(engine.name, _cost(fall), len(bars) * (BAR + GAP), bars))
    return charts


def ticks_of() -> list[Tick]:
    """Round decibels with their place in percent."""
    return [Tick(100 * db / HIGHEST_DB, f"{db:g}") for db in round_steps(HIGHEST_DB)]


def costliest(fall: Waterfall) -> Step | None:
    """The step that takes most by itself; None where none takes more than rounding in float32 does."""
    worst = min(fall.steps, key=lambda step: step.alone_db, default=None)
    return None if worst is None or worst.alone_db > HIGHEST_DB else worst


def _measured(report: Report) -> list[EngineResult]:
    return [engine for engine in report.engines if engine.waterfall is not None]


def _sentence(fall: Waterfall) -> str:
    steps = " -> ".join(_step(step) for step in fall.steps)
    return f"{steps}; {_cost(fall)}" if steps else _cost(fall)


def _step(step: Step) -> str:
    alone = "" if step.alone_db == step.fidelity_db else f" [{decibels_text(step.alone_db, 1)}]"
    return f"{step.name} {decibels_text(step.fidelity_db, 1)}{alone}"


def _cost(fall: Waterfall) -> str:
    cost = costliest(fall)
    if cost is not None:
        told = f"the {cost.name} costs most" if len(fall.steps) > 1 else "no graph, so no step between"
    else:
        told = "nothing is lost but rounding in float32" if fall.steps else "not measured"
    return f"{told} (missing: {fall.missing})" if fall.missing else told
