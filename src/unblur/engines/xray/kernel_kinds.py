"""Sort the kernels of an engine: what each is there for, and which block of the network it belongs to."""

from __future__ import annotations

import re
from collections import Counter

from unblur.engines.xray.kernels import Kernel, KernelTensor
from unblur.graphs.facts import GraphFacts, is_map

CONVOLUTION, STRIPS, GEMM, COPY = "convolution", "strips", "gemm", "copy"
REQUANTISATION, EPILOGUE, PIXELS, OTHER = "requantisation", "epilogue", "pixels", "other"
REDUCTION, SAMPLING = "reduction", "sampling"

KINDS = {
    CONVOLUTION: "a convolution of a map, with whatever is fused to it",
    GEMM: "a matrix product: an averaging written as one, or a linear layer",
    STRIPS: "convolutions and generated kernels that read no map: strips and other small tensors",
    COPY: "moves a map and computes nothing: transpose, reshape, slice, concatenate, cast",
    REQUANTISATION: "converts to or from 8 bits outside of a convolution",
    EPILOGUE: "an activation, gate or addition on a map that was not fused into a convolution",
    REDUCTION: "a softmax, a norm, a mean or another sum over channels or places of a map",
    SAMPLING: "resizes or pools a map, or looks it up at places that the network computed",
    PIXELS: "pixel arithmetic at the network's input or output",
    OTHER: "everything else",
}
"""Kind -> what it means, in the order of the tables."""

MOVES = frozenset({"Tran", "Resh", "Slic", "Conc", "Cast", "Move", "Copy", "Spli", "Sque", "Unsq", "Expa"})
"""Words of a generated kernel's name (operators cut to four letters) that move data and compute nothing."""

LAYOUT_LAYERS = frozenset({"Reformat", "MyelinReformat"})
"""Layer types of the data-centre product that do the same."""

ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "Tanh", "Clip", "Mul", "Gelu", "Elu",
                         "Mish", "Softplus", "Add", "Sub"})  # fmt: skip
ACTIVATION_WORDS = frozenset({"Relu", "Leak", "Sigm", "Tanh", "Max", "Min", "Mul", "Gelu", "Add", "Sub"})

SAMPLERS = frozenset({"GridSample", "Resize", "AveragePool", "MaxPool"})
SAMPLING_WORDS = frozenset({"Resi", "Grid"})

REDUCTIONS = frozenset({"Softmax", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "GlobalAveragePool",
                        "InstanceNormalization", "LayerNormalization", "GroupNormalization"})  # fmt: skip
REDUCTION_WORDS = frozenset({"Maxr", "Minr", "Sum", "Mean"})

QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})

EIGHT_BITS = frozenset({"Int8", "FP8"})

FLATTEST = 256
"""An axis that is at least this part of the frame's places may be a map whose rows were put end to end."""

OUTSIDE = "frame"
"""Block of a kernel that holds no node of any block: pixel conversion."""

_GENERATED = re.compile(r"__myl_(?P<words>[A-Za-z]+)_")


def words_of(kernel: Kernel) -> tuple[str, ...]:
    """Operators in a generated kernel's name: `__myl_CastConc_myl0_0` -> ("Cast", "Conc"); () for a plain name."""
    match = _GENERATED.match(kernel.name)
    return tuple(re.findall("[A-Z][a-z0-9]*", match["words"])) if match else ()


def reads_as_map(tensor: KernelTensor, facts: GraphFacts) -> bool:
    """Whether a tensor is a map of the network (or the frame), not a strip, a weight or a scalar."""
    if len(tensor.shape) == 3:
        return any(_is_flat_map(places, facts) for places in tensor.shape[1:])
    if len(tensor.shape) != 4:
        return False
    if tensor.shape[1:] == (facts.height, facts.width, 3):  # the frame as bytes, hwc
        return True
    return is_map(*tensor.shape[2:], facts.height, facts.width)


def _is_flat_map(places: int, facts: GraphFacts) -> bool:
    """Whether an axis holds all places of a map at a scale of 1, 1/2, .. 1/16, or of a half or a quarter of one."""
    parts, rest = divmod(facts.height * facts.width, places)
    return rest == 0 and parts <= FLATTEST and parts & (parts - 1) == 0


def kind_of(kernel: Kernel, facts: GraphFacts) -> str:
    """One of KINDS."""
    reads_map = any(reads_as_map(t, facts) for t in kernel.inputs)
    if kernel.kind == "gemm":
        return GEMM
    if kernel.is_convolution:
        return CONVOLUTION if reads_map else STRIPS
    words = words_of(kernel)
    if "Corr" in words:  # a convolution inside a generated kernel
        return CONVOLUTION if reads_map else STRIPS
    operators = {facts.operators.get(node, "") for node in kernel.nodes}
    types = {t.type for t in (*kernel.inputs, *kernel.constants, *kernel.outputs)}
    if types & EIGHT_BITS or operators & QUANTISERS:
        return REQUANTISATION
    if not reads_map:
        return STRIPS
    if kernel.kind in LAYOUT_LAYERS or (words and MOVES.issuperset(words)):
        return COPY
    if any(t.name in facts.edges for t in (*kernel.inputs, *kernel.outputs)):
        return PIXELS
    if SAMPLING_WORDS.intersection(words) or operators & SAMPLERS:
        return SAMPLING
    if REDUCTION_WORDS.intersection(words) or operators & REDUCTIONS:
        return REDUCTION
    return EPILOGUE if ACTIVATION_WORDS.intersection(words) or operators & ACTIVATIONS else OTHER


def block_of(kernel: Kernel, facts: GraphFacts) -> str:
    """The block of the network that most of the kernel's nodes belong to; OUTSIDE for none that has a convolution."""
    blocks = {facts.parts[convolution.name].block for convolution in facts.convolutions}
    found = Counter(
        facts.parts[node].block for node in kernel.nodes if node in facts.parts and facts.parts[node].block in blocks
    )
    return found.most_common(1)[0][0] if found else OUTSIDE
