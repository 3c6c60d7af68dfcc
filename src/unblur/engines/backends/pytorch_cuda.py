"""PyTorch on an NVIDIA GPU: the ladder from eager float32 to the exact export form, compiled, in a CUDA graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from unblur.engines.engine import Engine, Opening, Precision
from unblur.engines.tensorrt.product import Device

if TYPE_CHECKING:
    from unblur.engines.runner import Runner

PACKAGES = frozenset({"torch"})


def _engine(
    name: str,
    precision: Precision,
    *,
    channels_last: bool = False,
    compiled: bool = False,
    graph: bool = False,
    form: bool = False,
) -> Engine:
    def open_it(opening: Opening) -> Runner:
        from unblur.engines.torch_cuda_runner import CudaVariant, TorchCudaRunner

        variant = CudaVariant(cast(Any, precision), channels_last, compiled, graph, form)
        return TorchCudaRunner(opening.name, opening.checkpoint, variant, f"cuda:{opening.gpu}")

    wanted = (("exact form, bytes in and out", form), ("channels_last", channels_last), ("CUDA graph", graph))
    extras = [text for text, given in wanted if given]
    text = ", ".join([f"PyTorch on CUDA, {'torch.compile' if compiled else 'eager'}, {precision}", *extras])
    return Engine(
        name, "torch-cuda", precision, "checkpoint", "cuda", PACKAGES, "torch", open_it, text, supports=_has_cuda
    )


def _has_cuda(_: Device) -> bool:
    import torch  # asked only where there is a GPU

    return torch.version.cuda is not None


ENGINES = (
    _engine("torch-cuda", "fp32"),
    _engine("torch-cuda-tf32", "tf32"),
    _engine("torch-cuda-fp16", "fp16"),
    _engine("torch-cuda-fp16-channels-last", "fp16", channels_last=True),
    _engine("torch-cuda-fp16-channels-last-graph", "fp16", channels_last=True, graph=True),
    _engine("torch-cuda-bf16-channels-last-graph", "bf16", channels_last=True, graph=True),
    _engine("torch-cuda-tf32-channels-last-graph", "tf32", channels_last=True, graph=True),
    _engine("torch-cuda-compile-tf32", "tf32", channels_last=True, compiled=True),
    _engine("torch-cuda-compile-fp16", "fp16", channels_last=True, compiled=True),
    _engine("torch-cuda-compile-fp16-graph", "fp16", channels_last=True, compiled=True, graph=True),
    _engine("torch-cuda-form-fp16-graph", "fp16", channels_last=True, graph=True, form=True),
    _engine("torch-cuda-form-compile-fp16-graph", "fp16", channels_last=True, compiled=True, graph=True, form=True),
)
