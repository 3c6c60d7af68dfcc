"""Latency again, in short sessions whose engines are opened anew: what sessions of nothing changed differ by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from unblur.compare.measure.latency import measure_latency
from unblur.compare.timing import LatencySession
from unblur.core.console import SILENT, Progress
from unblur.core.errors import CrashError
from unblur.engines.runner import Runner
from unblur.images.contract import Frame
from unblur.metrics.stopwatch import Protocol

FEWEST, MOST, SECONDS = 8, 24, 3.0
"""Rounds of a session, and what it lasts between the two. More of one process gain little: it keeps its pace, and the
next has another."""


def short(round_ms: float) -> Protocol:
    """For engines that take so long together."""
    rounds = min(MOST, max(FEWEST, math.ceil(1e3 * SECONDS / round_ms)))
    return Protocol(rounds=rounds, warmup_window=2, warmup_tolerance=0.1, warmup_rounds_max=6)


def measure_repeats(
    openers: Mapping[str, Callable[[], Runner]],
    reference: str,
    frames: Mapping[str, Frame],
    protocol: Protocol,
    count: int,
    hopeless: Callable[[Sequence[LatencySession]], bool],
    progress: Progress = SILENT,
    crashed: dict[str, str] | None = None,
) -> tuple[LatencySession, ...]:
    """So many sessions of all engines, fewer once the sessions so far are `hopeless`, as beside a load.

    Engines that crash are added to `crashed` and left out from there on; what else opening and running raise goes
    through, and a crash of the reference.
    """
    crashed = {} if crashed is None else crashed
    found: list[LatencySession] = []
    for _ in progress.track(range(count), "latency, engines opened anew", count):
        if hopeless(found):
            progress.note(f"latency: others are at work; given up after {len(found)} of {count} repeats.")
            break
        with ExitStack() as stack:
            runners = {}
            for name, open_anew in openers.items():
                try:
                    if name not in crashed:
                        runners[name] = stack.enter_context(open_anew())
                except CrashError as error:
                    crashed[name] = str(error)
            if reference in crashed:
                raise CrashError(f"The reference {reference}: {crashed[reference]}")
            found.append(measure_latency(runners, reference, frames, protocol, SILENT, crashed)[0])
    return tuple(found)
