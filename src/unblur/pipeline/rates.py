"""What engines make of their devices: multiply-adds of the exact graph, held against what the machine gave at most."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import onnx

from unblur.compare.measure.ceilings import measure_ceilings, rates_of
from unblur.compare.report import Report
from unblur.compare.speed import SpeedReport
from unblur.compare.timing import Ceilings
from unblur.core.artefacts import json_text
from unblur.core.bounds import Size
from unblur.core.provenance import default_threads
from unblur.core.reading import read_json
from unblur.engines.named import name_engine
from unblur.engines.tensorrt.product import find_device
from unblur.graphs.facts import read_facts
from unblur.pipeline.job import Job
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.store import Recipe

CPU = "cpu"
Told = TypeVar("Told", Report, SpeedReport)


def with_rates(job: Job, report: Told, names: Iterable[str], size: Size, device: str) -> Told:
    """The report with the rates of every engine that was timed at (height, width), and the ceilings of their devices.

    `names`: as engines are written, and `device`: of those on a GPU. Counting needs a graph of that size: made without
    a proof, and kept.
    """
    timed = {engine.name: engine.latency for engine in report.engines if engine.latency}
    if not timed:
        return report
    padded = job.origin.contract.padded_size(*size)
    graph = stored_graph(job.store, job.origin, padded, check=False, progress=job.progress)
    facts = read_facts(onnx.load(str(graph.path)), *padded)
    named = [name_engine(name, device=device) for name in names]
    gpu = device if ":" in device else "cuda:0"
    where = {one.label: gpu if one.engine.device == "cuda" else CPU for one in named}
    ceilings = {each: stored_ceilings(job, each) for each in sorted({where.get(name, CPU) for name in timed})}
    rates = {name: rates_of(latency, facts, ceilings[where.get(name, CPU)]) for name, latency in timed.items()}
    engines = tuple(engine.model_copy(update={"rates": rates.get(engine.name)}) for engine in report.engines)
    return report.model_copy(update={"engines": engines, "ceilings": tuple(ceilings.values())})


def stored_ceilings(job: Job, device: str) -> Ceilings:
    """Measured once for a machine, a device and a number of threads, in seconds."""
    threads = job.threads or default_threads()
    spec = {"threads": threads, "device": device}
    if device != CPU:
        spec["gpu"] = find_device(int(device.partition(":")[2])).name
    recipe = Recipe("ceilings", spec, {}, frozenset({"openvino"}), machine_bound=True)

    def write(path: Path) -> None:
        job.progress.note(f"measuring what {device} gives at most")
        path.write_text(json_text(measure_ceilings(threads, device).model_dump(mode="json")))

    label = f"{device.replace(':', '-')}-{threads}.json"
    return Ceilings.model_validate(read_json(job.store.make(recipe, label, write).path))
