"""What a result depends on because of the engines that gave it: out of their records and the devices here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unblur.core.artefacts import value_digest
from unblur.core.errors import MissingRuntimeError
from unblur.core.provenance import code_digest
from unblur.engines.catalogue import demand_device
from unblur.engines.engine import Engine
from unblur.engines.named import NamedEngine
from unblur.engines.tensorrt import product
from unblur.pipeline.store import installed


@dataclass(frozen=True)
class Dependence:
    """`packages`: what counts of the runtimes, for `Recipe.runtimes`. `spec`: the rest, as JSON, for `Recipe.spec`."""

    packages: frozenset[str] = frozenset()
    spec: dict[str, Any] = field(default_factory=dict)


def depends_on(engines: Sequence[NamedEngine], device: str = "") -> Dependence:
    """What results of these engines depend on: their records, the files they were named with, and for those on a GPU
    its name, family and memory and the driver, or that there is none. Loads no runtime of a CPU.
    """
    packages: frozenset[str] = frozenset()
    spec: dict[str, Any] = {"engines": [_record(named) for named in engines]}
    for named in engines:
        packages |= named.engine.packages
    on_gpu = [named.engine for named in engines if named.engine.device == "cuda"]
    if on_gpu:
        spec["gpu"] = gpu_facts(demand_device(on_gpu[0], device))
        spec["modules"] = {engine.module: _version(engine) for engine in on_gpu}
    return Dependence(packages, spec)


def _manifest(named: NamedEngine) -> str | None:
    """Of an engine file: it says the pixels."""
    if named.told is None:  # then nothing that reads graphs is to be imported
        return None
    from unblur.engines.tensorrt.file import EngineFile

    return value_digest(named.told.manifest) if isinstance(named.told, EngineFile) else None


def _record(named: NamedEngine) -> dict[str, Any]:
    engine = named.engine
    return {
        "name": engine.name,
        "backend": engine.backend,
        "precision": engine.precision,
        "runs": engine.runs,
        "device": engine.device,
        "form": engine.form,
        "file": named.told and named.told.digest,
        "manifest": _manifest(named),
        "code": code_digest([engine.open]),  # of one that another package added
    }


def gpu_facts(number: int = 0) -> dict[str, Any] | None:
    """What results of a GPU depend on besides the engine; None where none answers."""
    try:
        driver, device = product.probe_driver(), product.find_device(number)
    except MissingRuntimeError:
        return None
    return {
        "name": device.name,
        "target": device.target,
        "memory_bytes": device.memory_bytes,
        "driver": driver.version,
        "cuda": driver.cuda_version,
    }


def _version(engine: Engine) -> str:
    """As the module itself says it, where no distribution tells: a system's package of TensorRT has none."""
    if installed(engine.packages) or importlib.util.find_spec(engine.module) is None:
        return ""
    return str(importlib.import_module(engine.module).__version__)
