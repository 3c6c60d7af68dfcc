"""Hold an engine to the precision it was asked for, kernel by kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from unblur.core.errors import BudgetError
from unblur.engines.xray import BYTES, Kernel, XRay


def realised_precision(xray: XRay) -> dict[str, int]:
    """Number of convolution kernels by the type they compute in, such as {"Half": 205}."""
    return dict(Counter(computes_in(kernel) for kernel in xray.kernels if kernel.is_convolution))


def computes_in(kernel: Kernel) -> str:
    """The widest type among a convolution's weights and map inputs: what its multiplications run in."""
    operands = [t for t in (*kernel.inputs, *kernel.constants) if len(t.shape) == 4 and t.type in BYTES]
    return max(operands, key=lambda t: BYTES[t.type]).type if operands else kernel.compute_type


def demand_half(xray: XRay, convolutions: Sequence[str]) -> None:
    """Raise BudgetError unless every convolution of an FP16 engine runs in Half.

    `convolutions`: names of the graph's convolution nodes. Also raised when the compiler lists fewer convolution
    kernels than that: what cannot be seen is not vouched for.
    """
    kernels = [kernel for kernel in xray.kernels if kernel.is_convolution]
    wide = [kernel for kernel in kernels if computes_in(kernel) != "Half"]
    if wide:
        shown = "\n".join(f"  {k.name}: {computes_in(k)} ({', '.join(k.nodes[:2])})" for k in wide[:10])
        raise BudgetError(
            f"FP16 was asked for, but {len(wide)} of {len(kernels)} convolution kernels run in something else:\n"
            f"{shown}\nNothing was written. Build without --fp16, or report the graph: it should not happen."
        )
    if len(kernels) < len(convolutions):
        raise BudgetError(
            f"The graph has {len(convolutions)} convolutions, the compiler lists {len(kernels)} convolution kernels; "
            "the rest may run in any precision, so nothing was written. Report this graph."
        )
