"""Measured times of kernels (`trtexec --exportProfile`, or an IProfiler written alike), beside their lower bounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unblur.core.errors import InputError
from unblur.core.reading import parse_json
from unblur.engines.xray.kernels import Kernel
from unblur.engines.xray.roofline import KernelBound, Roofline

FIELDS = frozenset({"name", "timeMs", "averageMs", "medianMs", "percentage"})


@dataclass(frozen=True)
class LayerTime:
    """One layer's mean time of a frame, in milliseconds."""

    name: str
    ms: float


@dataclass(frozen=True)
class MeasuredKernel:
    """A kernel with its bound and its measured time, in milliseconds."""

    kernel: Kernel
    bound: KernelBound
    ms: float

    @property
    def times_bound(self) -> float | None:
        """How many times its bound it took; None where the bound is 0."""
        return self.ms / self.bound.ms if self.bound.ms else None


@dataclass(frozen=True)
class Measured:
    """Kernels in launch order; `besides` are profiled layers that are no kernels (views, order of streams)."""

    gpu: str
    kernels: tuple[MeasuredKernel, ...]
    besides: tuple[LayerTime, ...]

    @property
    def ms(self) -> float:
        return sum(kernel.ms for kernel in self.kernels)

    @property
    def bound_ms(self) -> float:
        return sum(kernel.bound.ms for kernel in self.kernels)

    @property
    def besides_ms(self) -> float:
        return sum(layer.ms for layer in self.besides)

    @property
    def below(self) -> tuple[MeasuredKernel, ...]:
        """Kernels faster than their bound: their maps stay in the cache, or the GPU is another one."""
        return tuple(kernel for kernel in self.kernels if kernel.ms < kernel.bound.ms)

    def to_json(self) -> dict[str, Any]:
        return {
            "gpu": self.gpu,
            "measured_ms": round(self.ms, 4),
            "lower_bound_ms": round(self.bound_ms, 4),
            "besides_ms": round(self.besides_ms, 4),
            "kernels_below_their_bound": len(self.below),
            "each_kernel": [
                {"name": k.kernel.name, "measured_ms": round(k.ms, 6), "lower_bound_ms": round(k.bound.ms, 6),
                 "bound_by": k.bound.bound_by}
                for k in self.kernels
            ],
        }  # fmt: skip


def parse_profile(text: str | bytes) -> tuple[LayerTime, ...]:
    """Read a list of a count and of layers with `averageMs`, or `timeMs` over all counted frames.

    Raises InputError for JSON of something else, unknown fields, a layer without a time or a time below 0.
    """
    try:
        entries = parse_json(text)
    except ValueError as error:
        raise InputError(f"The profile is not whole JSON ({error}); export it again.") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError("This JSON is no profile: a list of layers was expected (trtexec --exportProfile).")
    counts = [entry["count"] for entry in entries if set(entry) == {"count"}]
    layers = [entry for entry in entries if set(entry) != {"count"}]
    if len(counts) > 1 or not layers:
        raise InputError(f"The profile has {len(counts)} counts and {len(layers)} layers; export it again.")
    try:
        return tuple(_layer(entry, counts[0] if counts else None) for entry in layers)
    except (TypeError, ValueError, ArithmeticError) as error:  # values of other types
        raise InputError(f"A time of the profile is no number ({error}); export it again.") from error


def measure_against(kernels: Sequence[Kernel], line: Roofline, profile: Sequence[LayerTime]) -> Measured:
    """Put each kernel's measured time beside its bound; layers of one name are matched in their order.

    Raises InputError where a kernel has no time: then the profile is of another engine.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for layer in profile:
        times[layer.name].append(layer.ms)
    missing = [kernel.name for kernel in kernels if kernel.name not in times]
    if missing:
        raise InputError(
            f"The profile has no time for {len(missing)} of {len(kernels)} kernels, such as {missing[0]!r}; it is of "
            "another engine or build."
        )
    measured = []
    for kernel, bound in zip(kernels, line.bounds, strict=True):
        if not times[kernel.name]:
            raise InputError(f"The profile has fewer times than the engine has kernels named {kernel.name!r}.")
        measured.append(MeasuredKernel(kernel, bound, times[kernel.name].pop(0)))
    besides = tuple(LayerTime(name, ms) for name, rest in times.items() for ms in rest)
    return Measured(line.gpu.name, tuple(measured), besides)


def _layer(entry: dict[str, Any], count: Any) -> LayerTime:
    strange = set(entry) - FIELDS
    if strange or "name" not in entry:
        raise InputError(f"A layer of the profile is not understood: {str(entry)[:200]}")
    if "averageMs" in entry:
        ms = float(entry["averageMs"])
    elif "timeMs" in entry and count:
        ms = float(entry["timeMs"]) / float(count)
    else:
        raise InputError(f"The profile tells no time of {entry['name']!r}: neither averageMs nor timeMs with a count.")
    if not ms >= 0:
        raise InputError(f"The profile's time of {entry['name']!r} is {ms} ms.")
    return LayerTime(str(entry["name"]), ms)
