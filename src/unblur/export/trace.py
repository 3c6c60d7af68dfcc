"""Torch's exporter, held to what a graph here must be: named nodes, named sizes, no trace of the machine."""

from __future__ import annotations

import ast
import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator

import onnx
import onnx_ir as ir
import torch

from unblur.core.bounds import Size
from unblur.core.errors import UnblurError
from unblur.core.interrupts import deferred_interrupts
from unblur.graphs.metadata import Part, set_part
from unblur.networks.pixel_form import PixelForm

INPUT, OUTPUT, PROBE = "input", "restored", "probe"
"""Names in every graph. PROBE is an inner value: checks of large sizes stop there."""

PartOf = Callable[[str], tuple[str, str]]
"""`unblur.networks.family.Family.part_of`."""


def trace(
    form: PixelForm, size: Size | None, multiple: int, smallest: int, opset: int, part_of: PartOf
) -> onnx.ModelProto:
    """Trace `form` at `size` (H, W), or for every multiple of `multiple` from `smallest` on when None.

    Each node of a layer says in its metadata which block and group `part_of` gives that layer.

    Raises UnblurError when torch's exporter gives something else than one input and two outputs.
    """
    # For a dynamic graph the two lengths must differ from each other and from every constant of the network.
    height, width = size or (46 * multiple, 62 * multiple)
    shape = (1, height, width, 3) if form.bytes else (1, 3, height, width)
    example = torch.zeros(shape, dtype=torch.uint8 if form.bytes else torch.float32)
    dynamic = None
    if size is None:
        axes = (1, 2) if form.bytes else (2, 3)
        least = max(2, -(-smallest // multiple))
        dims = (torch.export.Dim(name, min=least) for name in ("rows", "columns"))
        dynamic = {"x": {axis: multiple * dim if multiple > 1 else dim for axis, dim in zip(axes, dims, strict=True)}}
    with _quiet(), deferred_interrupts():
        program = torch.onnx.export(
            form.eval(), (example,), dynamo=True, opset_version=opset, verbose=False,
            input_names=[INPUT], output_names=[OUTPUT, PROBE], dynamic_shapes=dynamic,
        )  # fmt: skip
    if program is None:
        raise UnblurError("torch.onnx.export returned no program.")
    model = program.model
    if model.opset_imports.get("") != opset:
        found = model.opset_imports.get("")
        raise UnblurError(f"torch's exporter wrote opset {found} although {opset} was asked for.")
    _clean(model)
    proto: onnx.ModelProto = ir.to_proto(model)
    for node in proto.graph.node:
        layer = node.name.rpartition("/")[0]
        set_part(node, Part(*part_of(layer)) if layer else Part("", ""))
    _declare_sizes(proto, size, form.bytes)
    return proto


def _clean(model: ir.Model) -> None:
    """Name nodes by the layer they come from; drop stack traces, which hold paths of this machine."""
    graph = model.graph
    used: dict[str, int] = {}
    prefix = "form."
    for node in graph:
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "['']"))
        weight = node.inputs[1].name if node.op_type in ("Conv", "ConvTranspose") and node.inputs[1] else None
        layer = weight.removesuffix(".weight") if weight else (scopes[-2] if len(scopes) > 1 else "")
        name = f"{layer.removeprefix('form').removeprefix('.')}/{node.op_type}".lstrip("/")
        used[name] = used.get(name, 0) + 1
        node.name = name if used[name] == 1 else f"{name}_{used[name]}"
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in list(graph.initializers.values()):
        value.metadata_props.clear()
        if value.name and value.name.startswith(prefix):
            value.name = value.name.removeprefix(prefix)
    for value in graph.inputs:
        value.metadata_props.clear()
    graph.metadata_props.clear()
    graph.doc_string = None
    graph.name = "unblur"
    model.metadata_props.clear()
    model.doc_string = None


def _declare_sizes(proto: onnx.ModelProto, size: Size | None, channels_last: bool) -> None:
    """State the sizes of input and output, make the probe an inner value, and drop shapes of the example."""
    graph = proto.graph
    outputs = [value.name for value in graph.output]
    if [value.name for value in graph.input] != [INPUT] or outputs != [OUTPUT, PROBE]:
        raise UnblurError(f"torch's exporter wrote inputs {[v.name for v in graph.input]} and outputs {outputs}.")
    del graph.output[1]
    del graph.value_info[:]
    for value in (graph.input[0], graph.output[0]):
        dims = value.type.tensor_type.shape.dim
        for axis, name, length in zip(
            (1, 2) if channels_last else (2, 3), ("height", "width"), size or (0, 0), strict=True
        ):
            if size is None:
                dims[axis].dim_param = name
            else:
                dims[axis].dim_value = length


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes about packages and APIs that a reader can do nothing about."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
