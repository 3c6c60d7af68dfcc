"""Whether this CPU computes in bfloat16. Emulated bfloat16 is no precision to measure, so it is refused."""

from __future__ import annotations

import platform

import torch

from unblur.core.errors import MissingRuntimeError


def torch_has_bf16() -> bool:
    """Does the CPU have the instructions that PyTorch's bfloat16 convolutions (oneDNN) need?

    x86: every CPU with amx_bf16 also has avx512_bf16, so one question covers both. Elsewhere (Arm) oneDNN is asked;
    on x86 its answer would be no use: it says yes to plain AVX-512, where it emulates.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        return bool(torch.cpu._is_avx512_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def missing_bf16(engine: str, instead: str, evidence: str) -> MissingRuntimeError:
    """The error of an engine that was asked for bfloat16 on a CPU without it."""
    return MissingRuntimeError(
        f"{engine}: this CPU has neither avx512_bf16 nor amx_bf16 instructions (Arm: bf16); {evidence}. "
        f"Emulated bfloat16 would be slower than float32: use {instead}, or a CPU such as Intel Xeon of the 4th "
        "generation, AMD EPYC of the 4th, or newer."
    )
