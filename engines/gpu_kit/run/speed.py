"""The ladder on a GPU: each engine of the catalogue at each size, one after the other, within a budget of seconds.

    speed.py OUT.jsonl --network banet --sizes 256x256,720x1280 --budget 170 [--engines NAME ...] [--skip NAME ...]

For each engine: seconds to the first frame, agreement with float32 on the same GPU, `frame_ms` (pixels in host memory
to pixels in host memory, one at a time, as unblur's stopwatch) and `gpu_ms` (events around the work on the device
alone). A line is written as soon as it is known; whatever fails is a line with its error. The sizes go the last first.
Without a GPU (`--rehearse`) the engine `torch` of the CPU goes the same way.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unblur.engines.catalogue import open_engine
from unblur.engines.runner import Queueing
from unblur.metrics.decibels import decibels_to_json
from unblur.metrics.quality import psnr_db
from unblur.networks.random_weights import random_checkpoint

REFERENCE = "torch-cuda"
ENGINES = (
    REFERENCE,
    "torch-cuda-fp16-channels-last-graph",
    "torch-cuda-form-fp16-graph",
    "torch-cuda-tf32-channels-last-graph",
    "torch-cuda-fp16-channels-last",
    "torch-cuda-bf16-channels-last-graph",
    "torch-cuda-form-compile-fp16-graph",
    "torch-cuda-compile-fp16-graph",
    "torch-cuda-tf32",
    "torch-cuda-fp16",
    "torch-cuda-compile-fp16",
)
SECONDS = {True: 45.0, False: 12.0}
"""What an engine may take before it is left out for want of time: a compiled one, and any other."""
EACH_S = 5.0


def quantiles(times: list[float]) -> dict[str, float]:
    """Of milliseconds."""
    p10, p50, p90 = np.quantile(times, (0.1, 0.5, 0.9))
    return {"p50": float(p50), "p10": float(p10), "p90": float(p90), "best": min(times), "n": len(times)}


def by_the_clock(call: Callable[[], Any], frames: int) -> dict[str, float]:
    """`call` returns when its work is done."""
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < frames and (time.perf_counter() - begun < EACH_S or len(times) < 3):
        started = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - started))
    return quantiles(times)


def by_events(runner: Queueing, shape: tuple[int, ...], frames: int) -> dict[str, float]:
    """Between two events on the runner's stream: the device alone, no copies."""
    times: list[float] = []
    begun = time.perf_counter()
    with runner.resident(shape) as work, runner.events() as events:
        for _ in range(3):
            work()
        while len(times) < frames and (time.perf_counter() - begun < EACH_S or len(times) < 3):
            events.around(work)
            runner.wait()
            times.append(events.elapsed_ms())
    return quantiles(times)


def measure(name: str, checkpoint: Any, frame: NDArray[np.uint8], frames: int, reference: NDArray[Any] | None) -> Any:
    """What is known of one engine, and what it restored in [0, 1]."""
    started = time.perf_counter()
    with open_engine(name, checkpoint, None) as runner:
        contract = runner.signature.contract
        x = contract.encode(frame)
        y = runner.run(x)
        facts: dict[str, Any] = {"first_s": time.perf_counter() - started}
        span = contract.high - contract.low
        picture = y[0] / 255.0 if contract.dtype == "uint8" else (y[0].transpose(1, 2, 0) - contract.low) / span
        if contract.channel_order == "bgr":
            picture = picture[..., ::-1]
        agrees = None if reference is None else psnr_db(reference, picture.astype(np.float64), peak=1.0)
        facts["agrees_db"] = decibels_to_json(agrees)
        for _ in range(3):
            runner.run(x)
        facts["frame_ms"] = by_the_clock(lambda: runner.run(x), frames)
        if isinstance(runner, Queueing):
            facts["gpu_ms"] = by_events(runner, x.shape, frames)
            facts["peak_MiB"] = torch.cuda.max_memory_allocated() / 2**20
            torch.cuda.reset_peak_memory_stats()
    return facts, picture.astype(np.float64)


def main() -> None:
    """Each size, each engine, each line at once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--network", default="banet")
    parser.add_argument("--sizes", default="256x256,720x1280")
    parser.add_argument("--budget", type=float, default=170, help="seconds")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES))
    parser.add_argument("--skip", nargs="*", default=[])
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--rehearse", action="store_true", help="without a GPU")
    arguments = parser.parse_args()
    start = time.perf_counter()
    reference_name = "torch" if arguments.rehearse else REFERENCE
    names = ["torch"] if arguments.rehearse else [n for n in arguments.engines if n not in arguments.skip]

    def left() -> float:
        return float(arguments.budget) - (time.perf_counter() - start)

    with arguments.output.open("a") as lines, tempfile.TemporaryDirectory() as folder:

        def write(**facts: Any) -> None:
            facts = {"network": arguments.network, **facts, "at_s": round(time.perf_counter() - start, 1)}
            lines.write(json.dumps(facts, default=str) + "\n")
            lines.flush()
            print("  ".join(f"{k}={v}" for k, v in facts.items() if k != "trace"), flush=True)

        checkpoint = random_checkpoint(arguments.network, 0, Path(folder))
        for size in reversed(arguments.sizes.split(",")):
            height, width = (int(side) for side in size.split("x"))
            frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
            reference: NDArray[Any] | None = None
            if reference_name not in names:  # agreement needs it; its time was taken elsewhere
                reference = measure(reference_name, checkpoint, frame, 1, None)[1]
            for name in names:
                if name != reference_name and left() < SECONDS["compile" in name]:
                    write(engine=name, size=size, skipped=f"{left():.0f} s left")
                    continue
                try:
                    facts, picture = measure(name, checkpoint, frame, arguments.frames, reference)
                except Exception as error:
                    write(engine=name, size=size, error=str(error)[:600], trace=traceback.format_exc()[-1500:])
                else:
                    reference = picture if name == reference_name else reference
                    write(engine=name, size=size, **facts)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
