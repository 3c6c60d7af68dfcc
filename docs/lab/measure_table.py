"""One table from one run: every published network in every engine of a CPU, at 256x256; writes table.json beside it.

    python docs/lab/measure_table.py prepare --store FOLDER [NETWORK ...]
    python docs/lab/measure_table.py measure --store FOLDER [--rounds 5] [NETWORK ...]

`prepare` exports, calibrates on two frames and compiles into the folder: the most of an hour, also on a busy machine.
`measure` only runs and times what lies there, and wants the machine for itself. Both go on where they were stopped: a
network that is prepared, or measured (since the store was prepared), is not done again. Weights are random, of one
seed: milliseconds do not depend on them, and decibels compare engines, not networks. An engine that fails gives its
reason; nothing else is lost.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from unblur.calibration.manifest import FEWEST, load_manifest, write_manifest
from unblur.compare.candidates import Candidate
from unblur.compare.comparison import Settings, compare_engines
from unblur.compare.judge.noise import noise_of
from unblur.compare.measure.frames import find_frames
from unblur.compare.report import EngineResult
from unblur.core.artefacts import write_json
from unblur.core.bounds import Size
from unblur.core.errors import InputError, MissingRuntimeError, UnblurError
from unblur.core.provenance import machine, package_versions
from unblur.engines.base import BaseRunner
from unblur.engines.catalogue import REFERENCE, find_engine, open_engine
from unblur.engines.runner import Runner, restore_frame
from unblur.images.files import Picture, read_picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.decibels import decibels_to_json
from unblur.metrics.stopwatch import Protocol
from unblur.networks.checkpoints import Checkpoint, load_checkpoint
from unblur.networks.random_weights import random_checkpoint
from unblur.networks.registry import preset_names
from unblur.networks.size import count_macs
from unblur.pipeline.job import Calibration
from unblur.pipeline.opening import engine_graph
from unblur.pipeline.places import bundled_manifest
from unblur.pipeline.store import Store

SIDE, SEED = 256, 0
SIZE = (SIDE, SIDE)
RESULTS = Path(__file__).parent / "table.json"
ENGINES = (
    "torch-compile", "onnxruntime", "openvino", "openvino-bf16", "torch-compile-bf16", "openvino-int8",
    "openvino-int8-bf16", "onnxruntime-int8",
)  # fmt: skip
UNPUBLISHED = ("_nano", "_narrow")


def published() -> list[str]:
    """Networks of the width that their paper has."""
    return [name for name in preset_names() if not name.endswith(UNPUBLISHED)]


@dataclass(frozen=True)
class Prepared:
    """What `prepare` left of one network: its weights, graph files and the reasons of what could not be made."""

    weights: Path
    files: dict[str, Path]
    failed: dict[str, str]
    made_utc: str

    @classmethod
    def of(cls, store: Path, name: str) -> Prepared | None:
        record = store / f"prepared-{name}.json"
        if not record.is_file():
            return None
        values = json.loads(record.read_text())
        files = {engine: store / path for engine, path in values["files"].items()}
        weights = store / values["weights"]
        if not all(path.is_file() for path in (weights, *files.values())):
            return None
        return cls(weights, files, values["failed"], values["made_utc"])


def prepare(store: Path, name: str) -> None:
    """Everything that needs no clock: weights are drawn, graphs made in the store's own way, compilers' caches
    filled."""
    checkpoint = random_checkpoint(name, SEED, store)
    calibration = Calibration(_manifest(store))
    files, failed = {}, {}
    for engine in ENGINES:
        try:
            if find_engine(engine).runs == "graph":
                made = engine_graph(engine, Store(store), checkpoint, SIZE, calibration)
                files[engine] = str(made.path.relative_to(store))
            else:
                with open_engine(engine, checkpoint, None) as runner:
                    restore_frame(runner, read_picture(_frame(store)).frame)
        except (UnblurError, RuntimeError) as error:  # the latter: compilers' own
            failed[engine] = _reason(error)
        print(f"{name}: {engine}: {failed.get(engine, 'ready')}", flush=True)
    values = {"weights": checkpoint.path.name, "files": files, "failed": failed, "made_utc": _now()}
    write_json(store / f"prepared-{name}.json", values)


def measure(prepared: Prepared, store: Path, rounds: int) -> dict[str, Any]:
    """The rows of one network: fidelity on a held-out frame, and interleaved latency."""
    checkpoint = load_checkpoint(prepared.weights)
    candidates = [
        Candidate(engine, _opener(engine, checkpoint, prepared.files.get(engine)))
        for engine in ENGINES
        if engine not in prepared.failed
    ]
    protocol = Protocol(rounds=rounds, warmup_window=1, warmup_rounds_max=2)
    settings = Settings(protocol=protocol, pictures=0, skip_missing=True, detectors=False)
    frames = find_frames(_frame(store).parent)
    report = compare_engines(checkpoint, candidates, frames, settings)
    assert report.latency is not None
    reasons = {failure.engine: failure.reason for failure in report.failures}
    rows = [_row(engine, reasons) for engine in report.engines]
    rows += [{"engine": engine, "reason": reason} for engine, reason in prepared.failed.items()]
    order = [REFERENCE, *ENGINES]
    return {
        "network": report.network,
        "macs": count_macs(checkpoint.network, SIZE),
        "measured_utc": report.created_utc,
        "prepared_utc": prepared.made_utc,
        "rounds": rounds,
        "noise": list(noise_of(report.latency, report.machine)),
        "rows": sorted(rows, key=lambda row: order.index(row["engine"])),
    }


def _row(engine: EngineResult, reasons: dict[str | None, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"engine": engine.name}
    if engine.latency is None or not engine.frames:
        return row | {"reason": engine.not_measured or reasons.get(engine.name, "it gave no frame")}
    speed = engine.latency.speedup
    return row | {
        "median_ms": engine.latency.summary.median_ms,
        "times_torch": [speed.value, speed.low, speed.high],
        "fidelity_db": decibels_to_json(engine.worst_fidelity_db),
    }


class Told(BaseRunner):
    """A runner whose every error of running is an InputError: a row of the table and not its end."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner.signature, runner.description)
        self._runner = runner

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        try:
            return self._runner.run(tensor)
        except RuntimeError as error:
            raise InputError(_reason(error)) from error

    def _release(self) -> None:
        self._runner.close()


def _opener(engine: str, checkpoint: Checkpoint, file: Path | None) -> Callable[[Size | None], Runner]:
    def open_it(_: Size | None) -> Runner:
        try:
            return Told(open_engine(engine, checkpoint, file))
        except UnblurError as error:
            raise MissingRuntimeError(_reason(error)) from error

    return open_it


def _manifest(store: Path) -> Path:
    """The first frames of the bundled manifest, which are 256x256."""
    path = store / "two-frames.toml"
    if not path.exists():
        write_manifest(
            path, load_manifest(bundled_manifest()).entries[:FEWEST], (), "The first frames of synthetic-16."
        )
    return path


def _frame(store: Path) -> Path:
    """The one frame that engines are held to PyTorch on, drawn, of the held-out split."""
    path = store / "frames" / "0.png"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = synthetic_pair(SEED, *SIZE, "heldout")[0]
        write_picture(path, Picture(frame), frame)
    return path


def _reason(error: BaseException) -> str:
    return f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"[:300]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("phase", choices=("prepare", "measure"))
    parser.add_argument("networks", nargs="*", help="all of published width, if left out")
    parser.add_argument("--store", type=Path, required=True, help="folder for what is prepared")
    parser.add_argument("--rounds", type=int, default=5, help="timed, after two of warm-up")
    arguments = parser.parse_intermixed_args()
    store: Path = arguments.store.absolute()
    store.mkdir(parents=True, exist_ok=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(store / "inductor")  # read when something is compiled
    missing = []
    for name in arguments.networks or published():
        prepared = Prepared.of(store, name)
        if arguments.phase == "prepare":
            if prepared is None:
                prepare(store, name)
        elif prepared is None:
            missing.append(name)
        else:
            _measure_into(RESULTS, name, prepared, store, arguments.rounds)
    if missing:
        print(f"not prepared, so not measured: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


def _measure_into(path: Path, name: str, prepared: Prepared, store: Path, rounds: int) -> None:
    told = json.loads(path.read_text())["published"] if path.exists() else []
    if any((one["network"], one["prepared_utc"]) == (name, prepared.made_utc) for one in told):
        print(f"{name}: measured already", flush=True)
        return
    made = measure(prepared, store, rounds)
    told = [one for one in told if one["network"] != name] + [made]
    told.sort(key=lambda one: preset_names().index(one["network"]))
    head = {"side_px": SIDE, "machine": machine(), "versions": package_versions()}
    write_json(path, head | {"published": told})
    print(json.dumps(made), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
