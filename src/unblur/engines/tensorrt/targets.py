"""GPU families to compile for: named, the one at hand, or all from Ampere on."""

from __future__ import annotations

from collections.abc import Sequence

from unblur.core.errors import InputError, MissingRuntimeError, nearest
from unblur.engines.tensorrt.product import Device, Product, ProductName, probe_driver
from unblur.engines.xray.gpus import GPUS, find_gpu, nearest_gpu

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""GPU families that TensorRT for RTX 1.7 compiles for ahead of time (its enum ComputeCapability)."""

PORTABLE = "portable"
"""Name of the target when none is asked of TensorRT for RTX: any GPU from Ampere (sm80) on."""

CURRENT = "current"
"""The GPU at hand."""


def parse_targets(text: str | None) -> tuple[str, ...]:
    """ "sm89,RTX 5090" -> ("sm89", "sm120"); "current" -> ("current",); None -> ().

    A GPU by its name stands for its family. Raises InputError for an unknown one, naming the nearest, for a GPU whose
    family is compiled for by no name, and for "current" beside others.
    """
    if text is None:
        return ()
    targets = tuple(dict.fromkeys(_target(word.strip()) for word in text.split(",")))
    if CURRENT in targets and len(targets) > 1:
        raise InputError(f"The target {CURRENT!r} is the GPU at hand and stands alone, not beside others: {text}.")
    return targets


def _target(word: str) -> str:
    known = (*TARGETS, CURRENT)
    if word.lower() in known:
        return word.lower()
    if word.lower().startswith("sm") or nearest(word.lower(), known):
        raise InputError(f"Unknown target {word!r}{nearest(word.lower(), known)}; known: {', '.join(known)}.")
    try:
        gpu = find_gpu(word)
    except InputError as error:
        names = ", ".join(f"{gpu.name} ({gpu.target})" for gpu in GPUS if gpu.target in TARGETS)
        raise InputError(
            f"Unknown target {word!r}{nearest_gpu(word)}; known: {', '.join(known)}, or a GPU by its name: {names}. Of "
            "another GPU name the family: its compute capability, such as sm89 for 8.9."
        ) from error
    if gpu.target not in TARGETS:
        raise InputError(
            f"{gpu.name} is {gpu.target}, for which TensorRT for RTX compiles nothing; known: {', '.join(known)}. On "
            f"the {gpu.name} itself take --flavor tensorrt --target current."
        )
    return gpu.target


def supports(product: ProductName, device: Device) -> bool:
    """Whether a product runs anything on a GPU, whatever it was compiled for.

    The runtime of TensorRT for RTX says "Supported compute capabilities: ... 12.1 >12.0": newer ones than those of
    TARGETS run too. On an H100 (sm90) it refuses every engine, and compiles one for no GPU at all (docs/gpu.md).
    """
    return product != "tensorrt-rtx" or device.target in TARGETS or int(device.target.removeprefix("sm")) > 121


def demand_supported(product: Product, device: Device) -> None:
    """Raise MissingRuntimeError for a GPU that the product runs nothing on."""
    if supports(product.name, device):
        return
    raise MissingRuntimeError(
        f"TensorRT for RTX {product.version} does not support this GPU ({device.name}, {device.target}); it knows "
        f"{', '.join(TARGETS)}. Use TensorRT (the package tensorrt), or the engine torch-cuda-form-compile-fp16-graph."
    )


def resolve_targets(product: Product, targets: Sequence[str]) -> tuple[tuple[str, ...], Device | None]:
    """What a product compiles for, and the GPU at hand where that matters.

    The data-centre product compiles for the GPU at hand and no other. Raises MissingRuntimeError where a GPU is
    needed and none answers, InputError for a target that the product cannot compile for.
    """
    if product.name == "tensorrt-rtx" and CURRENT not in targets:
        return tuple(targets), None
    device = probe_driver(product).devices[0]
    demand_supported(product, device)
    if product.name == "tensorrt-rtx":
        if device.target not in TARGETS:
            raise InputError(
                f"TensorRT for RTX {product.version} does not compile for {device.target} ({device.name}) by name; "
                "leave out --target: a portable engine runs there."
            )
    elif strange := [target for target in targets if target not in (CURRENT, device.target)]:
        raise InputError(
            f"TensorRT compiles for the GPU at hand ({device.name}, {device.target}), not for {', '.join(strange)}; "
            "leave out --target, or compile with --flavor tensorrt-rtx."
        )
    return (device.target,), device
