"""A foreign graph's first run, in a process of its own: it may never end, take all memory, or take the process down.

A graph says little of what it will cost: one node can loop for ever or make a tensor of terabytes. What has come
through here once, within limits that follow from its frame, is then opened beside everything else.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import psutil

from unblur.core.errors import BudgetError, InputError, MissingRuntimeError, UnblurError
from unblur.core.interrupts import end_with_parent
from unblur.core.reading import parse_json
from unblur.graphs.file import GraphFile, read_graph
from unblur.images.contract import PixelContract

ERRORS: dict[str, type[UnblurError]] = {e.__name__: e for e in (InputError, BudgetError, MissingRuntimeError)}

SECONDS, SECONDS_PER_MEGAPIXEL = 60, 300
"""Importing and compiling, and one run: ten times what 254e9 multiply-accumulates take on two cores of 2024."""

BYTES, FRAMES, FILES = 2**30, 1000, 8
"""The backend itself; so many float32 frames, of which a wide network keeps 80 at a time; and the file so often."""

BYTES_ON_A_GPU = 4 * 2**30
"""Of such a backend instead: PyTorch's and ONNX Runtime's libraries are half a GiB before CUDA and cuDNN have begun."""

SIDE = 64
"""Of the frame for a graph of every size, in pixels."""

POLL_S = 0.05


@cache
def rehearse(name: str, graph: GraphFile, threads: int, seconds: float | None = None, gpu: int = 0) -> None:
    """Open a graph with an engine of the catalogue and run one black frame through it, elsewhere; once for each.

    `seconds`: how long that may take, None for what its size allows. Raises what opening and running raise, and
    InputError where the limits of time and memory are exceeded or the process ends by itself.
    """
    height, width = frame_size(graph)
    seconds = seconds or SECONDS + SECONDS_PER_MEGAPIXEL * height * width / 1e6
    allowed = min(allowed_bytes(name, graph), psutil.virtual_memory().available)
    command = [sys.executable, "-P", "-m", __name__, name, str(graph.path.resolve()), graph.output, str(threads)]
    command += [graph.signature.contract.to_json(), str(gpu)]
    start = time.monotonic()
    what = f"{name}: {graph.path}, which is not known to be exported by unblur,"
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        try:
            while True:
                try:
                    told, noise = process.communicate(timeout=POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() - start > seconds:
                        raise InputError(f"{what} did not open and run in {seconds:.0f} s; it is not run.") from None
                    if _resident(process.pid) > allowed:
                        raise InputError(
                            f"{what} took more than {allowed / 2**30:.1f} GiB for a frame of {height}x{width}; it is "
                            "not run."
                        ) from None
        finally:
            process.kill()
    _raise_told(what, told, noise, process.returncode)


def frame_size(graph: GraphFile) -> tuple[int, int]:
    """(height, width) of the frame that is tried: the graph's own where it has one."""
    contract = graph.signature.contract
    return contract.padded_size(graph.signature.height or SIDE, graph.signature.width or SIDE)


def allowed_bytes(name: str, graph: GraphFile) -> int:
    """What the process of an engine may have of the host's memory with such a graph."""
    from unblur.engines.catalogue import find_engine

    height, width = frame_size(graph)
    backend = BYTES if find_engine(name).device == "cpu" else BYTES_ON_A_GPU
    return backend + FRAMES * height * width * 3 * 4 + FILES * graph.path.stat().st_size


def main(name: str, path: str, output: str, threads: str, contract: str, gpu: str) -> None:
    """What the other process does; it tells how it went in its last line."""
    from unblur.engines.catalogue import find_engine
    from unblur.engines.engine import Opening

    error = None
    try:
        graph = read_graph(Path(path), output, PixelContract.from_json(contract))
        with find_engine(name).open(Opening(name, None, graph, int(threads), int(gpu))) as runner:
            runner.run(graph.signature.contract.encode(np.zeros((*frame_size(graph), 3), np.uint8)))
    except UnblurError as caught:
        error = [type(caught).__name__, str(caught)]
    sys.stdout.write("\n" + json.dumps({"rehearsed": error}) + "\n")


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:  # it has just ended
        return 0


def _raise_told(what: str, told: str, noise: str, status: int) -> None:
    try:
        error = parse_json(told.strip().rpartition("\n")[2])["rehearsed"]
    except (ValueError, TypeError, KeyError) as absent:
        ended = signal.Signals(-status).name if status < 0 else f"status {status}"
        last = noise.strip().rpartition("\n")[2][:300]
        raise InputError(f"{what} ended the process that opened it ({ended}{': ' * bool(last)}{last}).") from absent
    if error is not None:
        raise ERRORS.get(error[0], UnblurError)(error[1])


if __name__ == "__main__":
    end_with_parent()
    main(*sys.argv[1:])
