"""What a report says in words, the same in Markdown and on the page."""

from __future__ import annotations

from datetime import datetime

from unblur.compare.judge.budgets import EVERY_CANDIDATE
from unblur.compare.report import LatencySession, Report
from unblur.compare.tell.table import check_text

BUSY = 1.25
"""Load per core above which others were at work: this process alone makes about 1."""

WORDS = {
    "reference": "what engines are held against: the network in PyTorch, eager, float32 (engine `torch`); or a graph "
    "that you name",
    "candidate": "an engine that is compared",
    "truth": "the sharp picture that belongs to a blurred one",
    "fidelity": "candidate against reference, as PSNR in dB on the worst frame: does the engine do what the network "
    "does? It says nothing of whether the network is any good",
    "quality": "anything against truth, as PSNR and SSIM: is the picture good?",
    "PSNR lost": "the reference's quality less the candidate's, in dB; below zero the candidate happens to be nearer "
    "to the truth",
    "gain on the input": "quality of the result less quality of the blurred input, in dB: what the deblurring does "
    "at all",
    "latency": "milliseconds from a frame's tensor to the result's, median of interleaved rounds; reading and writing "
    "files is not in it",
    "as fast, speed-up": "the reference's median over the engine's",
    "budget": "a limit that you state: decibels or milliseconds. Broken: exit code 3",
    "front": "the engines that no other beats in both decibels and milliseconds",
}
"""The words of a report, as docs/glossary.md has them."""


def when(report: Report) -> str:
    """Date and time of the comparison for people."""
    return f"{datetime.fromisoformat(report.created_utc):%Y-%m-%d %H:%M} UTC"


def verdict_sentence(report: Report) -> str:
    """Budgets kept, broken, or none stated, and which engines the budget of all was not held against."""
    checks = report.checks
    broken = sum(not check.kept for _, check in checks)
    skipped = [engine.name for engine in report.engines if engine.not_measured]
    passed_over = ""
    if skipped and EVERY_CANDIDATE in report.budgets:
        passed_over = f" The budget of all engines was not held against {', '.join(skipped)}: not measured."
    if broken:
        return f"{broken} of {len(checks)} budgets broken.{passed_over}"
    if checks:
        return f"All {len(checks)} budgets kept.{passed_over}"
    if report.budgets:
        return f"No budget was held against anything.{passed_over}"
    return "No budget was stated: this report measures and does not judge."


def broken_lines(report: Report) -> list[str]:
    """One line per broken budget: engine, limit, measured value."""
    return [
        f"{engine.name}: {check_text(check)}{report.remark_on(engine, check)}"
        for engine, check in report.checks
        if not check.kept
    ]


def failure_lines(report: Report) -> list[str]:
    """One line per frame that could not be compared."""
    return [
        f"{failure.frame}{f' ({failure.engine})' if failure.engine else ''}: {failure.reason}"
        for failure in report.failures
    ]


def missing_lines(report: Report) -> list[str]:
    """One line per engine that this machine cannot run."""
    return [f"{engine.name}: {engine.not_measured}" for engine in report.engines if engine.not_measured]


def how_measured(report: Report) -> list[str]:
    """What the columns mean and under which conditions they were taken."""
    count = max(len(engine.frames) for engine in report.engines)
    lines = [
        f"Fidelity: PSNR of an engine against the reference ({report.reference}, {report.reference_text}) on the worst "
        f"of {count} frame(s): float tensors with peak 1.0, or 8-bit frames (peak 255) where an engine takes bytes. "
        "The largest error is in the same unit.",
    ]
    if report.has_truth:
        lines.append(
            "Quality: against the sharp pictures, 8-bit RGB, whole picture, per frame and then averaged. SSIM is "
            "MATLAB's volume form; the per-channel form is lower and not comparable with it."
        )
        if any(engine.psnr_interval for engine in report.engines):
            lines.append(
                "Intervals of PSNR: where 95% of the means of as many pictures drawn from these would lie (bootstrap); "
                "PSNR lost is paired picture by picture. They speak of pictures like these, not of others."
            )
        lines += identical_lines(report)
    same = [f"{e.name} {e.identical} of {len(e.frames)}" for e in report.engines if e.identical]
    if same:
        lines.append(f"Pictures that are the reference's to the last byte: {', '.join(same)}.")
    lines += report.notes
    if report.detectors:
        lines.append(
            f"{len(report.detectors)} detectors of what means hide ({', '.join(report.detectors)}) looked at every "
            "picture: an engine's against the reference's, the reference's against its input."
        )
    if report.latency:
        session = report.latency
        lines.append(
            f"Latency: {session.height}x{session.width} (height x width), {len(session.frames)} frame(s) in turn, "
            f"{session.protocol.rounds} interleaved rounds in random order (seed {session.protocol.seed}) after "
            f"{session.warmup_rounds} warm-up rounds; encoding and decoding of pictures not included. Speed-up: "
            "median of the reference over median of the engine, with a bootstrapped 95% interval over rounds."
        )
        lines += busy_sentence(session, report.machine)
        cold = [e.name for e in report.engines if e.latency and not e.latency.warmed_up]
        if cold:
            lines.append(
                f"No steady state before the measurement (machine busy or clock changing): {', '.join(cold)}. "
                "Read their milliseconds with care."
            )
    graphs = [(engine.name, *engine.description.get("graph", "").split(", ")) for engine in report.engines]
    told = [f"{name} {rest[0]}" for name, *rest in graphs if len(rest) == 2]  # reports of old have a digest alone
    if told:
        lines.append(f"Graphs: {'; '.join(told)}.")
    threads = sorted({engine.description["threads"] for engine in report.engines if engine.description})
    lines.append(
        f"Machine: {report.machine['cpu']}, {report.machine['usable_cores']} usable core(s); engines on "
        f"{' / '.join(threads)} thread(s). Reference from {report.checkpoint} ({report.checkpoint_digest[:12]}), "
        f"{when(report)}."
    )
    return lines


def identical_lines(report: Report) -> list[str]:
    """Which frames means of PSNR are not of, because they are the truth to the last byte; none where all count."""
    qualities = {"blurred input": report.blurred_quality} | {e.name: e.mean_quality for e in report.engines}
    counts = ", ".join(f"{name} {mean.identical}" for name, mean in qualities.items() if mean and mean.identical)
    lines = [f"Frames identical to the truth have no finite PSNR and are not in its mean: {counts}."] if counts else []
    remarks = [
        f"{e.name}: {remark}" for e in report.engines if not e.is_reference and (remark := report.loss_remark(e))
    ]
    return lines + ([f"PSNR lost is taken frame by frame. {'. '.join(remarks)}."] if remarks else [])


def busy_sentence(session: LatencySession, machine: dict[str, str]) -> list[str]:
    """A warning if others were at work while latency was measured; none otherwise."""
    cores = int(machine["usable_cores"])
    if session.load_before is None or session.load_before <= BUSY * cores:
        return []
    return [
        f"The machine was busy (load {session.load_before:.1f} on {cores} core(s)): milliseconds are too long, and "
        "PyTorch, whose threads wait for each other by spinning, suffers more than others. Repeat on an idle machine "
        "before believing a ratio."
    ]
