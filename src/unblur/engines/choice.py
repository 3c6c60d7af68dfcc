"""From `--engine` and `--precision` to a name of the catalogue, without importing a runtime."""

from __future__ import annotations

import importlib.util

from unblur.core.errors import InputError

BACKENDS = {
    "f32": ("openvino", "onnxruntime", "torch"),
    "bf16": ("openvino", "torch"),
    "int8": ("openvino", "onnxruntime"),
}
"""CPU backends that have each precision, fastest first: of these "auto" takes the first installed one."""


ON_GPU = {"tensorrt": ("f32", "fp16", "bf16"), "tensorrt-rtx": ("f32", "fp16", "bf16")}
"""Backends that "auto" never takes, for it cannot know what the GPU is for, and their precisions."""


def choose_engine(backend: str, precision: str) -> str:
    """The engine's name: the backend, with the precision behind it unless it is f32. A backend that ends in "-int8"
    has said its precision already.

    Raises InputError when the backend does not have the precision. Whether a named backend is installed shows
    when it is opened: only "auto" may look around.
    """
    stem, eight, _ = backend.partition("-int8")
    if eight and precision in ("f32", "int8"):
        backend, precision = stem, "int8"
    having = (*BACKENDS.get(precision, ()), *(name for name, known in ON_GPU.items() if precision in known))
    if backend == "auto":
        if precision not in BACKENDS:
            raise InputError(f"{precision} runs on an NVIDIA GPU only; take --engine {' or '.join(having)}.")
        # torch is a requirement of the package, so there is always one.
        backend = next(name for name in BACKENDS[precision] if importlib.util.find_spec(name) is not None)
    if backend not in having:
        raise InputError(f"{backend} has no {precision} here; take --engine {' or '.join(having)}, or --precision f32.")
    return backend if precision == "f32" else f"{backend}-{precision}"
