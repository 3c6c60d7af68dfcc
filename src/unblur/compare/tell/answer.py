"""The answer of a report: may it ship, which engine is best within the budgets, what it costs and what it gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unblur.compare.judge.noise import noise_of
from unblur.compare.judge.verdict import spoils
from unblur.compare.report import EngineResult, Report
from unblur.compare.tell.table import Row, milliseconds, rows_of
from unblur.metrics.decibels import EMPTY, decibels_text, gain_decibels

INVISIBLE_DB = 0.0005
"""A difference of PSNR below this is none at three digits."""

MAY_SHIP = {"kept": "yes", "broken": "no", "no budget": "no budget"}


@dataclass(frozen=True)
class Answer:
    """`state`: which budgets hold: all, those of some engines, those of no engine; "none": none was held against any.
    `best`: name of the best engine, if any.
    """

    state: Literal["kept", "some", "broken", "none"]
    sentence: str
    cost: str
    best: str | None


def answer(report: Report) -> Answer:
    """The best engine is the fastest of those that keep every budget; where nothing was timed, the most faithful."""
    candidates = [e for e in report.engines if not e.is_reference and e.worst_fidelity_db is not None]
    judged = bool(report.checks)
    kept = [e for e in candidates if e.checks and all(check.kept for check in e.checks)]
    broken = [e.name for e in report.engines if any(not check.kept for check in e.checks)]
    choice = kept if judged else candidates
    timed = [e for e in choice if e.latency]
    best = _fastest(timed) if timed else max(choice, key=lambda e: e.worst_fidelity_db or 0.0, default=None)
    if best is None:
        sentence = "Nothing may ship: no engine keeps its budgets." if judged else "No engine was compared."
        return Answer("broken" if judged else "none", sentence, "", None)
    praise = "the fastest" if timed else "the most faithful"
    noisy = ", in a noisy run" if timed and report.latency and noise_of(report.latency, report.machine) else ""
    if not judged:
        sentence = f"No budget was stated, so nothing here is judged. {_capital(praise)} engine is {best.name}{noisy}."
        return Answer("none", sentence, cost(report, best), best.name)
    rivals = timed or kept
    which = "timed engines" if 0 < len(timed) < len(kept) else "engines"
    group = (
        f"{praise} of {len(rivals)} {which} that keep their budgets{noisy}"
        if len(rivals) > 1
        else "it keeps its budgets"
    )
    sentence = f"{best.name} may ship: {group}."
    if broken:
        sentence += f" {_listed(broken)} may not."
    if spoils(best):  # nothing is green beside a red warning
        sentence = f"{best.name} keeps its budgets, but its pictures are worse than its blurred input."
        return Answer("none", sentence, cost(report, best), best.name)
    return Answer("some" if broken else "kept", sentence, cost(report, best), best.name)


def cost(report: Report, engine: EngineResult) -> str:
    """What an engine costs and gains, in a sentence."""
    parts = []
    if engine.latency and report.latency:
        summary, ratio = engine.latency.summary, engine.latency.speedup
        frame = f"{milliseconds(summary.median_ms)} ms a {report.latency.height}×{report.latency.width} frame"
        times = f"{ratio.value:.2f} times as fast as {report.reference}"
        parts.append(
            f"{frame}, {times if ratio.differs or engine.is_reference else f'no difference to {report.reference}'}"
        )
    if engine.mean_quality:
        psnr = f"{decibels_text(engine.mean_quality.psnr_db)} dB of PSNR"
        loss = engine.psnr_loss_db
        if loss is None or abs(loss) < INVISIBLE_DB:
            parts.append(f"{psnr}, none lost")
        else:
            parts.append(
                f"{psnr}, {decibels_text(abs(loss), 3)} dB {'lost' if loss > 0 else 'more than the reference'}"
            )
        gain = gain_db(report, engine)
        if gain is not None:
            parts.append(f"{decibels_text(gain, signed=True)} dB on the blurred input")
    parts.append(f"fidelity {decibels_text(engine.worst_fidelity_db, 1)} dB on the worst frame")
    if engine.cost:
        parts.append(f"{engine.cost.peak_mib:.0f} MiB of memory at most")
    return _capital("; ".join(parts)) + "."


def gain_db(report: Report, engine: EngineResult) -> float | None:
    """Mean PSNR that an engine gained on its blurred input, in dB; None without truth or without a result. Reports of
    old have only the two means."""
    if engine.gain_db is not None:
        return engine.gain_db
    if not engine.mean_quality or not report.blurred_quality:
        return None
    return gain_decibels(report.blurred_quality.psnr_db, engine.mean_quality.psnr_db)


HEADINGS = {
    "ships": "may it ship",
    "latency": "a frame (ms)",
    "speedup": "as fast",
    "gain": "gain on the input (dB)",
    "loss": "PSNR lost (dB)",
    "fidelity": "fidelity, worst frame (dB)",
}


def columns_of(report: Report) -> list[str]:
    """Columns of the short table that this report fills."""
    left_out = {"latency", "speedup"} if not report.latency else set()
    left_out |= {"gain", "loss"} if not report.has_truth else set()
    return [column for column in HEADINGS if column not in left_out]


def short_rows(report: Report) -> list[dict[str, str]]:
    """One row an engine under HEADINGS with its name and verdict, the fastest first; what was not measured is last."""
    full: dict[str, Row] = {row.name: row for row in rows_of(report)}

    def order(engine: EngineResult) -> tuple[bool, bool, float, str]:
        latency = engine.latency.summary.median_ms if engine.latency else 0.0
        return engine.not_measured is not None, engine.latency is None, latency, engine.name

    rows = []
    for engine in sorted(report.engines, key=order):
        row = full[engine.name]
        gain = gain_db(report, engine)
        rows.append(
            {
                "name": row.name,
                "verdict": row.verdict,
                "ships": _ships(engine, row.verdict),
                "latency": row.latency,
                "speedup": row.speedup,
                "gain": EMPTY if gain is None else decibels_text(gain, signed=True),
                "loss": row.loss,
                "fidelity": row.fidelity,
            }
        )
    return rows


def _ships(engine: EngineResult, verdict: str) -> str:
    kept_yet_worse = verdict == "kept" and spoils(engine)
    return "worse than its input" if kept_yet_worse else MAY_SHIP.get(verdict, verdict)


def _fastest(engines: list[EngineResult]) -> EngineResult:
    return min(engines, key=lambda e: e.latency.summary.median_ms if e.latency else float("inf"))


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
