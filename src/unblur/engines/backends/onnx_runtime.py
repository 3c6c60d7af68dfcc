"""ONNX Runtime on the CPU, and on an NVIDIA GPU with its own kernels or its TensorRT provider."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unblur.core.errors import InputError
from unblur.engines.engine import Engine, Opening, Precision
from unblur.engines.tensorrt.product import PACKAGES as TENSORRT

if TYPE_CHECKING:
    from unblur.engines.runner import Runner

PACKAGES = frozenset({"onnxruntime", "onnxruntime-gpu"})
FORM = "onnxruntime"
"""How a graph in 8 bits is written for it."""


def _on_cpu(opening: Opening) -> Runner:
    from unblur.engines.onnxruntime_runner import OnnxRuntimeRunner

    return OnnxRuntimeRunner(opening.name, opening.graph, opening.threads)


def _in_8_bits(opening: Opening) -> Runner:
    from unblur.engines.onnxruntime_runner import OnnxRuntimeRunner

    demand_quantised(opening, FORM)
    return OnnxRuntimeRunner(opening.name, opening.graph, opening.threads, demand_8_bits=True)


def demand_quantised(opening: Opening, form: str) -> None:
    """Raise InputError for a graph that holds nothing in 8 bits."""
    if not opening.graph.quantised:
        raise InputError(
            f"{opening.name}: {opening.graph.path} is not quantised; `unblur calibrate --form {form}` writes one."
        )


def _realised(graph: Path) -> frozenset[str]:
    from unblur.engines.onnxruntime_runner import realised

    return realised(graph)


def _engine(name: str, precision: Precision, text: str) -> Engine:
    return Engine(name, "onnxruntime", precision, "graph", "cpu", PACKAGES, "onnxruntime", _on_cpu, text)


def _gpu_engine(
    name: str, text: str, provider: Literal["CUDA", "CUDA_TF32", "TENSORRT"], packages: frozenset[str] = PACKAGES
) -> Engine:
    def open_it(opening: Opening) -> Runner:
        from unblur.engines import onnxruntime_runner

        which = onnxruntime_runner.PROVIDERS[provider]
        return onnxruntime_runner.OnnxRuntimeCudaRunner(opening.name, opening.graph, 1, which, gpu=opening.gpu)

    precision: Precision = "fp32" if provider == "CUDA" else "tf32"
    # Shape arithmetic of a graph of every size would fall to the CPU, which is then refused.
    return Engine(
        name, "onnxruntime-cuda", precision, "graph", "cuda", packages, "onnxruntime", open_it, text, fixed=True
    )


ENGINES = (
    _engine("onnxruntime", "fp32", "ONNX Runtime, float32 graph"),
    Engine(
        "onnxruntime-int8", "onnxruntime", "int8", "graph", "cpu", PACKAGES, "onnxruntime", _in_8_bits,
        "ONNX Runtime, u8 x s8", FORM, realised=_realised,
    ),
    _gpu_engine("onnxruntime-cuda", "ONNX Runtime, CUDA, no TF32", "CUDA"),
    _gpu_engine("onnxruntime-cuda-tf32", "ONNX Runtime, CUDA, TF32", "CUDA_TF32"),
    _gpu_engine(
        "onnxruntime-tensorrt", "ONNX Runtime, its TensorRT provider", "TENSORRT", PACKAGES | TENSORRT["tensorrt"]
    ),
)  # fmt: skip
