"""The one latency protocol: interleaved rounds, warm-up until stable, every sample kept with its time.

Candidates are measured in turn within a round, never one after the other as blocks: whatever else slows the machine
then slows all of them alike. The order is drawn anew in every round (fixed seed), so that nobody always runs behind
the same neighbour. A runner never times itself; this module knows nothing about runners.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

from unblur.core.console import SILENT, Progress
from unblur.core.errors import CrashError, InputError


@dataclass(frozen=True)
class Timed:
    """A candidate: `call` gets the number of the round, so that it can work on another frame each time.

    `synchronize` waits for a device that works asynchronously (torch.cuda.synchronize); it is called before the
    clock starts and again before it stops. None where `call` returns only when the work is done.

    `away`: the work is done in another process, and `call` gives what `time_call` gave there.
    """

    name: str
    call: Callable[[int], Any]
    synchronize: Callable[[], None] | None = None
    away: bool = False


@dataclass(frozen=True)
class Protocol:
    """How often and how long. The defaults suit calls of milliseconds to seconds.

    Warm-up ends when, for every candidate, the median of the newest `warmup_window` samples is within
    `warmup_tolerance` (relative) of the median of the `warmup_window` before them; or, unstable, after
    `warmup_rounds_max` rounds (None: as many as are timed, but at least two windows) or `warmup_s_max` seconds. It is
    recorded which of the two it was.
    `settle_ms` is slept before each sample, so that the last candidate's worker threads stop spinning.
    """

    rounds: int = 20
    warmup_window: int = 3
    warmup_tolerance: float = 0.05
    warmup_rounds_max: int | None = None
    warmup_s_max: float = 120.0
    settle_ms: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rounds", "warmup_window", "warmup_rounds_max"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"Stopwatch: {name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("warmup_tolerance", "warmup_s_max", "settle_ms"):
            if not getattr(self, name) >= 0:
                raise InputError(f"Stopwatch: {name} is {getattr(self, name)}; it must not be negative.")

    @property
    def warmup_limit(self) -> int:
        """Most rounds of warm-up."""
        return self.warmup_rounds_max or max(self.rounds, 2 * self.warmup_window)


@dataclass(frozen=True)
class Sample:
    """One call. `started_ms` counts from the start of the session; warm-up samples are kept, too, but marked.

    `whole_ms`: with what came before and after the call; None where nothing did. `events_ms`: of the same call, by the
    clock of the device that it was queued on; None where there is no such.
    """

    name: str
    round: int
    started_ms: float
    elapsed_ms: float
    warmup: bool
    whole_ms: float | None = None
    events_ms: float | None = None


class Lap(NamedTuple):
    """One call in ns of a clock that is the same in all processes of the machine: when it began, how long it took, and
    how long with what came before and after; None where nothing did, or what came after refused the result.
    `events_ms`: in milliseconds of a device's own clock.
    """

    started: int
    elapsed: int
    whole: int | None
    events_ms: float | None = None

    def sample(self, name: str, number: int, origin: int, warmup: bool) -> Sample:
        """Of a candidate in a round of a session that began at `origin`."""
        whole = None if self.whole is None else self.whole / 1e6
        started = (self.started - origin) / 1e6
        return Sample(name, number, started, self.elapsed / 1e6, warmup, whole, self.events_ms)


@dataclass(frozen=True)
class Session:
    """Everything that was measured. `stable` tells per candidate whether its warm-up ended by the criterion.

    `crashed`: candidates that did not come to the end, and why; they have no samples.
    """

    protocol: Protocol
    samples: tuple[Sample, ...]
    stable: dict[str, bool]
    warmup_rounds: int
    crashed: dict[str, str] = field(default_factory=dict)

    def latencies_ms(self, name: str) -> list[float]:
        """The candidate's samples without warm-up, in the order of rounds: index i of two candidates is one round."""
        return [s.elapsed_ms for s in self._timed(name)]

    def wholes_ms(self, name: str) -> list[float]:
        """As `latencies_ms`, with what came before and after each call; without those that have nothing of the kind."""
        return [s.whole_ms for s in self._timed(name) if s.whole_ms is not None]

    def events_ms(self, name: str) -> list[float]:
        """As `latencies_ms`, by the device's own clock; without those that have no such."""
        return [s.events_ms for s in self._timed(name) if s.events_ms is not None]

    def _timed(self, name: str) -> list[Sample]:
        return [s for s in self.samples if s.name == name and not s.warmup]


def measure(
    candidates: Sequence[Timed],
    protocol: Protocol | None = None,
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
    progress: Progress = SILENT,
) -> Session:
    """Measure the candidates in interleaved rounds. `clock_ns` and `sleep` are replaced in tests only.

    Raises InputError when there is no candidate or a name is there twice. A candidate that raises CrashError is left
    out from there on; whatever else one raises goes through.
    """
    protocol = protocol or Protocol()
    names = [candidate.name for candidate in candidates]
    if not names or len(set(names)) != len(names):
        raise InputError(f"The stopwatch takes one or more candidates with different names, got {names}.")
    order = random.Random(protocol.seed)
    origin = clock_ns()
    samples: list[Sample] = []
    crashed: dict[str, str] = {}

    def one_round(number: int, warmup: bool) -> None:
        for candidate in order.sample(list(candidates), len(candidates)):
            if candidate.name in crashed:
                continue
            sleep(protocol.settle_ms / 1000.0)
            try:
                lap = _time_one(candidate, number, clock_ns)
            except CrashError as error:
                crashed[candidate.name] = str(error)
                continue
            samples.append(lap.sample(candidate.name, number, origin, warmup))

    warmup_rounds = 0
    stable = dict.fromkeys(names, False)
    while not all(is_stable or name in crashed for name, is_stable in stable.items()):
        if warmup_rounds == protocol.warmup_limit or clock_ns() - origin > protocol.warmup_s_max * 1e9:
            progress.note(f"latency: no steady state after {warmup_rounds} warm-up rounds; measuring all the same.")
            break
        one_round(warmup_rounds, warmup=True)
        warmup_rounds += 1
        stable = {name: _is_stable([s.elapsed_ms for s in samples if s.name == name], protocol) for name in names}
    for number in progress.track(range(protocol.rounds), "latency", protocol.rounds):
        one_round(number, warmup=False)
    whole = tuple(sample for sample in samples if sample.name not in crashed)
    return Session(protocol, whole, stable, warmup_rounds, crashed)


def _time_one(candidate: Timed, number: int, clock_ns: Callable[[], int]) -> Lap:
    if candidate.away:
        lap: Lap = candidate.call(number)
        return lap
    return time_call(candidate.call, number, candidate.synchronize, clock_ns)


def time_call(
    call: Callable[[Any], Any], number: int, wait: Callable[[], None] | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns, *,
    prepare: Callable[[int], Any] | None = None, finish: Callable[[Any], object] | None = None,
) -> Lap:  # fmt: skip
    """Time `call` with the number of the round, or with what `prepare` makes of it; `finish` takes what it gives, and
    may refuse it (InputError).
    """
    made: object = None
    with _no_collection():
        if wait:
            wait()
        began = clock_ns()
        given = prepare(number) if prepare else number
        started = clock_ns()
        result = call(given)
        if wait:
            wait()
        ended = clock_ns()
        whole = prepare is not None or finish is not None
        if finish:
            try:
                made = finish(result)
            except InputError:
                whole = False
        over = clock_ns()
    del given, result, made  # freed after the clock has stopped
    return Lap(started, ended - started, over - began if whole else None)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's collector must not run within a sample."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _is_stable(elapsed_ms: Sequence[float], protocol: Protocol) -> bool:
    window = protocol.warmup_window
    if len(elapsed_ms) < 2 * window:
        return False
    before, newest = median(elapsed_ms[-2 * window : -window]), median(elapsed_ms[-window:])
    return abs(newest - before) <= protocol.warmup_tolerance * before
