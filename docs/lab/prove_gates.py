"""How often the gate of baselines is right; writes gate-of-baselines.json beside this file.

    python docs/lab/prove_gates.py            about decibels
    python docs/lab/prove_gates.py latency    about milliseconds: minutes on a machine that nothing else works on

Ten times, each on pictures of its own: a comparison of the bundled network is accepted as the baseline, then made anew
with nothing changed, and with engines whose output was spoilt by noise of a known size. Noise of one variance costs
every picture another number of decibels, as real losses do; the variance is solved for so that their mean is what the
table says.

Milliseconds: a baseline is taken on the quiet machine; then the same engine again, and one that takes a tenth longer,
on the quiet machine and beside a load that this script starts: as many processes as cores that do nothing but spin.
What was found is written after each trial, and a run that was ended goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unblur.compare.candidates import Candidate
from unblur.compare.comparison import Settings, compare_engines
from unblur.compare.judge.baselines import accept, hold_against, load_baseline
from unblur.compare.measure.frames import FrameFile, find_frames
from unblur.compare.report import EngineResult, Report
from unblur.core.artefacts import write_json
from unblur.core.provenance import machine, package_versions
from unblur.engines.runner import Runner
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.stopwatch import Protocol
from unblur.networks.checkpoints import Checkpoint, load_checkpoint
from unblur.pipeline.opening import make_candidate
from unblur.pipeline.places import bundled_checkpoint
from unblur.pipeline.store import Store

TRIALS, PICTURES, SIZE = 10, 6, (96, 128)
RESULTS = Path(__file__).parent / "gate-of-baselines.json"
SLOW, ROUNDS = 0.10, 20
ENGINES = ("onnxruntime", "onnxruntime-int8")


class Noisy:
    """A runner whose output has noise of this standard deviation, in the unit of its tensors."""

    def __init__(self, inner: Runner, deviation: float, seed: int) -> None:
        self._inner, self._deviation, self._rng = inner, deviation, np.random.default_rng(seed)
        self.signature, self.description, self.close = inner.signature, inner.description, inner.close

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        found = self._inner.run(tensor)
        return found + (self._deviation * self._rng.standard_normal(found.shape)).astype(found.dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Slow(Noisy):
    """A runner that takes a part longer, at work all the while as a slower engine would be."""

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        began = time.perf_counter()
        found = self._inner.run(tensor)
        until = began + (time.perf_counter() - began) * (1 + self._deviation)
        while time.perf_counter() < until:
            pass
        return found


def deviation_of(loss_db: float, levels_db: list[float]) -> float:
    """Of the noise that costs pictures of these levels, in dB with peak 1, so much on the mean."""
    errors = [10 ** (-level / 10) for level in levels_db]
    low, high = 0.0, max(errors) * 10
    for _ in range(100):
        middle = (low + high) / 2
        lost = fmean(10 * math.log10(1 + middle / error) for error in errors)
        low, high = (middle, high) if lost < loss_db else (low, middle)
    return math.sqrt(low)


@dataclass(frozen=True)
class Case:
    """`levels`: of the engine in the baseline, what noise takes away from; None where nothing is changed."""

    title: str
    engine: str
    measure: str
    loss_db: float = 0.0
    threads: int = 1
    levels: Callable[[EngineResult], list[float]] | None = None


def psnr(engine: EngineResult) -> list[float]:
    return [frame.quality.psnr_db for frame in engine.frames if frame.quality]


def fidelity(engine: EngineResult) -> list[float]:
    return [frame.fidelity.strictest_db for frame in engine.frames]


CASES = (
    Case("nothing changed", "onnxruntime", "psnr_db"),
    Case("nothing changed", "onnxruntime-int8", "psnr_db"),
    Case("nothing changed", "onnxruntime-int8", "fidelity_db"),
    Case("two threads for one", "onnxruntime", "psnr_db", threads=2),
    Case("two threads for one", "onnxruntime-int8", "fidelity_db", threads=2),
    Case("PSNR spoilt", "onnxruntime", "psnr_db", 0.1, levels=psnr),
    Case("PSNR spoilt", "onnxruntime", "psnr_db", 0.02, levels=psnr),
    Case("fidelity spoilt", "onnxruntime-int8", "fidelity_db", 0.1, levels=fidelity),
)


def main() -> None:
    checkpoint = load_checkpoint(bundled_checkpoint(Path.cwd()), "bgr")
    rows = [
        {"case": case.title, "engine": case.engine, "measure": case.measure, "injected_db": case.loss_db,
         "trials": TRIALS, "alarms": 0, "lost_db": []}
        for case in CASES
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="unblur-") as folder:
        store = Store(Path(folder) / "artifacts")
        for trial in range(TRIALS):
            frames = drawn(Path(folder) / str(trial), trial)
            then = compared(checkpoint, frames, {name: candidate(name, store, checkpoint, 1) for name in ENGINES})
            path = Path(folder) / f"{trial}.json"
            accept(then, path, "a trial")
            for case, row in zip(CASES, rows, strict=True):
                spoilt = candidate(case.engine, store, checkpoint, case.threads)
                if case.levels:
                    levels = case.levels(next(e for e in then.engines if e.name == case.engine))
                    spoilt = noisy(spoilt, deviation_of(case.loss_db, levels), trial)
                now = compared(checkpoint, frames, {case.engine: spoilt})
                since = hold_against(now, load_baseline(path), path).since
                assert since is not None
                changes = [c for c in since.changes if (c.engine, c.measure) == (case.engine, case.measure)]
                row["alarms"] += changes[0].state == "lost"
                row["lost_db"].append(changes[0].lost)
            print(trial, [row["alarms"] for row in rows], flush=True)
    about = {"network": checkpoint.name, "pictures": PICTURES, "height": SIZE[0], "width": SIZE[1]}
    values = written() | {"gate": rows, **about, "machine": machine(), "versions": dict(package_versions())}
    write_json(RESULTS, values)


def written() -> dict[str, Any]:
    """What an earlier run found."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many processes that spin, and two seconds for the scheduler to have spread them."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(2 if processes else 0)
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


def prove_latency() -> None:
    """Each trial: a baseline on the quiet machine, then the same engine or the slower one, quiet or beside a load."""
    checkpoint, engine = load_checkpoint(bundled_checkpoint(Path.cwd()), "bgr"), "onnxruntime"
    cores = len(os.sched_getaffinity(0))
    cases = [(busy, slow) for busy in (0, cores) for slow in (0.0, SLOW)]
    values = written()
    rows = values.get("latency") or [
        {"beside": busy, "injected": slow, "engine": engine, "trials": 0, "lost": 0, "cannot_tell": 0, "times": []}
        for busy, slow in cases
    ]
    with tempfile.TemporaryDirectory(prefix="unblur-") as folder:
        store = Store(Path(folder) / "artifacts")
        plain = candidate(engine, store, checkpoint, 1)
        slower = replace(plain, open=lambda size: Slow(plain.open(size), SLOW, 0))
        frames = drawn(Path(folder) / "frames", 0)[:1]
        accepted = Path(folder) / "accepted.json"
        for row in rows:  # the quiet ones first: what a load leaves behind is theirs too
            for trial in range(row["trials"], TRIALS):
                accept(compared(checkpoint, frames, {engine: plain}, ROUNDS), accepted, "a trial")
                with load(row["beside"]):
                    now = compared(checkpoint, frames, {engine: slower if row["injected"] else plain}, ROUNDS)
                since = hold_against(now, load_baseline(accepted), accepted).since
                assert since is not None
                found = next(one for one in since.changes if one.measure == "latency_ms" and one.engine == engine)
                assert found.before is not None
                assert found.now is not None
                row["trials"], row["lost"] = trial + 1, row["lost"] + (found.state == "lost")
                row["cannot_tell"] += found.state == "cannot tell"
                row["times"].append(round(found.now / found.before, 4))
                print(row["beside"], row["injected"], trial, found.state, row["times"][-1], found.why, flush=True)
                write_json(RESULTS, values | {"latency": rows, "latency_rounds": ROUNDS})


def drawn(folder: Path, trial: int) -> list[FrameFile]:
    """Pairs that no other trial has."""
    for number in range(PICTURES):
        pair = synthetic_pair(10_000 + trial * PICTURES + number, *SIZE, split="heldout")
        for name, frame in zip(("blurred", "sharp"), pair, strict=True):
            write_picture(folder / name / f"{number}.png", Picture(frame), frame)
    return find_frames(folder / "blurred", folder / "sharp")


def candidate(name: str, store: Store, checkpoint: Checkpoint, threads: int) -> Candidate:
    return make_candidate(name, store, checkpoint, threads)


def noisy(candidate: Candidate, deviation: float, seed: int) -> Candidate:
    return replace(candidate, open=lambda size: Noisy(candidate.open(size), deviation, seed))


def compared(
    checkpoint: Checkpoint, frames: list[FrameFile], candidates: dict[str, Candidate], rounds: int = 0
) -> Report:
    protocol = Protocol(rounds=rounds) if rounds else None
    settings = Settings(threads=1, protocol=protocol, pictures=0, detectors=False)
    return compare_engines(checkpoint, list(candidates.values()), frames, settings)


if __name__ == "__main__":
    prove_latency() if sys.argv[1:] == ["latency"] else main()
