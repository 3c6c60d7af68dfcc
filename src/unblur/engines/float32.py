"""Float32 that is float32: oneDNN may round the factors of its products to bfloat16 where a switch allows it.

Nothing tells afterwards: PyTorch's tensors stay float32, and OpenVINO's runtime model says f32 of such a convolution.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from unblur.core.errors import InputError

SWITCHES = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
"""Variables that oneDNN reads once, in PyTorch and in OpenVINO (its documentation: "Floating-point Math Mode")."""


def refuse_fast_math(engine: str) -> None:
    """Raise InputError where the environment lets oneDNN compute float32 in less."""
    for name in SWITCHES:
        if os.environ.get(name, "strict").lower() not in ("strict", ""):
            raise InputError(
                f"{engine}: {name}={os.environ[name]} is set, with which oneDNN may compute float32 in bfloat16 and "
                "tells nobody; unset it. An engine in bfloat16 has that in its name, such as openvino-bf16."
            )


@contextmanager
def strict_float32() -> Iterator[None]:
    """Within, PyTorch's own switches of the same kind are off: `torch.set_float32_matmul_precision` is one."""
    kinds = (torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision
