"""Engines by name. A name says backend, precision and form; nothing else about an engine is left to chance."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from unblur.core.errors import InputError, nearest
from unblur.engines.graph_file import GraphFile, read_graph
from unblur.engines.runner import Runner
from unblur.engines.source import Weights

REFERENCE = "torch"
"""The engine that every other is measured against: eager PyTorch in float32."""


@dataclass(frozen=True)
class Engine:
    """An entry of the catalogue. `open` gets its name, the checkpoint, the graph (None if not needed), threads."""

    text: str
    needs_graph: bool
    open: Callable[[str, Weights, GraphFile | None, int], Runner]


def _torch(bf16: bool = False, channels_last: bool = False, compiled: bool = False) -> Engine:
    def open_it(name: str, checkpoint: Weights, graph: GraphFile | None, threads: int) -> Runner:
        from unblur.engines.torch_runner import TorchRunner, TorchVariant

        del graph
        return TorchRunner(name, checkpoint, TorchVariant(bf16, channels_last, compiled), threads)

    form = "torch.compile on channels_last" if compiled else "eager, channels_last" if channels_last else "eager"
    return Engine(f"PyTorch, {form}, {'bfloat16' if bf16 else 'float32'}", False, open_it)


def _onnxruntime(name: str, checkpoint: Weights, graph: GraphFile | None, threads: int) -> Runner:
    from unblur.engines.onnxruntime_runner import OnnxRuntimeRunner

    del checkpoint
    assert graph is not None
    return OnnxRuntimeRunner(name, graph, threads)


def _openvino(name: str, checkpoint: Weights, graph: GraphFile | None, threads: int) -> Runner:
    from unblur.engines.openvino_runner import OpenVinoRunner

    del checkpoint
    assert graph is not None
    return OpenVinoRunner(name, graph, "bf16" if name.endswith("-bf16") else "f32", threads)


CATALOGUE: Mapping[str, Engine] = {
    REFERENCE: _torch(),
    "torch-channels-last": _torch(channels_last=True),
    "torch-bf16": _torch(bf16=True, channels_last=True),
    "torch-compile": _torch(channels_last=True, compiled=True),
    "torch-compile-bf16": _torch(bf16=True, channels_last=True, compiled=True),
    "onnxruntime": Engine("ONNX Runtime, float32 graph", True, _onnxruntime),
    "openvino": Engine("OpenVINO, float32", True, _openvino),
    "openvino-bf16": Engine("OpenVINO, bfloat16", True, _openvino),
}


def find_engine(name: str) -> Engine:
    """The catalogue's entry. Raises InputError naming the nearest known engine."""
    if name not in CATALOGUE:
        raise InputError(f"Unknown engine {name!r}{nearest(name, CATALOGUE)}; known: {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]


def default_threads() -> int:
    """Physical cores that this process may run on: the same number for every backend."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed))


def open_engine(name: str, checkpoint: Weights, graph: Path | None, threads: int | None = None) -> Runner:
    """Open an engine of the catalogue.

    `graph`: the exported ONNX file of the same checkpoint, for engines that run one; torch engines ignore it.
    `threads`: None for `default_threads`. Raises InputError for an unknown name, a graph that is missing, foreign or
    of another checkpoint, or fewer than one thread; MissingRuntimeError when the package or the CPU's instructions
    are missing; BudgetError when the backend took another precision.
    """
    engine = find_engine(name)
    if threads is None:
        threads = default_threads()
    if threads < 1:
        raise InputError(f"{name}: {threads} threads; ask for at least 1.")
    if not engine.needs_graph:
        return engine.open(name, checkpoint, None, threads)
    if graph is None:
        raise InputError(f"{name} runs an exported graph and none was given; export it with `unblur export`.")
    graph_file = read_graph(graph)
    if graph_file.checkpoint not in (None, checkpoint.digest):
        raise InputError(
            f"{graph} was exported from another checkpoint ({graph_file.checkpoint[:12]}...) than {checkpoint.path} "
            f"({checkpoint.digest[:12]}...); export it again, or give the checkpoint it came from."
        )
    return engine.open(name, checkpoint, graph_file, threads)
