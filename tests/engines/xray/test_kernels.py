"""Kernels read from a recorded log of the builder (TensorRT for RTX 1.7.1, BANet 256x256 FP16)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unblur.core.errors import InputError, UnblurError
from unblur.engines.xray.audit import computes_in, realised_precision
from unblur.engines.xray.kernels import XRay, parse_builder_log
from unblur.graphs.facts import is_map

LOG = (Path(__file__).parent / "logs" / "rtx-1.7-layers.txt").read_text()
SIGNAL = (
    "Name: entry^bb^signal^4_myl0_0, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , "
    "StreamId: 0, EventId: 57, Metadata: "
)


def xray(text: str = LOG) -> XRay:
    return parse_builder_log(["something else", text, "Total Activation Memory: 57704448 bytes"])


def test_kernels_types_shapes_and_bytes() -> None:
    found = xray()
    assert [kernel.kind for kernel in found.kernels] == ["kgen", "runtime_fusion", "gemm", "correlation"]
    stem = found.kernels[1]
    assert stem.nodes == ("en_layer1.1/LeakyRelu", "en_layer1.0/Conv")
    assert [tensor.shape for tensor in stem.constants] == [(64, 4, 3, 3), (1, 64, 1, 1)]
    # 4 and 64 channels of 256x256 and 64*4*3*3 + 64 weights, two bytes each
    assert stem.bytes_moved == 2 * (4 * 65536 + 64 * 65536 + 64 * 4 * 9 + 64)
    assert found.activation_bytes == 57704448
    summary = found.summary()
    assert summary["kernels"] == 4
    assert summary["bytes_moved"] == sum(kernel.bytes_moved for kernel in found.kernels)


def test_synchronisation_is_no_kernel() -> None:
    assert len(xray(LOG.replace("\n\nI/O", f"\n{SIGNAL}\n\nI/O")).kernels) == 4


def test_a_line_that_is_not_understood_is_never_passed_over() -> None:
    for broken in (
        LOG.replace("LayerType: gemm", "Layer: gemm"),
        LOG.replace("Datatype: Half", "Datatype: Quarter", 1),
    ):
        with pytest.raises(UnblurError, match=r"not understood|unknown"):
            xray(broken)
    with pytest.raises(InputError, match="DETAILED"):
        parse_builder_log(["nothing here"])


CONVOLUTIONS = ["en_layer1.0/Conv", "BAM_1.BA.wide.1/Conv"]


def test_convolutions_are_asked_for_their_precision_not_the_kernels_that_lay_out_their_input() -> None:
    found = xray()
    assert computes_in(found.kernels[0]) == "Float"  # casts the picture; names en_layer1.0/Conv among its nodes
    assert realised_precision(found, CONVOLUTIONS) == dict.fromkeys(CONVOLUTIONS, "Half")


def test_a_float_operand_makes_a_convolution_float_and_what_is_not_listed_is_not_vouched_for() -> None:
    stem, rest = xray().kernels[1], xray().kernels[2:]
    wide = replace(stem, inputs=(replace(stem.inputs[0], type="Float"),))
    found = realised_precision(XRay((wide, *rest), 0), [*CONVOLUTIONS, "de_layer1.0/ConvTranspose"])
    assert found == dict(
        zip([*CONVOLUTIONS, "de_layer1.0/ConvTranspose"], ["Float", "Half", "not listed"], strict=True)
    )


def test_a_convolution_expanded_into_a_generated_kernel_counts_as_that_kernel() -> None:
    kernel = replace(xray().kernels[0], nodes=("small/Conv",))
    assert realised_precision(XRay((kernel,), 0), ["small/Conv"]) == {"small/Conv": "Float"}


@pytest.mark.parametrize(
    ("size", "frame", "expected"),
    [
        ((360, 640), (720, 1280), True),
        ((32, 32), (256, 256), True),  # the 1/8 map of a U-Net
        ((23, 40), (180, 320), True),  # 1/8, rounded
        ((4, 4), (256, 256), True),
        ((360, 7), (720, 1280), False),
        ((7, 640), (720, 1280), False),
        ((128, 1), (256, 256), False),
        ((32, 7), (64, 64), False),
        ((1, 1), (256, 256), False),  # pooled to one number
        ((1, 1), (720, 1280), False),
    ],
)
def test_a_strip_is_narrow_in_one_side_only(size: tuple[int, int], frame: tuple[int, int], expected: bool) -> None:
    assert is_map(*size, *frame) is expected
