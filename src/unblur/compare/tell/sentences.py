"""What a report says in words, the same in Markdown and on the page."""

from __future__ import annotations

from datetime import datetime
from statistics import median

from unblur.compare.judge.budgets import EVERY_CANDIDATE
from unblur.compare.judge.noise import noise_of, waited_share
from unblur.compare.parts import Change
from unblur.compare.report import Report
from unblur.compare.tell.table import check_text
from unblur.compare.tell.timing import frame_lines
from unblur.compare.timing import LatencySession
from unblur.core.provenance import Conditions
from unblur.metrics.decibels import decibels_text

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
    measured = any(not engine.is_reference and not engine.not_measured for engine in report.engines)
    passed_over = ""
    if skipped and measured and EVERY_CANDIDATE in report.budgets:  # else it reached them (`judge`)
        passed_over = f" The budget of all engines was not held against {', '.join(skipped)}: not measured."
    if crashed := [engine.name for engine in report.engines if engine.crashed]:
        passed_over += f" Crashed: {', '.join(crashed)}."
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
    """One line per engine that this machine cannot run, or that crashed."""
    told = [(e.name, f"crashed: {e.crashed}" if e.crashed else e.not_measured) for e in report.engines]
    return [f"{name}: {reason}" for name, reason in told if reason]


def how_measured(report: Report) -> list[str]:
    """What the columns mean and under which conditions they were taken."""
    count = max(len(engine.frames) for engine in report.engines)
    contract = next((engine.contract for engine in report.engines if engine.is_reference), None)
    peak = contract.high - contract.low if contract else 1.0  # reports of old do not tell; all were of 1.0
    lines = [
        f"Fidelity: PSNR of an engine against the reference ({report.reference}, {report.reference_text}) on the worst "
        f"of {count} frame(s): float tensors with peak {float(peak)}, or 8-bit frames (peak 255) where an engine takes "
        "bytes. The largest error is in the same unit.",
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
            f"{session.warmup_rounds} warm-up rounds; conversion and files not included. Speed-up: "
            "median of the reference over median of the engine, with a bootstrapped 95% interval over rounds."
        )
        lines += frame_lines(session, {e.name: e.latency for e in report.engines if e.latency})
        lines += repeats_sentence(report)
        lines += noise_sentences(session, report.machine)
        lines += indifferent_sentence(report)
        cold = [e.name for e in report.engines if e.latency and not e.latency.warmed_up]
        if cold:
            lines.append(
                f"No steady state before the measurement (machine busy or clock changing): {', '.join(cold)}. "
                "Read their milliseconds with care."
            )
    lines += cost_lines(report)
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


def repeats_sentence(report: Report) -> list[str]:
    """How far apart the short sessions are, in units of the reference; nothing where there are none."""
    times = {
        e.name: [median(s.latencies_ms(e.name)) / median(s.latencies_ms(report.reference)) for s in report.repeats]
        for e in report.engines
        if not e.is_reference and report.repeats and all(s.latencies_ms(e.name) for s in report.repeats)
    }
    if not times:
        return []
    each = ", ".join(f"{name} {min(found):.3f}–{max(found):.3f}" for name, found in times.items())
    return [
        f"Again in {len(report.repeats)} short session(s), every engine opened anew for each, as a gate needs them; of "
        f"{report.reference} beside it: {each}."
    ]


def identical_lines(report: Report) -> list[str]:
    """Which frames means of PSNR are not of, because they are the truth to the last byte; none where all count."""
    qualities = {"blurred input": report.blurred_quality} | {e.name: e.mean_quality for e in report.engines}
    counts = ", ".join(f"{name} {mean.identical}" for name, mean in qualities.items() if mean and mean.identical)
    lines = [f"Frames identical to the truth have no finite PSNR and are not in its mean: {counts}."] if counts else []
    remarks = [
        f"{e.name}: {remark}" for e in report.engines if not e.is_reference and (remark := report.loss_remark(e))
    ]
    return lines + ([f"PSNR lost is taken frame by frame. {'. '.join(remarks)}."] if remarks else [])


def noise_sentences(session: LatencySession, machine: dict[str, str]) -> list[str]:
    """A warning if the session was noisy, and what the machine was at; nothing where nothing is known."""
    noise = noise_of(session, machine)
    lines = []
    if noise:
        lines.append(
            f"This run was noisy ({'; '.join(noise)}): milliseconds are too long, and PyTorch, whose threads wait for "
            "each other by spinning, suffers more than others. Repeat on an idle machine before believing a ratio."
        )
    if session.before and session.after:
        before, after = session.before, session.after
        lines.append(f"The machine before and after: {_conditions(before)}; {_conditions(after)}.{_counted(session)}")
        if untold := [
            word
            for word, found in (
                ("clocks", after.clock_mhz),
                ("governor", after.governor),
                ("temperature", after.temperature_c),
                ("throttling", after.throttled),
            )
            if found in (None, "")
        ]:
            lines.append(f"This system does not tell {_and(untold)}: absent here, which is not zero.")
    return lines


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _conditions(found: Conditions) -> str:
    parts = [] if found.load is None else [f"load {found.load:.1f}"]
    parts += [] if found.clock_mhz is None else [f"{found.clock_mhz:.0f} MHz"]
    parts += [f"governor {found.governor}"] if found.governor else []
    parts += [f"turbo {found.turbo}"] if found.turbo else []
    parts += [] if found.temperature_c is None else [f"{found.temperature_c:.0f} °C"]
    return ", ".join([*parts, *found.gpus]) or "unknown"


def _counted(session: LatencySession) -> str:
    """What the system counted meanwhile."""
    before, after = session.before, session.after
    if not before or not after:
        return ""
    waited = waited_share(session)
    parts = [] if waited is None else [f"something waited for a core in {waited:.0%} of the time"]
    if before.throttled is not None and after.throttled is not None:
        parts.append(f"slowed down for heat {after.throttled - before.throttled} time(s)")
    if before.stolen_s is not None and after.stolen_s is not None:
        parts.append(f"{after.stolen_s - before.stolen_s:.1f} core seconds taken by its host")
    return f" Meanwhile: {', '.join(parts)}." if parts else ""


def indifferent_sentence(report: Report) -> list[str]:
    """The engines whose interval says that they are neither faster nor slower than the reference."""
    even = [e.name for e in report.engines if e.latency and not e.is_reference and not e.latency.speedup.differs]
    return [f"No difference to {report.reference} in speed, as far as was measured: {', '.join(even)}."] if even else []


def cost_lines(report: Report) -> list[str]:
    """What each engine takes in a process of its own, where that was measured."""
    costs = [(engine.name, engine.cost) for engine in report.engines if engine.cost]
    told = [
        f"{name} {cost.peak_mib:.0f} MiB of memory at most, opened in {cost.load_s:.2f} s, first frame in "
        f"{cost.first_frame_s:.2f} s{'' if cost.disk_mib is None else f', {cost.disk_mib:.1f} MiB on disk'}"
        for name, cost in costs
    ]
    return [f"Each in a process of its own, Python and PyTorch included: {'; '.join(told)}."] if told else []


MEASURES = {"fidelity_db": "fidelity", "psnr_db": "PSNR", "latency_ms": "latency"}


def since_lines(report: Report) -> list[str]:
    """What has changed since the baseline, and what could not be held against it; none without one."""
    if not (since := report.since):
        return []
    lost, unsure = ([c for c in since.changes if c.state == state] for state in ("lost", "cannot tell"))
    found = f"{len(lost)} loss(es)" if lost else "nothing lost"
    lines = [
        f"Against the baseline {since.file} ({since.digest[:12]}, accepted {since.accepted_utc[:10]}: {since.reason}): "
        f"{found} in {len(since.changes)} comparison(s)."
    ]
    return lines + [_changed(change) for change in (*lost, *unsure)] + list(since.notes)


def _changed(change: Change) -> str:
    verb = "lost" if change.state == "lost" else "cannot be told"
    text = f"{change.engine}: {MEASURES[change.measure]} {verb}"
    if change.lost is None or change.low is None or change.high is None:
        return f"{text}: {change.why}."
    if change.measure == "latency_ms":
        times = f"{change.lost:.3f} times ({change.low:.3f}–{change.high:.3f})"
        figures = f"{change.before:.4g} ms, now {change.now:.4g} ms, {times}"
    else:
        bounds = f"{decibels_text(change.low, 3)} to {decibels_text(change.high, 3)}"
        figures = f"{decibels_text(change.lost, 3)} dB a picture ({bounds})"
    return f"{text}: {figures}{f', {change.why}' if change.why else ''}."
