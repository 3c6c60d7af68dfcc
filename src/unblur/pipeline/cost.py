"""What an engine costs besides milliseconds, in a process of its own.

Beside others memory has no owner, and what one engine has imported the next one has for nothing.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from unblur.compare.parts import Cost
from unblur.compare.report import Report
from unblur.core.artefacts import json_text
from unblur.core.bounds import Size
from unblur.core.interrupts import end_with_parent
from unblur.core.memory import peak_bytes
from unblur.core.reading import parse_json
from unblur.engines.named import name_engine
from unblur.engines.own_process import ended_text
from unblur.engines.runner import restore_frame
from unblur.networks.checkpoints import load_checkpoint
from unblur.pipeline.job import Calibration, Job
from unblur.pipeline.opening import engine_graph, make_candidate
from unblur.pipeline.rates import with_rates
from unblur.pipeline.store import Store


def with_costs(job: Job, report: Report, names: Sequence[str], *, dynamic: bool = False) -> Report:
    """The report with the cost of each engine of these names, at the size of its latency or of its first frame, and,
    where it was timed, what it makes of its device.

    Graphs and ranges are in the store by now: none of that is in the time of loading. An engine whose process fails has
    no cost, and a note says why. `dynamic`: as `make_candidate`.
    """
    first = next(engine for engine in report.engines if engine.is_reference).frames[0]
    size = (report.latency.height, report.latency.width) if report.latency else (first.height, first.width)
    network, calibration = job.config.network, job.calibration
    asked_for = {name_engine(name, device=job.config.compare.device).label: name for name in (report.reference, *names)}
    engines, notes = [], []
    for engine in report.engines:
        if engine.name in asked_for and not engine.not_measured and not engine.crashed:
            job.progress.note(f"cost of {engine.name}, in a process of its own")
            asked = {
                "name": asked_for[engine.name], "checkpoint": str(network.checkpoint), "order": network.channel_order,
                "store": str(job.store.root), "size": size, "threads": job.threads, "dynamic": dynamic,
                "device": job.config.compare.device, "manifest": str(calibration.path),
                "algorithm": calibration.algorithm, "repairs": calibration.repairs, "keep": calibration.keep,
            }  # fmt: skip
            found = _elsewhere(json_text(asked, indent=None), 2 * job.config.compare.hang_seconds or None)
            if isinstance(found, Cost):
                engine = engine.model_copy(update={"cost": found})
            else:
                notes.append(f"The cost of {engine.name} was not measured: {found}")
        engines.append(engine)
    report = report.model_copy(update={"engines": tuple(engines), "notes": (*report.notes, *notes)})
    return with_rates(job, report, list(asked_for.values()), size, job.config.compare.device)


def _elsewhere(asked: str, seconds: float | None) -> Cost | str:
    """The cost, or why there is none: opening and a first frame may take so long together."""
    command = [sys.executable, "-P", "-m", __name__]
    try:
        done = subprocess.run(command, input=asked, capture_output=True, text=True, errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"it took more than {seconds:g} s."
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return f"its process {ended_text(done.returncode)}: {last}"
    return Cost.model_validate(parse_json(done.stdout.splitlines()[-1]))


def measure(
    name: str, checkpoint: str, order: Literal["bgr", "rgb"] | None, store: str, size: Size, threads: int | None,
    dynamic: bool, device: str, manifest: str, algorithm: str, repairs: Sequence[str],
    keep: Sequence[str],
) -> Cost:  # fmt: skip
    """Of an engine of a checkpoint in this process; raises as what opens and runs it."""
    loaded = load_checkpoint(Path(checkpoint), order)
    kept, calibration = Store(Path(store)), Calibration(Path(manifest), algorithm, tuple(repairs), tuple(keep))
    padded = loaded.contract.padded_size(*size)
    candidate = make_candidate(name, kept, loaded, threads, calibration=calibration, dynamic=dynamic, device=device)
    start = time.perf_counter()
    with candidate.open(padded) as runner:
        opened = time.perf_counter()
        restore_frame(runner, np.zeros((*size, 3), np.uint8))
        ended = time.perf_counter()
    peak = peak_bytes()  # before anything else is asked
    named = name_engine(name, device=device)
    if named.file is not None:
        disk: int | None = named.file.stat().st_size
    elif named.engine.runs == "graph":
        graph = engine_graph(named.engine.name, kept, loaded, None if dynamic else padded, calibration, threads)
        disk = graph.path.stat().st_size
    else:
        disk = loaded.size_bytes if named.engine.runs == "checkpoint" else None
    return Cost(
        load_s=opened - start,
        first_frame_s=ended - opened,
        peak_mib=peak / 2**20,
        disk_mib=None if disk is None else disk / 2**20,
    )


if __name__ == "__main__":
    end_with_parent()
    told = json_text(measure(**parse_json(sys.stdin.read())).model_dump(), indent=None)
    sys.stdout.write(f"{told}\n")
