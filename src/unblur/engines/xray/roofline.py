"""The roofline of an engine: for each kernel the larger of two times it cannot beat, summed.

max(bytes / memory bandwidth, 2 MACs / rate of its type). Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unblur.core.errors import InputError
from unblur.engines.xray.audit import computes_in
from unblur.engines.xray.gpus import Gpu
from unblur.engines.xray.kernels import Kernel
from unblur.engines.xray.macs import kernel_macs

NOTE = "a lower bound, not a latency"
"""Goes wherever a figure of this module is shown."""

ASSUMPTIONS = (
    "Every kernel moves each of its tensors through memory once, at the data sheet's bandwidth, and multiplies at the "
    "data sheet's dense rate with FP32 accumulation; launches and pointwise arithmetic are free. Real kernels are "
    "slower. A map that stays in the L2 cache can beat its bytes, never its arithmetic."
)

BYTES_BOUND, COMPUTE_BOUND = "bytes", "arithmetic"


@dataclass(frozen=True)
class KernelBound:
    """The two times of a kernel, in milliseconds, neither of them a latency."""

    bytes_ms: float
    compute_ms: float

    @property
    def ms(self) -> float:
        return max(self.bytes_ms, self.compute_ms)

    @property
    def bound_by(self) -> str:
        return COMPUTE_BOUND if self.compute_ms > self.bytes_ms else BYTES_BOUND


@dataclass(frozen=True)
class Roofline:
    """Bounds of all kernels of an engine on one GPU, in launch order."""

    gpu: Gpu
    bounds: tuple[KernelBound, ...]

    @property
    def ms(self) -> float:
        """The lower bound of a frame, in milliseconds."""
        return sum(bound.ms for bound in self.bounds)

    def to_json(self) -> dict[str, Any]:
        """The bound, its two parts and how many kernels each of them binds."""
        limits = [bound.bound_by for bound in self.bounds]
        return {
            "gpu": self.gpu.name,
            "gpu_target": self.gpu.target,
            "meaning": NOTE,
            "lower_bound_ms": round(self.ms, 4),
            "bytes_alone_ms": round(sum(bound.bytes_ms for bound in self.bounds), 4),
            "arithmetic_alone_ms": round(sum(bound.compute_ms for bound in self.bounds), 4),
            "kernels_bound_by_bytes": limits.count(BYTES_BOUND),
            "kernels_bound_by_arithmetic": limits.count(COMPUTE_BOUND),
        }


def roofline(kernels: Sequence[Kernel], gpu: Gpu) -> Roofline:
    """Bound every kernel. Raises InputError where a convolution or product computes in a type the GPU lacks."""
    return Roofline(gpu, tuple(_bound(kernel, gpu) for kernel in kernels))


def can_run(kernels: Sequence[Kernel], gpu: Gpu) -> bool:
    """Whether the GPU has a rate for every type the kernels multiply in."""
    return all(gpu.rate(computes_in(kernel)) is not None for kernel in kernels if kernel_macs(kernel))


def _bound(kernel: Kernel, gpu: Gpu) -> KernelBound:
    # Unknown arithmetic counts as none: a lower bound stays one.
    macs = kernel_macs(kernel) or 0
    compute_ms = 0.0
    if macs:
        kind = computes_in(kernel)
        rate = gpu.rate(kind)
        if rate is None:
            raise InputError(
                f"{kernel.name} computes in {kind}, for which {gpu.name} ({gpu.target}) has no rate; "
                "name another GPU or another precision."
            )
        compute_ms = 2e3 * macs / rate
    return KernelBound(1e3 * kernel.bytes_moved / (gpu.bandwidth * 1e9), compute_ms)
