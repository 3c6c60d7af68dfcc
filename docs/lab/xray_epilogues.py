"""How bias, LeakyReLU and scales may be written for TensorRT for RTX; writes 8-bit-epilogues.json beside this file.

    python docs/lab/xray_epilogues.py [WAY ...]

Each way of writing computes the same function of the same 8-bit operands. What is counted is what the compiler makes of
it: kernels, bytes and the roofline's bound on each card. No GPU. Weights of BANet-18M are random, and all ranges -1 to
1, for kernels and bytes depend on neither. Of the bundled network it is said what a way changes: the PSNR between its
results and those of the first way of its form, computed in float32 as written. Rows that the file has already stay;
remove it to measure all again.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from unblur.core.artefacts import write_json
from unblur.core.provenance import package_versions
from unblur.engines.tensorrt.builder import compile_engine
from unblur.engines.xray.gpus import gpus_of
from unblur.engines.xray.roofline import NOTE, can_run, roofline
from unblur.export.graph import export_graph
from unblur.graphs.rewrites.casting import cast_graph
from unblur.graphs.rewrites.forms import FP8, TENSORRT, TENSORRT_RTX, Form
from unblur.graphs.rewrites.phases import write_phases
from unblur.graphs.rewrites.quantise import quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.graphs.sessions import WrittenGraph
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.decibels import decibels_to_json
from unblur.metrics.quality import psnr_db
from unblur.networks.checkpoints import load_checkpoint
from unblur.networks.random_weights import random_checkpoint

HERE = Path(__file__).parent
SIDE = 256
TARGETS = ("sm86", "sm89", "sm120")
ONE_SCALE = replace(TENSORRT_RTX, per_channel=False, behind=False)
PER_CHANNEL = replace(TENSORRT_RTX, behind=False)
FP8_BEHIND = replace(FP8, per_channel=True, behind=True)
Rewrite = Callable[[onnx.ModelProto], onnx.ModelProto]


def rewritten(
    model: onnx.ModelProto, change: Callable[[NodeProto, list[onnx.TensorProto]], Sequence[NodeProto] | None]
) -> onnx.ModelProto:
    """The graph with `change` asked for each node: what stands in its place, or None; constants are added to a list."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        instead = change(node, made.graph.initializer)  # type: ignore[arg-type]
        for each in [node] if instead is None else instead:
            if not each.metadata_props:
                each.metadata_props.extend(node.metadata_props)
            nodes.append(each)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in made.graph.initializer if tensor.name in used]
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    onnx.checker.check_model(made, full_check=True)
    return made


def _slope(node: NodeProto) -> float:
    return next((a.f for a in node.attribute if a.name == "alpha"), 0.01)


def _constant(constants: list[onnx.TensorProto], name: str, values: Any) -> str:
    constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
    return name


def leaky_as_max(node: NodeProto, constants: list[onnx.TensorProto]) -> Sequence[NodeProto] | None:
    """max(x, a x)."""
    if node.op_type != "LeakyRelu":
        return None
    slope, x, y = _constant(constants, f"{node.name}/slope", _slope(node)), node.input[0], node.output[0]
    return [
        helper.make_node("Mul", [x, slope], [f"{y}/scaled"], f"{node.name}/Mul"),
        helper.make_node("Max", [x, f"{y}/scaled"], [y], node.name),
    ]


def leaky_as_prelu(node: NodeProto, constants: list[onnx.TensorProto]) -> Sequence[NodeProto] | None:
    if node.op_type != "LeakyRelu":
        return None
    slope = _constant(constants, f"{node.name}/slope", np.full((1, 1, 1), _slope(node)))
    return [helper.make_node("PRelu", [node.input[0], slope], list(node.output), node.name)]


def leaky_as_relu(node: NodeProto, constants: list[onnx.TensorProto]) -> Sequence[NodeProto] | None:
    """a x + (1 - a) ReLU(x)."""
    if node.op_type != "LeakyRelu":
        return None
    x, y, a = node.input[0], node.output[0], _slope(node)
    slope, rest = _constant(constants, f"{node.name}/slope", a), _constant(constants, f"{node.name}/rest", 1 - a)
    return [
        helper.make_node("Mul", [x, slope], [f"{y}/scaled"], f"{node.name}/Mul"),
        helper.make_node("Relu", [x], [f"{y}/relu"], f"{node.name}/Relu"),
        helper.make_node("Mul", [f"{y}/relu", rest], [f"{y}/upper"], f"{node.name}/Mul_2"),
        helper.make_node("Add", [f"{y}/scaled", f"{y}/upper"], [y], node.name),
    ]


def bias_behind(model: onnx.ModelProto) -> onnx.ModelProto:
    """Biases of 8-bit convolutions as additions behind them."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == 1}
    made = {name: node for node in model.graph.node for name in node.output}

    def change(node: NodeProto, new: list[onnx.TensorProto]) -> Sequence[NodeProto] | None:
        eight = node.op_type == "Conv" and made.get(node.input[1], node).op_type == "DequantizeLinear"
        if not eight or len(node.input) < 3:
            return None
        inner = NodeProto()
        inner.CopyFrom(node)
        del inner.input[2:]
        inner.output[0] = f"{node.output[0]}/unbiased"
        bias = _constant(new, f"{node.output[0]}/bias", constants[node.input[2]].reshape(1, -1, 1, 1))
        return [inner, helper.make_node("Add", [inner.output[0], bias], list(node.output), f"{node.name}/Add")]

    return rewritten(model, change)


def phases_quantised_before_weaving(model: onnx.ModelProto) -> onnx.ModelProto:
    """Conv -> DepthToSpace -> LeakyReLU -> Q as Conv -> LeakyReLU -> Q -> DQ -> DepthToSpace: the same numbers, for
    weaving moves values and changes none."""
    woven = write_phases(model)
    readers: dict[str, list[NodeProto]] = {}
    for node in woven.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    moved: dict[str, list[NodeProto]] = {}
    gone: set[str] = set()
    for node in woven.graph.node:
        act = readers[node.output[0]][0] if node.op_type == "DepthToSpace" else node
        if act.op_type in ("LeakyRelu", "Relu") and act is not node:
            x, last = node.input[0], act.output[0]
            first = NodeProto()
            first.CopyFrom(act)
            first.input[0], first.output[0] = x, f"{x}/activated"
            weave = NodeProto()
            weave.CopyFrom(node)
            weave.input[0], weave.output[0] = f"{x}/activated", last
            moved[node.name] = [first, weave]
            gone.add(act.name)
    return rewritten(woven, lambda node, _: [] if node.name in gone else moved.get(node.name))


def each(change: Callable[[NodeProto, list[onnx.TensorProto]], Sequence[NodeProto] | None]) -> Rewrite:
    return lambda model: rewritten(model, change)


def as_is(model: onnx.ModelProto) -> onnx.ModelProto:
    return model


WAYS: Sequence[tuple[str, Form | None, Rewrite, Rewrite]] = (
    # what, form, rewrite before quantisation, rewrite after it
    ("fp16", None, as_is, as_is),
    ("one scale", ONE_SCALE, as_is, as_is),
    ("one scale, max(x, ax)", ONE_SCALE, as_is, each(leaky_as_max)),
    ("one scale, PRelu", ONE_SCALE, as_is, each(leaky_as_prelu)),
    ("one scale, ax + (1 - a) ReLU", ONE_SCALE, as_is, each(leaky_as_relu)),
    ("one scale, bias behind", ONE_SCALE, as_is, bias_behind),
    ("one scale, phases", ONE_SCALE, write_phases, as_is),
    ("one scale, ReLU in front of weaving", ONE_SCALE, phases_quantised_before_weaving, as_is),
    ("a scale a channel", PER_CHANNEL, as_is, as_is),
    ("a scale a channel, max(x, ax)", PER_CHANNEL, as_is, each(leaky_as_max)),
    ("a scale a channel, PRelu", PER_CHANNEL, as_is, each(leaky_as_prelu)),
    ("a scale a channel, bias behind", PER_CHANNEL, as_is, bias_behind),
    ("a scale a channel, as a product behind", TENSORRT_RTX, as_is, as_is),
    ("the same, phases", TENSORRT_RTX, write_phases, as_is),
    ("tensorrt", TENSORRT, as_is, as_is),
    ("fp8", FP8, as_is, as_is),
    ("fp8, max(x, ax)", FP8, as_is, each(leaky_as_max)),
    ("fp8, bias behind", FP8, as_is, bias_behind),
    ("fp8, a scale a channel, as a product behind", FP8_BEHIND, as_is, as_is),
)


def main(asked: Sequence[str]) -> None:
    table = HERE / "8-bit-epilogues.json"
    rows: list[dict[str, Any]] = json.loads(table.read_text())["ways"] if table.exists() else []
    known = {(row["network"], row["way"]) for row in rows}
    order = [what for what, *_ in WAYS]
    about = {"side_px": SIDE, "roofline": NOTE, "versions": package_versions()}
    with tempfile.TemporaryDirectory(prefix="unblur-") as folder:
        place = Path(folder)
        bundled = load_checkpoint(HERE.parents[1] / "checkpoints" / "banet-nano.safetensors")
        for checkpoint in (bundled, random_checkpoint("banet", 0, place)):
            path = place / f"{checkpoint.name}.onnx"
            export_graph(checkpoint, path, height=SIDE, width=SIDE, check=False)
            frame = checkpoint.contract.encode(synthetic_pair(0, SIDE, SIDE, "train")[0])
            first: dict[Form | None, Any] = {}
            for what, form, before, after in WAYS:
                if (checkpoint.name, what) in known or (asked and what not in asked):
                    continue
                model = before(onnx.load(path))
                if form is not None:
                    ends = dict.fromkeys(tensors_to_measure(model, form), Range(-1.0, 1.0))
                    model = quantise(model, Ranges("-1 to 1", ends), form).model
                model = after(model)
                row: dict[str, Any] = {"network": checkpoint.name, "way": what}
                if checkpoint is bundled:
                    result = WrittenGraph(model).output(frame)
                    base = first.setdefault(form, result)
                    row["differs_db"] = decibels_to_json(psnr_db(result, base, peak=1.0))
                rows.append(row | {"targets": _compiled(cast_graph(model, "fp16").model, form)})
                print(json.dumps(rows[-1]), flush=True)
                rows.sort(key=lambda row: (row["network"] != bundled.name, order.index(row["way"])))
                write_json(table, about | {"ways": rows})


def _compiled(model: onnx.ModelProto, form: Form | None) -> dict[str, Any]:
    found = {}
    for target in TARGETS:
        if form in (FP8, FP8_BEHIND) and target == "sm86":
            continue  # no FP8 before SM 8.9
        kernels = compile_engine(model.SerializeToString(), [target]).xrays[target].kernels
        writes = Counter(t.type for kernel in kernels if kernel.is_convolution for t in kernel.outputs)
        bounds = {gpu.name: round(roofline(kernels, gpu).ms, 4) for gpu in gpus_of(target) if can_run(kernels, gpu)}
        found[target] = {
            "kernels": len(kernels),
            "gb_moved": round(sum(kernel.bytes_moved for kernel in kernels) / 1e9, 4),
            "convolutions_write": dict(writes),
            "lower_bound_ms": bounds,
        }
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
