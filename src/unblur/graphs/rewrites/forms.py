"""How each target wants 8 bits written in the graph. A form is data; `quantise` reads it.

What each wants was found by running it (docs/numerics.md) or is stated by its documentation; the two CPU backends
differ, and so do TensorRT and TensorRT for RTX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import TensorProto

from unblur.core.errors import InputError, nearest


@dataclass(frozen=True)
class Element:
    """An 8-bit type: its ONNX code and the largest magnitude that a scale maps to.

    `affine` types are unsigned and have a zero point. Signed integers stop at -127, so that a weight and its negative
    are equally exact and no product of two -128 overflows 16 bits.
    """

    onnx_type: int
    largest: int
    affine: bool = False


OUTSIDE = 1e-4

U8 = Element(TensorProto.UINT8, 255, affine=True)
S8 = Element(TensorProto.INT8, 127)
E4M3 = Element(TensorProto.FLOAT8E4M3FN, 448)
"""OCP 8-bit floating point (OFP8, 2023): 4 bits of exponent, 3 of mantissa, largest value 448, no infinity."""


@dataclass(frozen=True)
class Form:
    """Rules of one target.

    precision: what the graph's metadata says, "int8" or "fp8".
    activation, weight: the 8-bit types of a convolution's two operands.
    per_channel: one weight scale for each output channel, else one for the whole weight.
    behind: the stored weight has one scale in all; what each channel's own differs from it by is a product behind the
        convolution, with the bias as a sum behind that.
    outputs: operators after whose 8-bit results a pair stands; besides convolutions' own results, with the bias in
        int32. Empty: only what convolutions read is quantised, the bias stays float.
    residual: the identity operand of an Add reads 8 bits where the other operand is a convolution's result.
    shared_concat: parts of a concatenation are quantised before it, all with the scale of the whole.
    half_scales: scales are FP16 numbers, so that casting the rest of the graph to FP16 changes none of them.
    transposed: transposed convolutions are quantised too.
    narrowest: convolutions with fewer input or output channels stay in floating point.
    largest_kernel: convolutions with more kernel elements (height x width) stay in floating point; None for any.
    outside: the share of an activation's values that the algorithm percentile leaves outside its range, found on the
        bundled network (docs/numerics.md): of the magnitudes, or at each end where the type is affine.
    """

    name: str
    precision: str
    activation: Element
    weight: Element = S8
    per_channel: bool = True
    behind: bool = False
    outputs: tuple[str, ...] = ()
    residual: bool = False
    shared_concat: bool = False
    half_scales: bool = False
    transposed: bool = False
    narrowest: int = 1
    largest_kernel: int | None = None
    outside: float = OUTSIDE

    @property
    def smallest_opset(self) -> int:
        """13: scales by channel. 19: scales in FP16, and the 8-bit floating-point types."""
        return 19 if self.half_scales or E4M3 in (self.activation, self.weight) else 13


OPENVINO = Form("openvino", "int8", U8, outside=5e-5)

ONNXRUNTIME = Form("onnxruntime", "int8", U8, outputs=("LeakyRelu", "Relu", "Concat"), shared_concat=True)

TENSORRT = Form("tensorrt", "int8", S8, residual=True, shared_concat=True, half_scales=True)

# The compiler makes one kernel of product, sum, activation and the next QuantizeLinear, and the convolution before them
# writes FP16: fewer kernels and bytes than with one scale in all, which is the other way to that (docs/numerics.md).
TENSORRT_RTX = Form("tensorrt-rtx", "int8", S8, behind=True, half_scales=True)

# The exclusions are NVIDIA ModelOpt 0.47's for FP8 convolutions (onnx/quantization/graph_utils.py): 16 channels or
# fewer on either side, kernels of more than 32 elements.
FP8 = Form("fp8", "fp8", E4M3, E4M3, per_channel=False, half_scales=True, narrowest=17, largest_kernel=32, outside=1e-6)

FORMS: Mapping[str, Form] = {form.name: form for form in (OPENVINO, ONNXRUNTIME, TENSORRT, TENSORRT_RTX, FP8)}


def find_form(name: str) -> Form:
    """The form of that name. Raises InputError naming the nearest."""
    if name not in FORMS:
        raise InputError(f"Unknown form {name!r}{nearest(name, FORMS)}; known: {', '.join(FORMS)}.")
    return FORMS[name]
