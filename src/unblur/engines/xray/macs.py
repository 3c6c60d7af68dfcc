"""Multiply-accumulates of a kernel, from the shapes the compiler lists."""

from __future__ import annotations

import math

from unblur.engines.xray.kernels import Kernel, KernelTensor


def is_transposed(kernel: Kernel) -> bool:
    """Whether a convolution kernel is a transposed one (a generated name is made of four-letter words)."""
    return kernel.kind == "deconv" or "Deco" in kernel.name


def weights_of(kernel: Kernel) -> KernelTensor | None:
    """Weights of a convolution kernel, [O, I/g, kh, kw] or, transposed, [I, O/g, kh, kw]; None if none is listed.

    Mostly a constant; an input where the compiler unpacks quantised weights at run time (SM 7.5).
    """
    if not kernel.is_convolution or not kernel.outputs or len(kernel.outputs[0].shape) != 4:
        return None
    to = kernel.outputs[0].shape[1]

    def fits(tensor: KernelTensor, maps: tuple[KernelTensor, ...]) -> bool:
        if len(tensor.shape) != 4 or not all(tensor.shape):
            return False
        into, out_of = (1, 0) if is_transposed(kernel) else (0, 1)
        return to % tensor.shape[into] == 0 and any(
            len(m.shape) == 4 and m.shape[1] % tensor.shape[out_of] == 0 for m in maps
        )

    # A bias is [1, O, 1, 1]; with O = 1 it looks like weights, but is smaller.
    for candidates, maps in ((kernel.constants, kernel.inputs), (kernel.inputs[1:], kernel.inputs[:1])):
        found = [t for t in candidates if fits(t, maps) and (is_transposed(kernel) or t.shape[0] == to)]
        if found:
            return max(found, key=lambda t: math.prod(t.shape))
    return None


def kernel_macs(kernel: Kernel) -> int | None:
    """Multiply-accumulates of one launch, 0 for a kernel that multiplies no matrices, None where shapes do not tell.

    Channels that the compiler pads (3 to 4 in front of the first convolution) are work and count.
    """
    if kernel.is_convolution:
        weights = weights_of(kernel)
        if weights is None or (is_transposed(kernel) and not kernel.inputs):
            return None
        through = next(t for t in (kernel.inputs if is_transposed(kernel) else kernel.outputs) if len(t.shape) == 4)
        return math.prod(through.shape) * math.prod(weights.shape[1:])
    return _gemm_macs(kernel) if kernel.kind == "gemm" else 0


def _gemm_macs(kernel: Kernel) -> int | None:
    """[.., M, K] x [.., K, N] -> [.., M, N]: |A| |B| / |C| = K^2, times the batch where both operands have it."""
    operands = [t.shape for t in (*kernel.inputs, *kernel.constants) if len(t.shape) >= 2]
    if len(operands) < 2 or not kernel.outputs:
        return None
    a, b = operands[:2]
    result = math.prod(kernel.outputs[0].shape)
    if result <= 0:
        return None
    batch = math.prod(a[:-2]) if a[:-2] == b[:-2] else 1
    shared = math.isqrt(math.prod(a) * math.prod(b) // (result * batch))
    if shared**2 * result * batch != math.prod(a) * math.prod(b) or shared not in a or shared not in b:
        return None
    return result * shared
