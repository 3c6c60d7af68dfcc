"""Lints of graphs: every rule of TensorRT for RTX against its own parser and compiler, both ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from one_operator import (
    BF16,
    FLOAT,
    HALF,
    WEIGHT,
    casts,
    constant,
    convolution,
    graph,
    one,
    product,
    quantised,
    refusal,
)
from onnx import TensorProto, helper

from unblur.engines.tensorrt.builder import compile_engine
from unblur.engines.tensorrt.lint.lint import RULES, LintFinding, describe_lints, lint
from unblur.engines.tensorrt.lint.operators import REDUCTIONS, RTX_LACKS, UNSUPPORTED
from unblur.graphs.rewrites.casting import cast_graph

Make = Callable[[], onnx.ModelProto]
UINT8, INT8, FP8 = TensorProto.UINT8, TensorProto.INT8, TensorProto.FLOAT8E4M3FN


def resize(scales: list[float] | None = None, **attributes: Any) -> Make:
    table = constant("s", np.float32(scales or [1, 1, 2, 2]))
    return lambda: one("Resize", ("x", "", "s"), [table], **{"mode": "linear", **attributes})


def reduce(axes: str, operator: str = "ReduceMean") -> onnx.ModelProto:
    """Axes as initializer, from a Constant node, folded from one, or as a second input."""
    known = np.int64([2, 3])
    nodes, constants, inputs = [], [], [("x", FLOAT, [1, 8, 16, 16])]
    if axes == "initializer":
        constants = [constant("a", known)]
    elif axes == "input":
        inputs.append(("a", TensorProto.INT64, [2]))
    else:
        nodes = [helper.make_node("Constant", [], ["k"], value=constant("", known))]
        nodes.append(helper.make_node("Identity", ["k"], ["a"]))
    nodes.append(helper.make_node(operator, ["x", "a"], ["y"], "node"))
    return graph(nodes, inputs, [("y", FLOAT, None)], constants)


def scatter(reduction: str) -> Make:
    updates = [constant("i", np.int64([[1]])), constant("u", np.float32([1]))]
    return lambda: one("ScatterND", ("x", "i", "u"), updates, shape=[8], reduction=reduction)


def top(k: int, **attributes: Any) -> Make:
    return lambda: one("TopK", ("x", "k"), [constant("k", np.int64([k]))], shape=[5000], results=2, **attributes)


def layer_normalisation(results: int) -> Make:
    ones = [constant("s", np.ones(16, np.float32))]
    return lambda: one("LayerNormalization", ("x", "s"), ones, results=results)


def deformable(pads: list[int], kind: int = FLOAT) -> Make:
    offsets = np.zeros((1, 18, 16, 14 + pads[1] + pads[3]), np.float32)
    constants = [constant("w", WEIGHT, kind), constant("o", offsets, kind)]
    return lambda: one("DeformConv", ("x", "w", "o"), constants, kind=kind, pads=pads, kernel_shape=[3, 3])


def sampled(dimensions: int, kind: int = FLOAT) -> onnx.ModelProto:
    inner = [16] * (dimensions - 2)
    node = helper.make_node("GridSample", ["x", "g"], ["y"], "node")
    inputs = [("x", kind, [1, 8, *inner]), ("g", kind, [1, *inner, dimensions - 2])]
    return graph([node], inputs, [("y", kind, None)])


def dft() -> onnx.ModelProto:
    return one("DFT", shape=[1, 16, 16, 1])


# Rule -> graphs that break it, graphs that keep it; each with a target.
RTX: dict[str, tuple[list[tuple[Make, str]], list[tuple[Make, str]]]] = {
    "operator": (
        [(dft, "portable"), (deformable([1, 1, 1, 1]), "portable"),
         (lambda: one("Unique", shape=[8]), "portable"),
         (lambda: one("BitwiseNot", shape=[8], kind=TensorProto.INT32), "portable")],
        [(lambda: one("Relu"), "portable"), (lambda: one("Softmax"), "sm89"),
         (lambda: one("DepthToSpace", blocksize=2), "portable")],
    ),
    "foreign operator": (
        [(lambda: one("Blur", domain="example"), "portable")],
        [(lambda: one("Relu"), "portable")],
    ),
    "resize": (
        [(resize(coordinate_transformation_mode="half_pixel_symmetric"), "portable"),
         (resize([1, 1, 0.5, 0.5], antialias=1), "portable"),
         (lambda: one("Resize", ("x", "", "", "z"), [constant("z", np.int64([1, 8, 8, 12]))], mode="linear",
                      keep_aspect_ratio_policy="not_larger"), "portable")],
        [(resize(coordinate_transformation_mode=mode), "portable")
         for mode in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn")],
    ),
    "resize dimensions": (
        [(resize([2, 2, 2, 2]), "portable"), (resize([1, 2, 2, 2], mode="cubic"), "portable"),
         (lambda: one("Resize", ("x", "", "", "z"), [constant("z", np.int64([2, 16, 32, 32]))], mode="linear"),
          "sm89")],
        [(resize([1, 2, 2, 2]), "portable"), (resize(mode="cubic"), "portable"),
         (resize([2, 2, 2, 2], mode="nearest"), "portable")],
    ),
    "pool": (
        [(lambda: one("AveragePool", kernel_shape=[3, 3], dilations=[2, 2]), "portable"),
         (lambda: one("MaxPool", kernel_shape=[3, 3], dilations=[2, 2]), "portable"),
         (lambda: one("LpPool", kernel_shape=[3, 3], dilations=[1, 2]), "portable"),
         (lambda: one("MaxPool", results=2, kernel_shape=[2, 2], strides=[2, 2]), "portable")],
        [(lambda: one("AveragePool", kernel_shape=[3, 3], dilations=[1, 1]), "portable"),
         (lambda: one("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), "portable")],
    ),
    "reduce axes": (
        [(lambda: reduce("input"), "portable"), (lambda: reduce("input", "ReduceSum"), "portable")],
        [(lambda: reduce("initializer"), "portable"), (lambda: reduce("folded"), "portable"),
         (lambda: one("ReduceMean"), "portable")],
    ),
    "scatter reduction": (
        [(scatter("add"), "portable"), (scatter("max"), "portable")], [(scatter("none"), "portable")],
    ),
    "layer normalisation": ([(layer_normalisation(2), "portable")], [(layer_normalisation(1), "portable")]),
    "top k": ([(top(3841), "portable")], [(top(3840), "portable")]),
    "element type": (
        [(lambda: casts([TensorProto.INT16, FLOAT]), "portable"),
         (lambda: one("Identity", shape=[4], kind=TensorProto.COMPLEX64), "portable"),
         (lambda: quantised(TensorProto.FLOAT8E5M2), "sm89"), (lambda: quantised(TensorProto.FLOAT8E4M3FNUZ), "sm89")],
        [(lambda: casts([TensorProto.INT32, FLOAT]), "portable"), (lambda: casts([HALF, FLOAT]), "portable"),
         (lambda: quantised(FP8), "sm89")],
    ),
    "uint8": (
        [(lambda: casts([UINT8, FLOAT]), "portable"),
         (lambda: one("Transpose", shape=[1, 16, 16, 3], kind=UINT8, perm=[0, 3, 1, 2]), "portable"),
         (lambda: casts([UINT8], between="Relu"), "portable")],
        [(lambda: casts([FLOAT, UINT8], start=UINT8, between="Relu"), "portable"),
         (lambda: casts([HALF], start=UINT8), "portable")],
    ),
    "bf16 target": (
        [(lambda: convolution(BF16), "sm75"), (lambda: product(BF16), "sm75")],
        [(lambda: convolution(BF16), "sm80"), (lambda: product(BF16), "portable"), (lambda: convolution(HALF), "sm75")],
    ),
    "bf16 deconvolution": (
        [(lambda: convolution(BF16, "ConvTranspose"), "sm89"),
         (lambda: convolution(BF16, "ConvTranspose"), "portable")],
        [(lambda: convolution(HALF, "ConvTranspose"), "sm89"), (lambda: convolution(FLOAT, "ConvTranspose"), "sm75")],
    ),
    "fp8 target": (
        [(lambda: quantised(FP8), "sm75"), (lambda: quantised(FP8), "sm80"), (lambda: quantised(FP8), "sm86")],
        [(lambda: quantised(FP8), "sm89"), (lambda: quantised(FP8), "sm120")],
    ),
    "fp32 product on sm75": (
        [(lambda: product(FLOAT), "sm75"), (lambda: product(FLOAT, "Gemm"), "sm75"),
         (lambda: product(FLOAT, "Einsum", equation="bchw,wk->bchk"), "sm75")],
        [(lambda: product(FLOAT), "sm80"), (lambda: product(HALF), "sm75"), (lambda: convolution(FLOAT), "sm75")],
    ),
    "zero point": (
        [(lambda: quantised(zero=3), "sm89"), (lambda: quantised(UINT8, zero=128), "sm89")],
        [(lambda: quantised(), "sm89")],
    ),
    "scale sign": (
        [(lambda: quantised(scale=0.0), "sm89"), (lambda: quantised(scale=-0.05), "sm89")],
        [(lambda: quantised(scale=1e-6), "sm89")],
    ),
    "scale count": (
        [(lambda: quantised(weight_scales=[0.01] * 4), "sm89")],
        [(lambda: quantised(weight_scales=[0.01] * 8), "sm89")],
    ),
    "integer bias": ([(lambda: quantised(integer_bias=True), "sm89")], [(lambda: quantised(), "sm89")]),
}  # fmt: skip

# What the data-centre product's documents say and TensorRT for RTX does otherwise: no libnvinfer was asked.
WRITTEN: dict[str, tuple[list[Make], list[Make]]] = {
    "opset": ([lambda: one("Relu", opset=8), lambda: one("Relu", opset=26)], [lambda: one("Relu", opset=25)]),
    "top k order": ([top(10, sorted=0)], [top(10)]),
    "grid sample": ([lambda: sampled(5), lambda: sampled(4, BF16)], [lambda: sampled(4), lambda: sampled(4, HALF)]),
    "deformable convolution": (
        [deformable([1, 1, 1, 0]), deformable([1, 1, 1, 1], BF16)],
        [deformable([1, 1, 1, 1]), deformable([1, 1, 1, 1], HALF)],
    ),
    "weight axis": (
        [
            lambda: quantised(weight_scales=[0.01] * 8, axis=1),
            lambda: quantised(operator="ConvTranspose", weight_scales=[0.01] * 8, axis=0),
        ],
        [
            lambda: quantised(weight_scales=[0.01] * 8, axis=0),
            lambda: quantised(operator="ConvTranspose", weight_scales=[0.01] * 8, axis=-3),
        ],
    ),
    "map scales": (
        [
            lambda: one(
                "QuantizeLinear", ("x", "s", "z"), axis=1,
                constants=[constant("s", np.full(8, 0.1, np.float32)), helper.make_tensor("z", INT8, [8], [0] * 8)],
            )
        ],
        [lambda: quantised(weight_scales=[0.01] * 8)],
    ),
    "scale type": (
        [lambda: quantised(scale_kind=HALF), lambda: quantised(kind=HALF, scale_kind=HALF, opset=18)],
        [lambda: quantised(kind=HALF, scale_kind=HALF), lambda: quantised()],
    ),
    "int8 groups": ([lambda: quantised(group=4)], [lambda: quantised(group=2)]),
}  # fmt: skip


def found(model: onnx.ModelProto, product: Any = "tensorrt-rtx", target: str = "portable") -> set[str]:
    return {finding.rule for finding in lint(model, product, target)}


def cases(breaking: bool) -> list[Any]:
    return [
        pytest.param(rule, make, target, id=f"{rule}-{k}")
        for rule, both in RTX.items()
        for k, (make, target) in enumerate(both[0 if breaking else 1])
    ]


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize(("rule", "make", "target"), cases(breaking=True))
def test_what_the_lint_finds_the_compiler_refuses(rule: str, make: Make, target: str) -> None:
    assert rule in found(make(), target=target)
    assert refusal(make(), target) != ""


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize(("rule", "make", "target"), cases(breaking=False))
def test_what_the_lint_passes_the_compiler_takes(rule: str, make: Make, target: str) -> None:
    assert found(make(), target=target) == set()
    assert refusal(make(), target) == ""


@pytest.mark.tensorrt_rtx
def test_the_operators_are_those_the_parser_says() -> None:
    import tensorrt_rtx as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert {name for name in names if not parser.supports_operator(name)} == UNSUPPORTED | RTX_LACKS
    assert names.issuperset(REDUCTIONS)


@pytest.mark.tensorrt_rtx
def test_what_is_taken_but_done_otherwise_shows_in_the_kernels() -> None:
    """INT8 for SM 7.5 is emulated, UINT8 is taken for INT8, DOUBLE is computed as FLOAT."""

    def types(model: onnx.ModelProto, target: str) -> set[str]:
        kernels = compile_engine(model.SerializeToString(), [target]).xrays[target].kernels
        convolutions = [kernel for kernel in kernels if kernel.is_convolution] or list(kernels)
        return {t.type for kernel in convolutions for t in (*kernel.inputs, *kernel.outputs)}

    assert found(quantised(), target="sm75") == {"int8 on sm75"}
    assert found(quantised(), target="sm89") == set()
    assert "Int8" in types(quantised(), "sm89")
    assert "Int8" not in types(quantised(), "sm75")
    assert found(quantised(UINT8), target="sm89") == {"unsigned"}
    assert types(quantised(UINT8), "sm89") == types(quantised(), "sm89")
    wide = one("Relu", kind=TensorProto.DOUBLE)
    assert found(wide, target="sm89") == {"double"}
    assert types(wide, "sm89") == {"Float"}


@pytest.mark.parametrize("rule", WRITTEN)
def test_rules_of_the_data_centre_product_held_to_what_is_written_only(rule: str) -> None:
    breaking, keeping = WRITTEN[rule]
    for make in breaking:
        assert rule in found(make(), "tensorrt", "sm89")
    for make in keeping:
        assert found(make(), "tensorrt", "sm89") == set()


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("rule", sorted(set(WRITTEN) - {"deformable convolution"}))
def test_tensorrt_for_rtx_takes_what_only_the_data_centre_product_refuses(rule: str) -> None:
    for make in WRITTEN[rule][0]:
        model = make()
        if rule == "map scales":  # its result would be INT8, which no engine gives
            continue
        assert found(model, target="sm89") == set()
        assert refusal(model, "sm89") == ""


def test_every_rule_has_graphs_and_a_source() -> None:
    by_kernels = {"int8 on sm75", "unsigned", "double"}
    assert {rule.name for rule in RULES if rule.refused and "tensorrt-rtx" in rule.sources} == set(RTX)
    assert {rule.name for rule in RULES if not rule.refused} == by_kernels
    assert {rule.name for rule in RULES if set(rule.sources) == {"tensorrt"}} == set(WRITTEN)
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(source for rule in RULES for source in rule.sources.values())


def test_releases_of_the_data_centre_product() -> None:
    def rules(model: onnx.ModelProto, version: tuple[int, int]) -> list[str]:
        return [finding.text for finding in lint(model, "tensorrt", "sm90", version)]

    assert rules(dft(), (10, 16)) == rules(dft(), (11, 1)) == ["tensorrt has DFT only from 11.2 on"]
    assert rules(dft(), (11, 2)) == []
    assert len(rules(sampled(5), (11, 1))) == 1
    assert rules(sampled(5), (11, 2)) == []


def test_exported_graphs_are_clean_for_both_products(fixed_graph: Path, dynamic_graph: Path) -> None:
    for path in (fixed_graph, dynamic_graph):
        model = onnx.load(path)
        for kind, targets in (("tensorrt", ("sm80", "sm90")), ("tensorrt-rtx", ("sm80", "portable"))):
            for target in targets:
                assert found(model, kind, target) == set()
                assert found(cast_graph(model, "fp16").model, kind, target) == set()
    on_turing = lint(onnx.load(fixed_graph), "tensorrt-rtx", "sm75")
    assert {finding.rule for finding in on_turing} == {"fp32 product on sm75"}


def test_nodes_in_subgraphs_and_local_functions_are_seen() -> None:
    def branch(operator: str, name: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["x"], [name], f"in/{operator}")], name, [], [value])

    node = helper.make_node(
        "If", ["c"], ["y"], "node", then_branch=branch("Unique", "a"), else_branch=branch("Neg", "b")
    )
    model = graph([node], [("x", FLOAT, [8]), ("c", TensorProto.BOOL, [])], [("y", FLOAT, None)])
    (finding,) = lint(model, "tensorrt-rtx", "portable")
    assert finding.node == "in/Unique"
    local = one("Blur", domain="example")
    assert found(local) == {"foreign operator"}
    opsets = [helper.make_opsetid("", 20)]
    local.functions.append(
        helper.make_function("example", "Blur", ["i"], ["o"], [helper.make_node("Relu", ["i"], ["o"])], opsets)
    )
    assert found(local) == set()


def test_a_finding_tells_node_cure_and_source() -> None:
    findings = lint(quantised(zero=3), "tensorrt-rtx", "sm89")
    text = describe_lints("tensorrt-rtx", "sm89", findings)
    assert text.splitlines()[0] == "lint for tensorrt-rtx sm89: 2 findings"
    assert "  Q: zero point, refused: the zero point is 3, not 0. quantise symmetrically" in text
    assert "[TensorRT for RTX 1.7.1" in text
    unnamed = one("Unique", shape=[8])
    unnamed.graph.node[0].name = ""
    assert lint(unnamed, "tensorrt", "sm89")[0].node == "the Unique that makes 'y0'"
    many = [LintFinding("r", str(k), "t", "c", "s", False) for k in range(20)]
    assert describe_lints("tensorrt", "sm90", many).endswith("... and 8 more")
    assert "nothing to object to (rules from its documentation" in describe_lints("tensorrt", "sm90", [])
