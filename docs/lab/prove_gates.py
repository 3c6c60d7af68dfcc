"""How often the gate of baselines is right about decibels; writes gate-of-baselines.json beside this file.

    python docs/lab/prove_gates.py

Ten times, each on pictures of its own: a comparison of the bundled network is accepted as the baseline, then made anew
with nothing changed, and with engines whose output was spoilt by noise of a known size. Noise of one variance costs
every picture another number of decibels, as real losses do; the variance is solved for so that their mean is what the
table says.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
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
from unblur.networks.checkpoints import Checkpoint, load_checkpoint
from unblur.pipeline.opening import make_candidate
from unblur.pipeline.places import bundled_checkpoint
from unblur.pipeline.store import Store

TRIALS, PICTURES, SIZE = 10, 6, (96, 128)
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
    values = {"gate": rows, **about, "machine": machine(), "versions": dict(package_versions())}
    write_json(Path(__file__).parent / "gate-of-baselines.json", values)


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


def compared(checkpoint: Checkpoint, frames: list[FrameFile], candidates: dict[str, Candidate]) -> Report:
    settings = Settings(threads=1, protocol=None, pictures=0)
    return compare_engines(checkpoint, list(candidates.values()), frames, settings)


if __name__ == "__main__":
    main()
