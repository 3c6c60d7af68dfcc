"""The real TensorRT for RTX parser and compiler, which need no GPU."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantised_graph import quantised

from unblur.core.errors import InputError, MissingRuntimeError
from unblur.engines.tensorrt import builder as tensorrt_builder
from unblur.engines.tensorrt.builder import compile_engine
from unblur.engines.tensorrt.product import open_product
from unblur.engines.tensorrt.targets import parse_targets
from unblur.engines.xray.audit import computes_in

needs_rtx = pytest.mark.tensorrt_rtx


def convolution(kind: int = TensorProto.FLOAT, operator: str = "Conv") -> bytes:
    """(1, 8, 32, 32) -> one 3x3 convolution -> same."""
    dtype = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    weight = np.random.default_rng(0).normal(size=(8, 8, 3, 3)).astype(dtype)
    inputs = ["x", "weight"]
    constants = [numpy_helper.from_array(weight, "weight")]
    if operator == "DeformConv":
        inputs.append("offset")
        constants.append(numpy_helper.from_array(np.zeros((1, 18, 32, 32), dtype), "offset"))
    node = helper.make_node(operator, inputs, ["y"], name="layer/Conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    shape = [1, 8, 32, 32]
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@needs_rtx
@pytest.mark.parametrize(("kind", "runs_in"), [(TensorProto.FLOAT, "Float"), (TensorProto.FLOAT16, "Half")])
def test_an_engine_runs_in_the_types_of_its_graph(kind: int, runs_in: str) -> None:
    from unblur.engines.xray.audit import realised_precision

    engine = compile_engine(convolution(kind), ["sm89"])
    assert realised_precision(engine.xrays["sm89"], ["layer/Conv"]) == {"layer/Conv": runs_in}
    assert len(engine.data) > 1000
    assert engine.product.version == open_product("tensorrt-rtx").version


@needs_rtx
@pytest.mark.parametrize("settles", [True, False])
def test_a_failed_build_does_not_spoil_the_next(
    settles: bool, fixed_graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `settle` it does: when that half turns red, NVIDIA has mended it and `settle` can go."""
    if not settles:
        monkeypatch.setattr(tensorrt_builder, "settle", lambda _: None)
    graph = quantised().SerializeToString()

    def types() -> set[str]:
        kernels = compile_engine(graph, ("sm89",)).xrays["sm89"].kernels
        return {computes_in(kernel) for kernel in kernels if kernel.is_convolution}

    assert "Int8" in types()
    with pytest.raises(InputError, match="gave no engine"):
        compile_engine(fixed_graph.read_bytes(), ("sm75",))  # which has no float32 matrix product
    assert ("Int8" in types()) == settles
    assert "Int8" in types()


@needs_rtx
def test_every_target_is_seen_by_itself() -> None:
    engine = compile_engine(convolution(TensorProto.FLOAT16), ["sm86", "sm120"])
    assert list(engine.xrays) == ["sm86", "sm120"]
    assert all(xray.bytes_moved > 2 * 2 * 8 * 32 * 32 for xray in engine.xrays.values())


@needs_rtx
def test_what_the_parser_refuses_is_told_by_node_and_operator() -> None:
    with pytest.raises(InputError, match=r"layer/Conv.*DeformConv"):
        compile_engine(convolution(operator="DeformConv"))
    with pytest.raises(InputError, match="refuses the graph"):
        compile_engine(b"no graph at all")


def test_targets() -> None:
    assert parse_targets(None) == ()
    assert parse_targets("sm89, SM120,sm89") == ("sm89", "sm120")
    with pytest.raises(InputError, match=r"Unknown target 'sm98'.*sm89"):
        parse_targets("sm98")


def test_without_the_package_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingRuntimeError, match=r'pip install -e "\.\[tensorrt\]"'):
        compile_engine(convolution())


def test_every_name_used_exists_in_the_bindings() -> None:
    """The builder's source against the installed module: a name that does not exist would show only in a failure."""
    import ast

    import unblur.engines.tensorrt.builder as builder

    module = pytest.importorskip("tensorrt_rtx", reason="needs the package tensorrt-rtx-cu13")
    tree = ast.parse(Path(str(builder.__file__)).read_text())
    chains = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used = {chain for chain in chains if chain.startswith("trt.") and chain.replace(".", "").replace("_", "").isalnum()}
    assert len(used) > 5
    for chain in used:
        value = module
        for name in chain.split(".")[1:]:
            value = getattr(value, name)
