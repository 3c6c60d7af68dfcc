"""Engines by name. A name says backend, precision and form; nothing else about an engine is left to chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from unblur.core.bounds import THREADS_MAX
from unblur.core.errors import InputError, nearest
from unblur.core.provenance import default_threads
from unblur.engines.onnxruntime_runner import CUDA, CUDA_TF32, TENSORRT, OnnxRuntimeRunner
from unblur.engines.rehearsal import rehearse
from unblur.engines.runner import Runner
from unblur.engines.source import Weights
from unblur.engines.tensorrt.file import EngineFile, read_engine
from unblur.graphs.file import GraphFile, read_graph
from unblur.graphs.sessions import CPU, Provider

REFERENCE = "torch"
"""The engine that every other is measured against: eager PyTorch in float32."""


@dataclass(frozen=True)
class Engine:
    """An entry of the catalogue, and what it runs: the checkpoint itself, an exported graph, or an engine file.

    `open` gets its name, the checkpoint, the graph or engine file (None where it runs the checkpoint), and threads.
    `form`: how the 8-bit graph that it runs is written (unblur.graphs.rewrites.forms); "" where none is demanded.
    """

    text: str
    runs: Literal["checkpoint", "graph", "engine"]
    open: Callable[[str, Weights, Any, int], Runner]
    form: str = ""


def _torch(bf16: bool = False, channels_last: bool = False, compiled: bool = False) -> Engine:
    def open_it(name: str, checkpoint: Weights, _: None, threads: int) -> Runner:
        from unblur.engines.torch_runner import TorchRunner, TorchVariant

        return TorchRunner(name, checkpoint, TorchVariant(bf16, channels_last, compiled), threads)

    form = "torch.compile on channels_last" if compiled else "eager, channels_last" if channels_last else "eager"
    return Engine(f"PyTorch, {form}, {'bfloat16' if bf16 else 'float32'}", "checkpoint", open_it)


def _torch_cuda(
    precision: str, *, channels_last: bool = False, compiled: bool = False, graph: bool = False, form: bool = False
) -> Engine:
    def open_it(name: str, checkpoint: Weights, _: None, threads: int) -> Runner:
        from unblur.engines.torch_cuda_runner import CudaVariant, TorchCudaRunner

        del threads
        variant = CudaVariant(cast(Any, precision), channels_last, compiled, graph, form)
        return TorchCudaRunner(name, checkpoint, variant)

    how = "torch.compile" if compiled else "eager"
    wanted = (("exact form, bytes in and out", form), ("channels_last", channels_last), ("CUDA graph", graph))
    extras = [text for text, given in wanted if given]
    return Engine(", ".join([f"PyTorch on CUDA, {how}, {precision}", *extras]), "checkpoint", open_it)


def _onnxruntime(text: str, provider: Provider) -> Engine:
    def open_it(name: str, _: Weights, graph: GraphFile, threads: int) -> Runner:
        return OnnxRuntimeRunner(name, graph, threads, provider)

    return Engine(f"ONNX Runtime, {text}", "graph", open_it)


def _openvino(name: str, _: Weights, graph: GraphFile, threads: int) -> Runner:
    from unblur.engines.openvino_runner import OpenVinoRunner

    return OpenVinoRunner(name, graph, "bf16" if name.endswith("-bf16") else "f32", threads)


def _eight_bits(text: str, form: str, open_graph: Callable[[str, Weights, GraphFile, int], Runner]) -> Engine:
    def open_it(name: str, checkpoint: Weights, graph: GraphFile, threads: int) -> Runner:
        if not graph.quantised:
            raise InputError(f"{name}: {graph.path} is not quantised; `unblur calibrate --form {form}` writes one.")
        return open_graph(name, checkpoint, graph, threads)

    return Engine(text, "graph", open_it, form)


def _onnxruntime_int8(name: str, _: Weights, graph: GraphFile, threads: int) -> Runner:
    return OnnxRuntimeRunner(name, graph, threads, demand_8_bits=True)


def _tensorrt(product: str, precision: str) -> Engine:
    def open_it(name: str, _: Weights, file: EngineFile, threads: int) -> Runner:
        from unblur.engines.tensorrt.runner import TensorRtRunner

        del threads
        if (file.product, file.precision) != (product, precision):
            actual = tensorrt_name(file.product, file.precision)
            raise InputError(f"{name}: {file.path} is {file.precision} of {file.product}; open it as {actual}.")
        return TensorRtRunner(name, file)

    return Engine(f"{'TensorRT for RTX' if product.endswith('rtx') else 'TensorRT'}, {precision}", "engine", open_it)


def tensorrt_name(product: str, precision: str) -> str:
    """The engine that runs engine files of a product and precision."""
    return product if precision == "fp32" else f"{product}-{precision}"


CATALOGUE: Mapping[str, Engine] = {
    REFERENCE: _torch(),
    "torch-channels-last": _torch(channels_last=True),
    "torch-bf16": _torch(bf16=True, channels_last=True),
    "torch-compile": _torch(channels_last=True, compiled=True),
    "torch-compile-bf16": _torch(bf16=True, channels_last=True, compiled=True),
    "onnxruntime": _onnxruntime("float32 graph", CPU),
    "openvino": Engine("OpenVINO, float32", "graph", _openvino),
    "openvino-bf16": Engine("OpenVINO, bfloat16", "graph", _openvino),
    "onnxruntime-int8": _eight_bits("ONNX Runtime, u8 x s8", "onnxruntime", _onnxruntime_int8),
    "openvino-int8": _eight_bits("OpenVINO, u8 x s8", "openvino", _openvino),
    "torch-cuda": _torch_cuda("f32"),
    "torch-cuda-tf32": _torch_cuda("tf32"),
    "torch-cuda-fp16": _torch_cuda("fp16"),
    "torch-cuda-fp16-channels-last": _torch_cuda("fp16", channels_last=True),
    "torch-cuda-fp16-channels-last-graph": _torch_cuda("fp16", channels_last=True, graph=True),
    "torch-cuda-bf16-channels-last-graph": _torch_cuda("bf16", channels_last=True, graph=True),
    "torch-cuda-tf32-channels-last-graph": _torch_cuda("tf32", channels_last=True, graph=True),
    "torch-cuda-compile-tf32": _torch_cuda("tf32", channels_last=True, compiled=True),
    "torch-cuda-compile-fp16": _torch_cuda("fp16", channels_last=True, compiled=True),
    "torch-cuda-compile-fp16-graph": _torch_cuda("fp16", channels_last=True, compiled=True, graph=True),
    "torch-cuda-form-fp16-graph": _torch_cuda("fp16", channels_last=True, graph=True, form=True),
    "torch-cuda-form-compile-fp16-graph": _torch_cuda("fp16", channels_last=True, compiled=True, graph=True, form=True),
    "onnxruntime-cuda": _onnxruntime("CUDA, no TF32", CUDA),
    "onnxruntime-cuda-tf32": _onnxruntime("CUDA, TF32", CUDA_TF32),
    "onnxruntime-tensorrt": _onnxruntime("its TensorRT provider", TENSORRT),
    **{
        tensorrt_name(product, precision): _tensorrt(product, precision)
        for product in ("tensorrt", "tensorrt-rtx")
        for precision in ("fp32", "fp16", "bf16", "int8", "fp8")
    },
}


def find_engine(name: str) -> Engine:
    """The catalogue's entry. Raises InputError naming the nearest known engine."""
    if name not in CATALOGUE:
        raise InputError(f"Unknown engine {name!r}{nearest(name, CATALOGUE)}; known: {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]


def open_engine(
    name: str, checkpoint: Weights | None, file: Path | None, threads: int | None = None, output: str | None = None
) -> Runner:
    """Open an engine of the catalogue.

    `file`: the exported ONNX file or the compiled engine file of the same checkpoint, for engines that run one; torch
    engines ignore it. `checkpoint`: None for a file that is held against another graph and no checkpoint. `threads`:
    None for `default_threads`; engines on a GPU take one. `output`: which of a graph's outputs is the restored frame,
    where it has several. A graph that is not said to be of this checkpoint is first tried in a process of its own
    (`rehearse`). Raises InputError for an unknown name, a file that is missing, foreign, damaged or of another
    checkpoint, or fewer than one thread; MissingRuntimeError when the package, the CPU's instructions, the driver or
    the GPU are missing; BudgetError when the backend took another precision.
    """
    engine = find_engine(name)
    if threads is None:
        threads = default_threads()
    if not 1 <= threads <= THREADS_MAX:
        raise InputError(f"{name}: {threads} threads; ask for 1 to {THREADS_MAX}.")
    if engine.runs == "checkpoint":
        if checkpoint is None:
            raise InputError(f"{name} runs a checkpoint, and there is none here, only graphs; leave it out.")
        return engine.open(name, checkpoint, None, threads)
    if file is None:
        kind, how = ("exported graph", "export") if engine.runs == "graph" else ("engine file", "build")
        raise InputError(f"{name} runs an {kind} and none was given; make one with `unblur {how}`.")
    opened = read_graph(file, output) if engine.runs == "graph" else read_engine(file)
    if checkpoint is not None and opened.checkpoint not in (None, checkpoint.digest):
        raise InputError(
            f"{file} was made from another checkpoint ({opened.checkpoint[:12]}...) than {checkpoint.path} "
            f"({checkpoint.digest[:12]}...); make it again, or give the checkpoint it came from."
        )
    if checkpoint is not None and opened.channel_order not in (None, checkpoint.contract.channel_order):
        raise InputError(
            f"{file} is for weights that were trained on {opened.channel_order}, but {checkpoint.path} is taken as "
            f"trained on {checkpoint.contract.channel_order}; give the right --channel-order, or make the file again."
        )
    if isinstance(opened, GraphFile) and (checkpoint is None or opened.checkpoint is None):
        rehearse(name, opened, threads)
    return engine.open(name, cast(Any, checkpoint), opened, threads)  # which engines that run files do not ask


def is_calibrated(engine: str) -> bool:
    """Whether the engine of this name, or of NAME:FILE, runs a graph that is calibrated here."""
    name, colon, _ = engine.partition(":")
    return bool(find_engine(name).form) and not colon
