"""What the TensorRT runner itself costs a frame: host-side Python only, on a fake device that does nothing.

    python tests/engines/tensorrt/measure_host_overhead.py

Neither the driver nor TensorRT is here: their calls are Python functions of the fake. The sizes tell the fixed cost
from that of copying the frame into and out of pinned memory. `run_on_device` copies nothing.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[2] / "graphs")]

import numpy as np
from fake_cuda import Event
from fake_machine import FakeMachine
from tiny_graph import BYTES, write_graph

ROUNDS, FRAMES = 9, 200


def idle(machine: FakeMachine) -> None:
    """A GPU that takes work and does none of it."""
    gpu: Any = machine.gpu
    gpu.submit = lambda *_: None
    gpu.record = lambda *_: Event()
    gpu.wait = gpu.synchronize = lambda *_: None
    machine.__dict__["_demand_pinned"] = lambda *_: None


def milliseconds(work: Callable[[], Any]) -> float:
    """Median over rounds of the mean of FRAMES calls."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        rounds.append((time.perf_counter() - start) / FRAMES * 1e3)
    return median(rounds)


def measure(product: str, size: tuple[int, int], folder: Path) -> None:
    machine = FakeMachine(product, memory_bytes=8 << 30)
    file = machine.build(write_graph(folder / "g.onnx", size, BYTES), folder / "e.engine")
    with machine.open(file) as runner:
        idle(machine)
        frame = BYTES.encode(np.zeros((*size, 3), np.uint8))
        address = [machine.gpu.allocate(frame.nbytes) for _ in range(2)]
        source, target = (
            SimpleNamespace(__cuda_array_interface__={"data": (a, False), "shape": frame.shape, "typestr": "|u1"})
            for a in address
        )
        for name, work in {
            "run": lambda: sum(runner.run(frame) is None for _ in range(FRAMES)),
            "run_many": lambda: sum(1 for _ in runner.run_many([frame] * FRAMES)),
            "run_on_device": lambda: sum(runner.run_on_device(source, target) is None for _ in range(FRAMES)),
        }.items():
            work()
            machine.tensorrt.calls.clear()
            where = f"{product:<13} {size[0]:>3}x{size[1]:<5} {name:<14}"
            print(f"{where} {milliseconds(work):.3f} ms a frame", flush=True)  # noqa: T201


if __name__ == "__main__":
    print("host-side Python only, fake device that does nothing")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        for product in ("tensorrt-11", "tensorrt-rtx"):
            for size in ((16, 16), (256, 256), (720, 1280)):
                measure(product, size, Path(folder))
