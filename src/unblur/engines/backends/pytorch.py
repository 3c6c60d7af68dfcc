"""PyTorch on the CPU: the reference, and the fastest forms that PyTorch itself offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unblur.engines.engine import Engine, Opening

if TYPE_CHECKING:
    from unblur.engines.runner import Runner

PACKAGES = frozenset({"torch"})


def _engine(name: str, *, bf16: bool = False, channels_last: bool = False, compiled: bool = False) -> Engine:
    def open_it(opening: Opening) -> Runner:
        from unblur.engines.torch_runner import TorchRunner, TorchVariant

        variant = TorchVariant(bf16, channels_last, compiled)
        return TorchRunner(opening.name, opening.checkpoint, variant, opening.threads)

    how = "torch.compile on channels_last" if compiled else "eager, channels_last" if channels_last else "eager"
    text = f"PyTorch, {how}, {'bfloat16' if bf16 else 'float32'}"
    return Engine(name, "torch", "bf16" if bf16 else "fp32", "checkpoint", "cpu", PACKAGES, "torch", open_it, text)


REFERENCE = "torch"
"""The engine that every other is measured against: eager PyTorch in float32."""

ENGINES = (
    _engine(REFERENCE),
    _engine("torch-channels-last", channels_last=True),
    _engine("torch-bf16", bf16=True, channels_last=True),
    _engine("torch-compile", channels_last=True, compiled=True),
    _engine("torch-compile-bf16", bf16=True, channels_last=True, compiled=True),
)
