"""Where an artefact comes from: versions of what made it and the machine it was made on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

PACKAGES = ("unblur", "torch", "numpy", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino",
            "tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12",
            "opencv-python-headless")  # fmt: skip


@cache
def package_versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on; absent ones are left out. Imports none."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


CPU_FEATURES = {
    "AVX2": ("avx2",),
    "AVX512-VNNI": ("avx512_vnni", "avx_vnni"),
    "AMX": ("amx_int8", "amx_bf16"),
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16"),
}
"""Instructions that engines on a CPU are fast or slow by, and the flags of Linux that tell of them; "bf16" is Arm's.

8 bits want VNNI or AMX, bfloat16 its own.
"""


def cpu_features() -> dict[str, bool]:
    """Which of CPU_FEATURES this processor has; empty where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next(
        (set(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))), None
    )
    return {} if flags is None else {name: not flags.isdisjoint(any_of) for name, any_of in CPU_FEATURES.items()}


def machine() -> dict[str, str]:
    """Processor, the instructions of CPU_FEATURES that it has, cores and memory, as reports show them."""
    return {
        "cpu": cpu_model(),
        "instructions": ", ".join(name for name, has in cpu_features().items() if has),
        "physical_cores": str(psutil.cpu_count(logical=False)),
        "usable_cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory_gib": f"{psutil.virtual_memory().total / 2**30:.1f}",
        "system": platform.platform(),
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class Conditions:
    """What a machine was at, at one moment; None or "" where the system does not tell.

    load: average over the last minute. clock_mhz: mean of the cores. governor: of their clocks. temperature_c: the
    hottest sensor.
    """

    load: float | None = None
    clock_mhz: float | None = None
    governor: str = ""
    temperature_c: float | None = None


def conditions() -> Conditions:
    """As they are now."""
    clock = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    governors = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    heats = [one.current for some in sensors.values() for one in some if one.current]
    return Conditions(
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        clock_mhz=round(clock.current, 1) if clock and clock.current else None,
        governor=", ".join(sorted({file.read_text().strip() for file in governors})),
        temperature_c=max(heats, default=None),
    )


def default_threads() -> int:
    """Physical cores that this process may run on: the same number for every backend."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed))
