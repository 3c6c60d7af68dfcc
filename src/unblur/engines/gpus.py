"""Data-sheet figures of GPUs, for the roofline. Peaks at boost clock, dense (never "with sparsity").

Tensor-core rates are those with FP32 accumulation. GeForce cards accumulate in FP16 at twice that rate; the strongly
typed convolutions here are not asked to. `tf32` stands beside `fp32` because float32 kernels may use it.
"""

from __future__ import annotations

from dataclasses import dataclass

from unblur.core.errors import InputError, nearest


@dataclass(frozen=True)
class Gpu:
    """One GPU: `bandwidth` in GB/s (1e9 bytes), rates in T(FL)OP/s with a multiply-add as two; None: it has none."""

    name: str
    target: str
    bandwidth: float
    fp32: float
    tf32: float | None
    fp16: float
    bf16: float | None
    int8: float
    fp8: float | None

    def rate(self, kind: str) -> float | None:
        """Operations a second in the compiler's type `kind` (Float, Half, BFloat16, Int8, FP8); None: it cannot."""
        rates = {
            "Float": max(self.fp32, self.tf32 or 0.0),
            "Half": self.fp16,
            "BFloat16": self.bf16,
            "Int8": self.int8,
            "FP8": self.fp8,
        }
        rate = rates.get(kind)
        return rate * 1e12 if rate else None


GPUS = (
    # NVIDIA Turing architecture white paper WP-09183, table of GeForce RTX 2080 Ti (reference card): 13.4 FP32,
    # 53.8 FP16 with FP32 accumulation, 215.2 INT8, 616 GB/s. No TF32, BF16 or FP8.
    Gpu("RTX 2080 Ti", "sm75", 616, 13.4, None, 53.8, None, 215.2, None),
    # NVIDIA Ampere GA102 architecture white paper V2.0, appendix A, GeForce RTX 3090: 35.6 FP32, 35.6 TF32, 71 FP16
    # and BF16 with FP32 accumulation, 284 INT8, 936 GB/s.
    Gpu("RTX 3090", "sm86", 936, 35.6, 35.6, 71, 71, 284, None),
    # NVIDIA A100 data sheet (1758950), A100 80GB SXM: 19.5 FP32, 156 TF32, 312 FP16 and BF16, 624 INT8, 2039 GB/s.
    Gpu("A100", "sm80", 2039, 19.5, 156, 312, 312, 624, None),
    # NVIDIA Ada architecture white paper V2.01, appendix A, GeForce RTX 4090: 82.6 FP32, 82.6 TF32, 165.2 FP16 and
    # BF16 with FP32 accumulation, 660.6 INT8, 330.3 FP8 with FP32 accumulation, 1008 GB/s.
    Gpu("RTX 4090", "sm89", 1008, 82.6, 82.6, 165.2, 165.2, 660.6, 330.3),
    # NVIDIA L4 data sheet: 30.3 FP32; half of its figures with sparsity, 120 TF32, 242 FP16 and BF16, 485 INT8,
    # 485 FP8; 300 GB/s.
    Gpu("L4", "sm89", 300, 30.3, 60, 121, 121, 242.5, 242.5),
    # NVIDIA L40S data sheet: 91.6 FP32, 183 TF32, 362.05 FP16 and BF16, 733 INT8, 733 FP8, 864 GB/s.
    Gpu("L40S", "sm89", 864, 91.6, 183, 362.05, 362.05, 733, 733),
    # NVIDIA H100 SXM data sheet: 67 FP32; half of its figures with sparsity, 989 TF32, 1979 FP16 and BF16, 3958 INT8,
    # 3958 FP8; 3.35 TB/s.
    Gpu("H100", "sm90", 3350, 67, 494.5, 989.5, 989.5, 1979, 1979),
    # NVIDIA H200 SXM data sheet: rates of the H100 SXM, 4.8 TB/s.
    Gpu("H200", "sm90", 4800, 67, 494.5, 989.5, 989.5, 1979, 1979),
    # NVIDIA RTX Blackwell architecture white paper, GeForce RTX 5090: 104.8 FP32, 104.8 TF32, 209.5 FP16 and BF16 with
    # FP32 accumulation, 838 INT8, 419 FP8 with FP32 accumulation, 1792 GB/s.
    Gpu("RTX 5090", "sm120", 1792, 104.8, 104.8, 209.5, 209.5, 838, 419),
)  # fmt: skip


def find_gpu(name: str) -> Gpu:
    """The GPU of that name, in any case, with or without its maker's words ("NVIDIA GeForce RTX 4090").

    Raises InputError for a name that is not in the table, naming the nearest.
    """
    known = {_plain(gpu.name): gpu for gpu in GPUS}
    wanted = _plain(name)
    if wanted not in known:
        names = ", ".join(gpu.name for gpu in GPUS)
        close = nearest(wanted, known)
        hint = next((f", did you mean {gpu.name!r}?" for key, gpu in known.items() if f"'{key}'" in close), "")
        raise InputError(f"No figures are known of the GPU {name!r}{hint}; known: {names}.")
    return known[wanted]


def gpus_of(target: str) -> tuple[Gpu, ...]:
    """GPUs an engine for this target runs on; a portable one: Ampere and later."""
    if target.startswith("sm"):
        return tuple(gpu for gpu in GPUS if gpu.target == target)
    return tuple(gpu for gpu in GPUS if gpu.target != "sm75")


def _plain(name: str) -> str:
    words = name.lower().replace("-", " ").split()
    return " ".join(word for word in words if word not in ("nvidia", "geforce", "tesla"))
