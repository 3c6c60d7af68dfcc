"""Kernels as the compiler named them for networks with attention, and what each is there for."""

from __future__ import annotations

import pytest

from unblur.engines.xray.kernel_kinds import CONVOLUTION, COPY, EPILOGUE, PIXELS, REDUCTION, SAMPLING, STRIPS, kind_of
from unblur.engines.xray.kernels import Kernel, KernelTensor
from unblur.graphs.facts import GraphFacts

OPERATORS = {"a": "Mul", "s": "GridSample", "m": "ReduceMax", "x": "Softmax"}
FACTS = GraphFacts((), OPERATORS, {}, frozenset({"input", "restored"}), "fp16", 256, 256)

MAP = (1, 128, 64, 64)
HALF_A_MAP = (2, 128, 32, 64)


def kernel(name: str, shape: tuple[int, ...], *nodes: str, reads: str = "t") -> Kernel:
    return Kernel(name, "kgen", (KernelTensor(reads, shape, "Half"),), (), (KernelTensor("o", MAP, "Half"),), nodes)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (kernel("__myl_SlicReshMoveMaxr_myl0_9", MAP, "m"), REDUCTION),
        (kernel("__myl_TranSlicMaxrSubExpSumDiv_myl0_14", HALF_A_MAP, "x"), REDUCTION),
        (kernel("__myl_ReshSubExpTran_myl0_15", (1, 128, 4096)), EPILOGUE),  # the map's rows put end to end
        (kernel("__myl_ReshSubExpTran_myl0_15", (2, 2048, 128)), EPILOGUE),
        (kernel("__myl_MulDiv_myl0_17", (1, 128, 128)), STRIPS),  # a product of two maps is none
        (kernel("__myl_ReshReshAdd_myl0_108", MAP), EPILOGUE),
        (kernel("__myl_GridReshMul_myl0_20", MAP, "s", "a"), SAMPLING),
        (kernel("__myl_Resi_myl0_47", MAP), SAMPLING),
        (kernel("__myl_MoveConcCorr_myl0_98", MAP), CONVOLUTION),
        (kernel("__myl_ReshTran_myl0_21", MAP), COPY),
        (kernel("__myl_AddMaxMin_myl0_22", (1, 3, 256, 256), reads="input"), PIXELS),
    ],
)
def test_what_a_kernel_is_there_for(found: Kernel, kind: str) -> None:
    assert kind_of(found, FACTS) == kind
