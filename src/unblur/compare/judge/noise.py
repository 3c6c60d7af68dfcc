"""Whether a session of latency was measured on a machine that others left alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unblur.compare.timing import LatencySession
from unblur.metrics.stationarity import stationarity

BUSY = 1.25
"""Load per core above which others were at work, where the system tells no better: this process alone makes about 1."""

WAITED = 0.2
"""Of a session's time in which something waited for a core: one engine at a time, on no more threads than there are
cores, waits for next to nothing."""

STOLEN = 0.02
"""Of the session's core seconds that the host gave to others; below this no sample in fifty is a core short."""

CHANCE = 0.01
"""That a quiet session is called unsteady by its rounds, and once more by one of its engines (Bonferroni)."""

DRIFT = 0.03
"""Of the median: a smaller drift decides no comparison, however surely it is there after a thousand rounds."""


def noise_of(session: LatencySession, machine: dict[str, str]) -> tuple[str, ...]:
    """What made the session noisy, a reason each; none where it was quiet, as far as its records tell.

    How long something waited for a core meanwhile, or, where the system does not count that, the load as it began,
    which lags by a minute and is also of what this process did before; cores that were slowed down for heat, or taken
    away by the machine's host; the order of the rounds, each the median
    of how much longer than usual its engines took, since what others do strikes all of them; and the order of each
    engine's samples (`unblur.metrics.stationarity`). The samples are in every report, also in those of old.
    """
    reasons = list(disturbance_of(session, machine))
    names = list(dict.fromkeys(sample.name for sample in session.samples))
    of_each = {name: np.asarray(session.latencies_ms(name)) for name in names}
    usual = [values / np.median(values) for values in of_each.values() if values.size]
    if len({values.size for values in usual}) == 1 and len(usual) > 1:
        reasons += _drifting("every engine", np.median(usual, axis=0), CHANCE)
    for name, values in of_each.items():
        reasons += _drifting(name, values, CHANCE / len(names))
    return tuple(reasons)


def disturbance_of(session: LatencySession, machine: dict[str, str]) -> tuple[str, ...]:
    """As `noise_of`, by what the system tells alone: that the clock wanders is no reason where engines are held against
    another one in the same rounds.
    """
    reasons = []
    cores = int(machine["usable_cores"])
    waited = waited_share(session)
    if waited is not None and waited > WAITED:
        reasons.append(f"something waited for a core in {waited:.0%} of the time")
    if waited is None and session.load_before is not None and session.load_before > BUSY * cores:
        reasons.append(f"load {session.load_before:.1f} on {cores} core(s)")
    return (*reasons, *_disturbed(session, cores))


def waited_share(session: LatencySession) -> float | None:
    """Part of the session in which something waited for a core; None where the system does not count it."""
    before, after, seconds = session.before, session.after, _seconds(session)
    if not before or not after or before.waited_s is None or after.waited_s is None or not seconds:
        return None
    return min(1.0, (after.waited_s - before.waited_s) / seconds)


def _seconds(session: LatencySession) -> float:
    return max((one.started_ms + (one.whole_ms or one.elapsed_ms) for one in session.samples), default=0.0) / 1e3


def _disturbed(session: LatencySession, cores: int) -> list[str]:
    """What counters of the system say that the processor was kept from, between beginning and end."""
    before, after, seconds = session.before, session.after, _seconds(session)
    if not before or not after or not seconds:
        return []
    reasons = []
    if before.throttled is not None and after.throttled is not None and after.throttled > before.throttled:
        reasons.append(f"cores were slowed down for heat {after.throttled - before.throttled} time(s)")
    if before.stolen_s is not None and after.stolen_s is not None:
        share = (after.stolen_s - before.stolen_s) / (seconds * cores)
        if share > STOLEN:
            reasons.append(f"the machine's host took {share:.0%} of its cores' time away")
    return reasons


def _drifting(name: str, values: NDArray[np.float64], chance: float) -> list[str]:
    found = stationarity(values)
    if found.p is None or found.p >= chance or found.drift <= DRIFT:
        return []
    return [f"{name} drifts by {found.drift:.0%} (p = {found.p:.4f})"]
