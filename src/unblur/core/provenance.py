"""Where an artefact comes from: versions of what made it and the machine it was made on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import psutil

PACKAGES = ("unblur", "torch", "numpy", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino",
            "tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12",
            "ml-dtypes", "onnx-ir", "pillow", "scipy", "scikit-image", "opencv-python", "opencv-python-headless",
            "opencv-contrib-python", "opencv-contrib-python-headless")  # fmt: skip

SWITCHES = re.compile(
    r"(OMP|GOMP|KMP|MKL|ONEDNN|DNNL|OPENBLAS|ATEN|TORCH|TORCHDYNAMO|TORCHINDUCTOR|TRITON|PYTORCH|ORT|OV|OPENVINO|TBB"
    r"|MALLOC|CUDA|CUBLAS|CUBLASLT|CUDNN|NVIDIA)_(?!(\w+_)?(HOME|ROOT|PATH|DIR|VERSION)$|REQUIRE_|VISIBLE_DEV|DRIVER_)\w+"
    r"|CUDA_VISIBLE_DEVICES|LD_PRELOAD|GLIBC_TUNABLES"
)
"""Variables by which somebody may change what the libraries of the engines do, or how fast; not places and versions."""

FOLDER = re.compile(r"(\b[A-Za-z]:)?[^\s:=,;]*[/\\]")

OWN_SWITCH = "ORT_DISABLE_TELEMETRY"
"""Set by unblur itself."""


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


def code_digest(things: Iterable[object]) -> str:
    """SHA-256 of the source files in which functions and classes are written that are none of unblur's; "" for none.

    Of those files alone: what they call in others is not followed. What no file holds (a notebook) is another one in
    each process.
    """
    total = sha256()
    names = sorted({getattr(getattr(thing, "func", thing), "__module__", None) or "?" for thing in things})
    foreign = [name for name in names if name.partition(".")[0] not in ("unblur", "torch", "builtins")]
    for name in foreign:
        file = getattr(sys.modules.get(name), "__file__", None)
        total.update(Path(file).read_bytes() if file and Path(file).is_file() else _PROCESS)
    return total.hexdigest() if foreign else ""


_PROCESS = os.urandom(16)


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


def switches() -> str:
    """The SWITCHES that are set, such as "OMP_WAIT_POLICY=passive", without the folders in them; "" for none."""
    found = {name: value for name, value in sorted(os.environ.items()) if SWITCHES.fullmatch(name)}
    found.pop(OWN_SWITCH, None)
    return ", ".join(f"{name}={FOLDER.sub('', value)}" for name, value in found.items())


def machine() -> dict[str, str]:
    """Processor, the instructions of CPU_FEATURES that it has, cores and memory, and, where there are any, the SWITCHES
    that are set, as reports show them.
    """
    return {
        "cpu": cpu_model(),
        "instructions": ", ".join(name for name, has in cpu_features().items() if has),
        "physical_cores": str(psutil.cpu_count(logical=False)),
        "usable_cores": str(usable_cores()),
        "memory_gib": f"{psutil.virtual_memory().total / 2**30:.1f}",
        "system": platform.platform(),
        "python": platform.python_version(),
        **({"switches": told} if (told := switches()) else {}),
    }


CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Conditions:
    """What a machine was at, at one moment; None or "" where the system does not tell.

    load: average over the last minute. clock_mhz: mean of the cores. governor: of their clocks. temperature_c: the
    hottest sensor. turbo: "on" or "off". throttled: how often the cores were slowed down since the machine began.
    stolen_s: seconds of all cores since then that its host gave to others. waited_s: seconds since then in which
    something that could run had no core. gpus: each GPU's name, clock, temperature, watts, and why it is slowed
    down (0 for no reason).
    """

    load: float | None = None
    clock_mhz: float | None = None
    governor: str = ""
    temperature_c: float | None = None
    turbo: str = ""
    throttled: int | None = None
    stolen_s: float | None = None
    waited_s: float | None = None
    gpus: tuple[str, ...] = ()


def conditions() -> Conditions:
    """As they are now."""
    clock = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    heats = [one.current for some in sensors.values() for one in some if one.current]
    return Conditions(
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        clock_mhz=round(clock.current, 1) if clock and clock.current else None,
        governor=", ".join(sorted(set(read_each(CPUS, "cpu[0-9]*/cpufreq/scaling_governor")))),
        temperature_c=max(heats, default=None),
        turbo=turbo(),
        throttled=throttled(),
        stolen_s=getattr(psutil.cpu_times(), "steal", None),
        waited_s=waited_s(),
        gpus=gpus(),
    )


def read_each(folder: Path, pattern: str) -> list[str]:
    """What stands in the files of a pattern, those that cannot be read left out."""
    found = []
    for file in sorted(folder.glob(pattern)):
        with suppress(OSError):
            found.append(file.read_text().strip())
    return found


def turbo(cpus: Path = CPUS) -> str:
    """Whether clocks may rise above the nominal one: "on", "off", or "" where nothing says so."""
    for off, pattern in (("1", "intel_pstate/no_turbo"), ("0", "cpufreq/boost")):
        if told := read_each(cpus, pattern):
            return "off" if told[0] == off else "on"
    return ""


def throttled(cpus: Path = CPUS) -> int | None:
    """How often cores and packages were slowed down for heat; None where nothing counts it (virtual machines)."""
    counts = read_each(cpus, "cpu[0-9]*/thermal_throttle/*_throttle_count")
    return sum(map(int, counts)) if counts else None


def waited_s(file: Path = Path("/proc/pressure/cpu")) -> float | None:
    """Seconds in which something waited for a core, by Linux's pressure stall information; None where it has none."""
    with suppress(OSError, StopIteration, ValueError, KeyError):
        some = next(line for line in file.read_text().splitlines() if line.startswith("some"))
        return int(dict(part.split("=") for part in some.split()[1:])["total"]) / 1e6
    return None


def gpus() -> tuple[str, ...]:
    """What NVIDIA's own tool says of each GPU; none where it is not there or knows no such question."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    asked = "name,clocks.sm,temperature.gpu,power.draw,clocks_throttle_reasons.active"
    try:
        done = subprocess.run(
            [tool, f"--query-gpu={asked}", "--format=csv,noheader"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip()) if done.returncode == 0 else ()


def granted_cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Cores whose time the control groups of this process grant it, as a container's limit is (`docker run --cpus`);
    None for no limit. Linux, cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us); the limits of groups further out count too.
    """
    limits = []
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = (*line.split(":", 2), "", "")[:3]
            if controllers and "cpu" not in controllers.split(","):
                continue
            base = groups / controllers if controllers else groups
            if not base.is_dir():  # mounted by one of its names
                base = groups / "cpu"
            inner = base / path.lstrip("/")
            for folder in (inner, *(one for one in inner.parents if one == base or base in one.parents)):
                told = read_each(folder, "cpu.max") or [
                    " ".join(read_each(folder, "cpu.cfs_quota_us") + read_each(folder, "cpu.cfs_period_us"))
                ]
                with suppress(ValueError, ZeroDivisionError):  # "max 100000", and nothing at all
                    quota, period = map(int, told[0].split())
                    limits += [quota / period] if quota > 0 else []
    return min(limits, default=None)


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """Logical cores that this process may run on, or whose time it is granted where that is less."""
    granted = granted_cores()
    return _allowed_cores() if granted is None else max(1, min(_allowed_cores(), int(granted)))


def physical_cores() -> int:
    """Physical cores that this process may run on, with however much of their time."""
    return max(1, min(psutil.cpu_count(logical=False) or os.cpu_count() or 1, _allowed_cores()))


def default_threads() -> int:
    """Physical cores that this process may use whole: the same number for every backend."""
    return min(physical_cores(), usable_cores())
