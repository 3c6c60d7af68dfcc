"""Data-sheet figures of GPUs, for the roofline. Peaks at boost clock, dense (never "with sparsity").

Tensor-core rates are those with FP32 accumulation. GeForce cards accumulate in FP16 at twice that rate; the strongly
typed convolutions here are not asked to. `tf32` stands beside `fp32` because float32 kernels may use it. Where sources
differ the larger figure stands, so that the lower bound of a time stays one.
"""

from __future__ import annotations

from dataclasses import dataclass

from unblur.core.errors import InputError, nearest


@dataclass(frozen=True)
class Gpu:
    """One GPU: `bandwidth` in GB/s (1e9 bytes), rates in T(FL)OP/s with a multiply-add as two; None: it has none.

    `source` names the document and, where it prints figures with sparsity, what was halved.
    """

    name: str
    target: str
    bandwidth: float
    fp32: float
    tf32: float | None
    fp16: float
    bf16: float | None
    int8: float
    fp8: float | None
    source: str

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


_WHITE_PAPERS = "images.nvidia.com/aem-dam"
_PAGES = "nvidia.com/en-us/data-center"

GPUS = (
    Gpu("RTX 2080 Ti", "sm75", 616, 13.4, None, 53.8, None, 215.2, None,
        f"{_WHITE_PAPERS}: Turing architecture WP-09183-001, GeForce RTX 2080 Ti reference card (Founders: 6 % more)"),
    Gpu("RTX 3090", "sm86", 936, 35.6, 35.6, 71.2, 71.2, 284, None,
        f"{_WHITE_PAPERS}: RTX Blackwell architecture, table 3, column GeForce RTX 3090 (71.2/142.4: dense/sparse)"),
    Gpu("A100", "sm80", 2039, 19.5, 156, 312, 312, 624, None,
        "NVIDIA A100 data sheet 1758950-r4, A100 80GB SXM (312 | 624*: dense | with sparsity)"),
    Gpu("RTX 4090", "sm89", 1008, 82.6, 82.6, 165.2, 165.2, 660.6, 330.3,
        f"{_WHITE_PAPERS}: Ada architecture V2.02, appendix A (165.2/330.4; V2.02 corrects FP8 with FP32 accumulation "
        "from 660.6 to 330.3)"),
    Gpu("L4", "sm89", 300, 30.3, 60, 121, 121, 242.5, 242.5,
        f"{_PAGES}/l4: half of TF32 120, FP16 and BF16 242, INT8 and FP8 485, all with sparsity"),
    Gpu("L40S", "sm89", 864, 91.6, 183, 362.05, 362.05, 733, 733,
        f"{_PAGES}/l40s: FP16 and BF16 362.05 | 733*, INT8 and FP8 733 | 1,466*, dense | with sparsity"),
    Gpu("H100", "sm90", 3350, 67, 494.5, 989.5, 989.5, 1979, 1979,
        f"{_PAGES}/h100, SXM: half of TF32 989, FP16 and BF16 1,979, INT8 and FP8 3,958, all with sparsity"),
    Gpu("H200", "sm90", 4800, 67, 494.5, 989.5, 989.5, 1979, 1979,
        "NVIDIA H200 data sheet 3002446, SXM: rates of the H100 SXM, 4.8 TB/s"),
    Gpu("RTX 5090", "sm120", 1792, 104.8, 104.8, 209.5, 209.5, 838, 419,
        f"{_WHITE_PAPERS}: RTX Blackwell architecture, table 3 (209.5/419: dense/sparse; FP8, FP32 accumulation: 419)"),
)  # fmt: skip


def find_gpu(name: str) -> Gpu:
    """The GPU of that name, in any case, with or without its maker's words ("NVIDIA GeForce RTX 4090").

    Raises InputError for a name that is not in the table, naming the nearest.
    """
    wanted = _plain(name)
    if wanted not in _BY_NAME:
        names = ", ".join(gpu.name for gpu in GPUS)
        raise InputError(f"No figures are known of the GPU {name!r}{nearest_gpu(name)}; known: {names}.")
    return _BY_NAME[wanted]


def nearest_gpu(name: str) -> str:
    """As `unblur.core.errors.nearest`: ", did you mean 'RTX 4090'?" or ""."""
    close = nearest(_plain(name), _BY_NAME)
    return next((f", did you mean {gpu.name!r}?" for key, gpu in _BY_NAME.items() if f"'{key}'" in close), "")


def gpus_of(target: str) -> tuple[Gpu, ...]:
    """GPUs an engine for this target runs on; a portable one: Ampere and later."""
    if target.startswith("sm"):
        return tuple(gpu for gpu in GPUS if gpu.target == target)
    return tuple(gpu for gpu in GPUS if gpu.target != "sm75")


def _plain(name: str) -> str:
    words = name.lower().replace("-", " ").split()
    return " ".join(word for word in words if word not in ("nvidia", "geforce", "tesla"))


_BY_NAME = {_plain(gpu.name): gpu for gpu in GPUS}
