"""Hold an engine to the precision it was asked for, convolution by convolution."""

from __future__ import annotations

from collections.abc import Sequence

from unblur.core.errors import BudgetError
from unblur.engines.xray import BYTES, Kernel, XRay

UNSEEN = "not listed"
"""Precision of a convolution that no kernel names."""


def realised_precision(xray: XRay, convolutions: Sequence[str]) -> dict[str, str]:
    """Convolution node of the graph -> the widest type it computes in (Half, Float, ...), or UNSEEN.

    Small 1x1 convolutions are sometimes expanded into generated pointwise kernels; then those count.
    """
    found = {}
    for name in convolutions:
        holding = [kernel for kernel in xray.kernels if name in kernel.nodes]
        # A generated kernel beside the convolution only lays out its input.
        computing = [kernel for kernel in holding if kernel.is_convolution] or holding
        types = [computes_in(kernel) for kernel in computing]
        found[name] = max(types, key=lambda kind: BYTES[kind]) if types else UNSEEN
    return found


def computes_in(kernel: Kernel) -> str:
    """The widest type among a kernel's maps and weights: what its arithmetic runs in. Scalars do not count."""
    operands = [t for t in (*kernel.inputs, *kernel.constants) if len(t.shape) >= 3] or [
        *kernel.inputs,
        *kernel.outputs,
    ]
    return max(operands, key=lambda t: BYTES[t.type]).type


def demand_half(xray: XRay, convolutions: Sequence[str]) -> None:
    """Raise BudgetError unless every convolution of an FP16 engine is listed and runs in Half."""
    realised = realised_precision(xray, convolutions)
    wrong = [f"  {name}: {kind}" for name, kind in realised.items() if kind != "Half"]
    if wrong:
        shown = "\n".join(wrong[:10]) + (f"\n  ... and {len(wrong) - 10} more" if len(wrong) > 10 else "")
        raise BudgetError(
            f"FP16 was asked for, but {len(wrong)} of {len(realised)} convolutions run in something else:\n{shown}\n"
            "Nothing was written. Build without --fp16, or report the graph: it should not happen."
        )
