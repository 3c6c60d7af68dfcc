"""What machine this is and where its ceilings are, as JSON to the file that is named. Nothing that fails stops it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "triton", "numpy", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu", "pydantic", "pillow",
    "scipy", "scikit-image", "protobuf", "pytest", "hypothesis", "psutil", "rich", "jinja2", "tensorrt",
    "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs", "nvidia-cudnn-cu13", "cuda-bindings",
)  # fmt: skip
SMI = (
    "name,driver_version,compute_cap,memory.total,clocks.sm,clocks.mem,clocks.max.sm,power.limit,mig.mode.current,"
    "temperature.gpu"
)


def attempt(question: Callable[[], Any]) -> Any:
    """The answer, or the error as a line of text: one question never costs the others."""
    try:
        return question()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]


def shell(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.strip()


def packages() -> dict[str, str | None]:
    """Versions of what is installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def milliseconds(work: Callable[[], Any], count: int = 10) -> float:
    """Median between two events, after three runs that do not count."""
    import torch

    for _ in range(3):
        work()
    torch.cuda.synchronize()
    times = []
    for _ in range(count):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        work()
        after.record()
        after.synchronize()
        times.append(before.elapsed_time(after))
    return sorted(times)[count // 2]


def ceilings() -> dict[str, Any]:
    """Copying and matrix products at their best: what an engine's own rates are held against."""
    import torch

    found: dict[str, Any] = {}
    x = torch.empty(1 << 30, dtype=torch.uint8, device="cuda").random_()
    y = torch.empty_like(x)
    found["copy_TB_s"] = 2 * x.numel() / milliseconds(lambda: y.copy_(x)) / 1e9
    host = torch.empty(11_059_200, dtype=torch.uint8, pin_memory=True)  # a 720p frame of floats
    device = torch.empty_like(host, device="cuda")
    found["h2d_pinned_GB_s"] = host.numel() / milliseconds(lambda: device.copy_(host, non_blocking=True)) / 1e6
    found["d2h_pinned_GB_s"] = host.numel() / milliseconds(lambda: host.copy_(device, non_blocking=True)) / 1e6

    def product(dtype: torch.dtype) -> float:
        a, b = (torch.randn(8192, 8192, device="cuda").to(dtype) for _ in range(2))
        if dtype != torch.float8_e4m3fn:
            return 2 * 8192**3 / milliseconds(lambda: a @ b) / 1e9
        one = torch.ones((), device="cuda")
        work = lambda: torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16)  # noqa: E731
        return 2 * 8192**3 / milliseconds(work) / 1e9

    for name in ("float16", "bfloat16", "float8_e4m3fn"):
        key = f"matmul_{'fp8' if '8_' in name else name}_TFLOP_s"
        found[key] = attempt(lambda name=name: product(getattr(torch, name)))
    return found


def of_torch() -> dict[str, Any]:
    """PyTorch, what it sees, and the ceilings where it sees a GPU."""
    import torch

    found: dict[str, Any] = {"version": torch.__version__, "cuda": torch.version.cuda}
    found["available"] = torch.cuda.is_available()
    if found["available"]:
        gpu = torch.cuda.get_device_properties(0)
        found |= {
            "cudnn": torch.backends.cudnn.version(), "name": gpu.name, "sm": f"{gpu.major}.{gpu.minor}",
            "multiprocessors": gpu.multi_processor_count, "l2": getattr(gpu, "L2_cache_size", None),
            "memory": gpu.total_memory, "arch_list": torch.cuda.get_arch_list(),
        }  # fmt: skip
    return found


def own_driver_code() -> str:
    """Streams, events and the time between them through unblur's own bindings of the driver."""
    from unblur.engines.tensorrt.cuda_driver import CudaDriver, Event, Stream, StreamEvents

    driver = CudaDriver()
    with driver.active():
        stream, event = Stream(driver), Event(driver)
        stream.record(event)
        stream.wait(event)
        event.synchronize()
        events = StreamEvents(driver, stream)
        events.around(lambda: None)
        stream.synchronize()
        ms = events.elapsed_ms()
        events.close()
        event.close()
        stream.close()
    driver.close()
    return f"streams and events work; {1e3 * ms:.1f} us between two events with nothing between them"


def probed() -> str:
    from unblur.engines.tensorrt.product import probe_driver

    return str(probe_driver())


def main(output: Path) -> None:
    """Ask everything, write what is known after each answer."""
    facts: dict[str, Any] = {}

    def note(key: str, question: Callable[[], Any]) -> None:
        facts[key] = attempt(question)
        output.write_text(json.dumps(facts, indent=1) + "\n")
        if key != "packages":
            print(f"{key}: {facts[key]}", flush=True)

    note("python", lambda: sys.version)
    note("uname", lambda: " ".join(platform.uname()))
    note("cpus", os.cpu_count)
    note("nvidia_smi", lambda: shell("nvidia-smi", f"--query-gpu={SMI}", "--format=csv"))
    note("nvcc", lambda: shell("nvcc", "--version").splitlines()[-1:])
    note("packages", packages)
    note("torch", of_torch)
    if isinstance(facts["torch"], dict) and facts["torch"]["available"]:
        note("ceilings", ceilings)
        if isinstance(facts["ceilings"], dict):
            facts |= facts.pop("ceilings")
    note("probe_driver", probed)
    note("cuda_driver", own_driver_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
