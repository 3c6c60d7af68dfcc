"""Arithmetic, kinds, audit and lower bound of kernels, from recorded logs of TensorRT for RTX 1.7.1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantised_graph import quantised

from unblur.core.errors import BudgetError, InputError, UnblurError
from unblur.engines.xray.audit import audit, computes_in, demand_asked
from unblur.engines.xray.gpus import find_gpu
from unblur.engines.xray.kernel_kinds import KINDS, block_of, kind_of, words_of
from unblur.engines.xray.kernels import Kernel, KernelTensor, XRay, parse_builder_log
from unblur.engines.xray.macs import kernel_macs, weights_of
from unblur.engines.xray.roofline import BYTES_BOUND, COMPUTE_BOUND, can_run, roofline
from unblur.graphs.facts import Convolution, GraphFacts, read_facts
from unblur.graphs.metadata import Part

LOGS = Path(__file__).parent / "logs"
MAP = (1, 128, 128, 128)
FACTS = GraphFacts(
    (Convolution("en_layer1.0/Conv", "Half", 64 * 27 * 65536), Convolution("BAM_1.BA.wide.1/Conv", "Half", 28311552)),
    {},
    {
        "en_layer1.0/Conv": Part("encoder", "en_layer1.0"),
        "en_layer1.1/LeakyRelu": Part("encoder", "en_layer1.1"),
        "BAM_1.BA/MatMul_2": Part("BAM_1", "BAM_1.BA"),
        "BAM_1.BA.wide.1/Conv": Part("BAM_1", "BAM_1.BA.strips"),
        "form/Cast": Part("pixels", "form"),  # no block: it has no convolution
    },
    frozenset({"input", "restored"}), "fp16", 256, 256,
)  # fmt: skip


def recorded(name: str) -> XRay:
    return parse_builder_log([(LOGS / f"rtx-1.7-{name}.txt").read_text()])


def kernel(
    name: str, kind: str, inputs: tuple[str, ...], constants: tuple[str, ...], outputs: tuple[str, ...]
) -> Kernel:
    tensors = (tuple(KernelTensor.from_text(text) for text in texts) for texts in (inputs, constants, outputs))
    return Kernel(name, kind, *tensors, nodes=())


def test_a_kernel_survives_the_manifest() -> None:
    for each in recorded("layers").kernels:
        assert Kernel.from_json(each.to_json()) == each
    with pytest.raises(UnblurError, match="is no tensor of a kernel"):
        KernelTensor.from_text("x Half 1xtwo")
    with pytest.raises(UnblurError, match="listed without inputs, constants"):
        Kernel.from_json({"name": "a", "kind": "kgen", "runs_in": "Half", "nodes": []})


def test_arithmetic_from_the_kernels_shapes() -> None:
    cast, stem, pooling, strip = recorded("layers").kernels
    assert kernel_macs(cast) == 0
    assert kernel_macs(stem) == 65536 * 64 * 4 * 9  # the compiler pads 3 channels to 4
    assert kernel_macs(pooling) == 16 * 128 * 16384
    assert kernel_macs(strip) == 3 * 128 * 64 * 128 * 9


def test_arithmetic_of_the_other_forms() -> None:
    bias = "b Half 1x64x1x1"
    grouped = kernel("c", "correlation", ("x Half 1x128x8x8",), ("w Half 64x2x3x3", bias), ("y Half 1x64x8x8",))
    assert kernel_macs(grouped) == 64 * 64 * 2 * 9
    up = kernel("__myl_DecoMul_myl0", "runtime_fusion", ("x Half 1x128x8x8",), ("w Half 128x64x4x4", bias),
                ("y Half 1x64x16x16",))  # fmt: skip
    assert kernel_macs(up) == 128 * 64 * 64 * 16
    one = kernel("c", "correlation", ("x Half 1x2x8x8",), ("b Half 1x1x1x1", "w Half 1x2x7x7"), ("y Half 1x1x8x8",))
    assert kernel_macs(one) == 64 * 2 * 49
    batched = kernel("m", "gemm", ("a Half 4x8x16", "b Half 4x16x32"), (), ("y Half 4x8x32",))
    assert kernel_macs(batched) == 4 * 8 * 16 * 32
    shared = kernel("m", "gemm", ("a Half 128x128x128",), ("b Half 1x16x128", "alpha Float 1"), ("y Half 128x16x128",))
    assert kernel_macs(shared) == 128 * 16 * 128 * 128
    hidden = kernel("c", "correlation", ("x Half 1x64x8x8",), (), ("y Half 1x64x8x8",))
    assert weights_of(hidden) is None
    assert kernel_macs(hidden) is None


def test_kinds_and_blocks() -> None:
    found = recorded("layers").kernels
    assert [kind_of(each, FACTS) for each in found] == ["copy", "convolution", "gemm", "strips"]
    assert [block_of(each, FACTS) for each in found] == ["encoder", "encoder", "BAM_1", "BAM_1"]
    assert words_of(found[0]) == ("Cast", "Conc")
    gate = kernel("__myl_MulMax_myl0_3", "kgen", ("x Half 1x128x128x128",), (), ("y Half 1x128x128x128",))
    assert kind_of(gate, FACTS) == "epilogue"
    assert kind_of(replace(gate, outputs=(KernelTensor("restored", MAP, "Float"),)), FACTS) == "pixels"
    assert kind_of(replace(gate, name="__myl_Redu_myl0_3"), FACTS) == "other"
    assert kind_of(replace(gate, name="__myl_TranResh_myl0_3"), FACTS) == "copy"
    assert block_of(gate, FACTS) == "frame"
    assert block_of(replace(gate, nodes=("form/Cast", "unheard/Of")), FACTS) == "frame"
    assert {"convolution", "copy", "epilogue"} < set(KINDS)


@pytest.mark.parametrize(
    ("log", "kind", "per_channel", "runs_in", "rules"),
    [
        ("int8-sm75", TensorProto.INT8, False, "Half", {"emulated": 2, "requantisation": 4, "copy": 1}),
        ("int8-per-channel-sm89", TensorProto.INT8, True, "Int8", {"requantisation": 2, "wide output": 2}),
        ("fp8-sm89", TensorProto.FLOAT8E4M3FN, False, "FP8", {"requantisation": 2, "copy": 1}),
    ],
)
def test_eight_bits_asked_and_found(
    log: str, kind: int, per_channel: bool, runs_in: str, rules: dict[str, int]
) -> None:
    found = recorded(log)
    facts = read_facts(quantised(kind, per_channel), 32, 32)
    assert {c.asked for c in facts.convolutions} == {"FP8" if kind == TensorProto.FLOAT8E4M3FN else "Int8"}
    assert {computes_in(each) for each in found.kernels if each.is_convolution} == {runs_in}
    assert sum(kernel_macs(each) or 0 for each in found.kernels) == facts.macs == 2 * 64 * 64 * 9 * 1024
    findings = audit(found, facts)
    assert {rule: sum(f.rule == rule for f in findings) for rule in {f.rule for f in findings}} == rules
    if "emulated" in rules:
        with pytest.raises(BudgetError, match=r"2 findings.*\n  l1/Conv: asked in Int8, runs in Half"):
            demand_asked(findings)
    else:
        demand_asked(findings)


def test_promises_about_halves() -> None:
    found = recorded("layers")
    assert [f.rule for f in audit(found, FACTS)] == ["copy"]
    stem = found.kernels[1]
    wide = XRay((replace(stem, inputs=(replace(stem.inputs[0], type="Float"),)), *found.kernels[2:]), 0)
    assert [(f.rule, f.subject) for f in audit(wide, FACTS)] == [("precision", "en_layer1.0/Conv")]
    assert [f.rule for f in audit(XRay(found.kernels[:2], 0), FACTS)] == ["unseen", "copy"]
    float_graph = replace(FACTS, convolutions=(replace(FACTS.convolutions[0], asked="Float"),))
    with pytest.raises(BudgetError, match="metadata says fp16, but the graph's types ask for Float"):
        demand_asked(audit(found, float_graph))


def test_facts_of_a_graph() -> None:
    def graph(name: str, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["y"], name, pads=[1, 1, 1, 1], group=2),
            helper.make_node("ConvTranspose", ["y", "u"], ["z"], "up", strides=[2, 2], pads=[1, 1, 1, 1]),
        ]
        edges = [helper.make_tensor_value_info("x", kind, [1, 4, 8, 6]), helper.make_tensor_value_info("z", kind, None)]
        weights = {"w": (6, 2, 3, 3), "u": (6, 5, 4, 4)}
        constants = [numpy_helper.from_array(np.zeros(shape, dtype), n) for n, shape in weights.items()]
        made = helper.make_graph(nodes, "g", edges[:1], edges[1:], constants)
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    facts = read_facts(graph("down"), 8, 6)
    assert facts.convolutions == (
        Convolution("down", "Float", 48 * 6 * 2 * 9),
        Convolution("up", "Float", 48 * 6 * 5 * 16),
    )
    assert facts.declared is None
    assert facts.edges == {"x", "z"}
    with pytest.raises(InputError, match="has no name"):
        read_facts(graph(""), 8, 6)
    with pytest.raises(InputError, match="computes in DOUBLE"):
        read_facts(graph("down", TensorProto.DOUBLE), 8, 6)


def test_matrix_products_and_deformable_convolutions_are_arithmetic_too() -> None:
    shapes = {"w": (6, 4, 3, 3), "offset": (1, 18, 8, 6), "m": (6, 5), "u": (7, 40), "v": (5, 7)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("DeformConv", ["x", "w", "offset"], ["d"], "deform", pads=[1, 1, 1, 1]),
        helper.make_node("MatMul", ["y", "m"], ["p"], "product"),
        helper.make_node("Gemm", ["u", "v"], ["q"], "linear", transA=1, transB=1),
    ]
    kind = TensorProto.FLOAT
    given = [helper.make_tensor_value_info("x", kind, [1, 4, 8, 6])]
    results = [helper.make_tensor_value_info(name, kind, None) for name in ("d", "p", "q")]
    constants = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "g", given, results, constants)
    facts = read_facts(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), 8, 6)
    assert facts.products == {"deform": 48 * 6 * 4 * 9, "product": 6 * 8 * 5 * 6, "linear": 40 * 5 * 7}
    assert facts.convolution_macs == 48 * 6 * 4 * 9
    assert facts.macs == facts.convolution_macs + sum(facts.products.values())


def test_the_larger_of_two_times() -> None:
    kernels = recorded("layers").kernels
    gpu = find_gpu("RTX 4090")
    line = roofline(kernels, gpu)
    stem = line.bounds[1]
    assert stem.bytes_ms == pytest.approx(1e3 * kernels[1].bytes_moved / 1008e9)
    assert stem.compute_ms == pytest.approx(2e3 * 65536 * 64 * 36 / 165.2e12)
    assert line.bounds[0].compute_ms == 0
    assert line.ms == pytest.approx(sum(max(b.bytes_ms, b.compute_ms) for b in line.bounds))
    assert line.to_json()["meaning"] == "a lower bound, not a latency"
    heavy = kernel("c", "correlation", ("x Half 1x512x64x64",), ("w Half 512x512x3x3",), ("y Half 1x512x64x64",))
    assert [b.bound_by for b in roofline([kernels[0], heavy], gpu).bounds] == [BYTES_BOUND, COMPUTE_BOUND]


def test_a_type_the_gpu_lacks_is_refused_not_guessed() -> None:
    kernels = recorded("fp8-sm89").kernels
    assert can_run(kernels, find_gpu("L4"))
    assert not can_run(kernels, find_gpu("A100"))
    with pytest.raises(InputError, match=r"computes in FP8, for which A100 \(sm80\) has no rate"):
        roofline(kernels, find_gpu("A100"))
