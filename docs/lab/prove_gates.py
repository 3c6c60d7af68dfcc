"""How often the gate of baselines is right; writes gate-of-baselines.json beside this file.

    python docs/lab/prove_gates.py                   about decibels
    python docs/lab/prove_gates.py latency FOLDER    about milliseconds: wants the machine for itself ("busy" behind it,
                                                     only the half of it beside a load, does not)

Ten times, each on pictures of its own: a comparison of the bundled network is accepted as the baseline, then made anew
with nothing changed, and with engines whose output was spoilt by noise of a known size. Noise of one variance costs
every picture another number of decibels, as real losses do; the variance is solved for so that their mean is what the
table says.

Milliseconds, also ten times: the same engine again, and one that takes a tenth longer, on the quiet machine; then
beside a load that this script starts: as many processes as cores that do nothing but spin. Each comparison is kept in
FOLDER, and a run that was ended goes on where it stopped.
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
from typing import Any

from spoilt_engines import Noisy, slower

from unblur.compare.candidates import Candidate
from unblur.compare.comparison import Settings, compare_engines
from unblur.compare.judge.baselines import accept, hold_against, load_baseline
from unblur.compare.measure.frames import FrameFile, find_frames
from unblur.compare.parts import Change
from unblur.compare.report import EngineResult, Report
from unblur.compare.timing import LatencySession
from unblur.core.artefacts import write_json
from unblur.core.bounds import Size
from unblur.core.provenance import machine, package_versions
from unblur.engines.catalogue import find_engine
from unblur.engines.engine import HANG_SECONDS, Opening
from unblur.engines.own_process import open_in_own_process
from unblur.engines.runner import Runner
from unblur.graphs.file import read_graph
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.stopwatch import Protocol
from unblur.networks.checkpoints import Checkpoint, load_checkpoint
from unblur.pipeline.opening import engine_graph, make_candidate
from unblur.pipeline.places import bundled_checkpoint
from unblur.pipeline.store import Store

TRIALS, PICTURES, SIZE = 10, 6, (96, 128)
RESULTS = Path(__file__).parent / "gate-of-baselines.json"
SLOW, ROUNDS, REPEATS = 0.10, 8, 8
ENGINES = ("onnxruntime", "onnxruntime-int8")
TIMED, SLOWER = "onnxruntime", "slower"


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


def prove_latency(folder: Path, *kinds: str) -> None:
    """Comparisons on the quiet machine, each to be held against the one before; then beside a load, each against one of
    these. A comparison has both rows, the engine and the slower one: each is held as if it were alone.
    """
    checkpoint = load_checkpoint(bundled_checkpoint(Path.cwd()), "bgr")
    cores = len(os.sched_getaffinity(0))
    store = Store(folder / "artifacts")
    frames = drawn(folder / "frames", 0)[:1]
    plain = candidate(TIMED, store, checkpoint, 1)
    slow = replace(plain, name=SLOWER, open=lambda size: open_slower(store, checkpoint, size))
    for kind in kinds or ("quiet", "busy"):
        for trial in range(TRIALS + (kind == "quiet")):
            file = folder / f"{kind}-{trial}.json"
            if not file.exists():
                with load(cores if kind == "busy" else 0):
                    report = compared(checkpoint, frames, {TIMED: plain, SLOWER: slow}, ROUNDS)
                write_json(file, report.to_json())
                write_json(RESULTS, written() | told(folder, cores))


def told(folder: Path, cores: int) -> dict[str, Any]:
    """What the gate says of the comparisons that are there."""
    rows = []
    for kind, ahead in (("quiet", 1), ("busy", 0)):
        pairs = [[folder / f"{name}.json" for name in (f"quiet-{trial}", f"{kind}-{trial + ahead}")]
                 for trial in range(TRIALS)]  # fmt: skip
        reports = [[Report.model_validate(json.loads(file.read_text())) for file in pair]
                   for pair in pairs if all(file.exists() for file in pair)]  # fmt: skip
        for part, row in ((0.0, TIMED), (SLOW, SLOWER)):
            found = [held(alone(then, TIMED), alone(now, row), folder / "b.json") for then, now in reports]
            if not found:
                continue
            counts = {state: sum(one.state == state for one in found) for state in ("lost", "cannot tell")}
            rows.append({
                "beside": cores if kind == "busy" else 0, "injected": part, "engine": TIMED, "trials": len(found),
                "lost": counts["lost"], "cannot_tell": counts["cannot tell"],
                "times": [round(one.lost or 0.0, 4) for one in found],
            })  # fmt: skip
    return {"latency": rows, "latency_repeats": REPEATS}


def held(then: Report, now: Report, file: Path) -> Change:
    accept(then, file, "a trial")
    since = hold_against(now, load_baseline(file), file).since
    assert since is not None
    found = next(one for one in since.changes if one.measure == "latency_ms")
    print(file.parent.name, now.created_utc, found.state, found.lost, found.low, found.high, found.why)
    return found


def alone(report: Report, row: str) -> Report:
    """The reference and one row of a report, under the name of the engine that is proven."""

    def session(one: LatencySession) -> LatencySession:
        kept = (s for s in one.samples if s.name in (report.reference, row))
        named = tuple(replace(s, name=TIMED) if s.name == row else s for s in kept)
        return one.model_copy(update={"samples": named})

    engines = [engine for engine in report.engines if engine.is_reference or engine.name == row]
    named = [engine if engine.is_reference else engine.model_copy(update={"name": TIMED}) for engine in engines]
    assert report.latency is not None
    sessions = {"latency": session(report.latency), "repeats": tuple(map(session, report.repeats))}
    return report.model_copy(update=sessions | {"engines": tuple(named)})


def open_slower(store: Store, checkpoint: Checkpoint, size: Size | None) -> Runner:
    graph = read_graph(engine_graph(TIMED, store, checkpoint, size).path)
    return open_in_own_process(slower(find_engine(TIMED), SLOW), False, Opening(TIMED, None, graph, 1), HANG_SECONDS)


def drawn(folder: Path, trial: int) -> list[FrameFile]:
    """Pairs that no other trial has."""
    for number in range(PICTURES):
        pair = synthetic_pair(10_000 + trial * PICTURES + number, *SIZE, split="heldout")
        for name, frame in zip(("blurred", "sharp"), pair, strict=True):
            write_picture(folder / name / f"{number}.png", Picture(frame), frame)
    return find_frames(folder / "blurred", folder / "sharp")


def candidate(name: str, store: Store, checkpoint: Checkpoint, threads: int) -> Candidate:
    return make_candidate(name, store, checkpoint, threads, hang_s=HANG_SECONDS)


def noisy(candidate: Candidate, deviation: float, seed: int) -> Candidate:
    return replace(candidate, open=lambda size: Noisy(candidate.open(size), deviation, seed))


def compared(
    checkpoint: Checkpoint, frames: list[FrameFile], candidates: dict[str, Candidate], rounds: int = 0
) -> Report:
    latency = {"protocol": Protocol(rounds=rounds), "repeats": REPEATS} if rounds else {"protocol": None}
    settings = Settings(threads=1, pictures=0, detectors=False, **latency)
    return compare_engines(checkpoint, list(candidates.values()), frames, settings)


if __name__ == "__main__":
    prove_latency(Path(sys.argv[2]), *sys.argv[3:]) if sys.argv[1:2] == ["latency"] else main()
