"""Read what an ONNX file says about itself before any backend opens it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, ValueInfoProto

from unblur.core.artefacts import text_with
from unblur.core.bounds import SIDE_MAX
from unblur.core.errors import InputError, nearest
from unblur.graphs.metadata import (
    CALIBRATION_KEY,
    CHECKPOINT_KEY,
    FORM_KEY,
    ORDER_KEY,
    SMALLEST_KEY,
    add_properties,
    calibration_of,
    contract_of,
    properties,
)
from unblur.graphs.onnx_file import load_digested, needed
from unblur.graphs.sizes import fold_sizes
from unblur.images.contract import METADATA_KEY, PixelContract
from unblur.images.signature import Signature

is_exported = text_with(METADATA_KEY)
"""Whether a file is a graph that unblur wrote, of any precision, without parsing it."""

TENSOR_TYPES: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8"}
WEIGHT_TYPES: dict[int, str] = {TensorProto.FLOAT: "f32", TensorProto.FLOAT16: "f16", TensorProto.BFLOAT16: "bf16",
                                TensorProto.DOUBLE: "f64", TensorProto.INT8: "int8",
                                TensorProto.FLOAT8E4M3FN: "fp8"}  # fmt: skip


@dataclass(frozen=True)
class GraphFile:
    """A graph that one frame at a time can be run through.

    `digest` is the SHA-256 of the file, and of the weights that it keeps in other files; `output` names the tensor that
    is the restored frame; `precision` names the types of its weights, such as "f32" or "f32+int8"; `checkpoint` is the
    SHA-256 of the checkpoint it was exported from and `channel_order` that of its network, None where the file does not
    say; `form` how its 8 bits are written (unblur.graphs.rewrites.forms), "" likewise; `quantised` counts the
    convolutions that read both map and weights through a DequantizeLinear; `calibration` says in a line what their
    ranges were measured on, "" where the file does not; `smallest` is the shortest side that it takes, 1 where the file
    does not say.
    """

    path: Path
    digest: str
    signature: Signature
    precision: str
    checkpoint: str | None
    output: str
    quantised: int = 0
    calibration: str = ""
    channel_order: str | None = None
    smallest: int = 1
    form: str = ""


def read_graph(path: Path, output: str | None = None, contract: PixelContract | None = None) -> GraphFile:
    """Read contract and size of an exported graph. Raises as `open_graph`."""
    return open_graph(path, output, contract)[0]


def open_graph(
    path: Path, output: str | None = None, contract: PixelContract | None = None
) -> tuple[GraphFile, onnx.ModelProto]:
    """What a graph says about itself, and the model: of one frame, and of the nodes that its one output needs.

    A size written in the input's shape becomes the signature's height and width, a symbolic one None; the batch is
    one frame, also where the file leaves it open; nodes without a name of their own get one, and arithmetic on sizes is
    done (`fold_sizes`). `output`: which of several outputs is the restored frame. `contract`: the pixels of a graph
    that does not say them itself; the model then says them.

    Raises InputError as `load_digested`, for a graph without a pixel contract, or with another than the one that is
    given, of several inputs, of several outputs none of which is named, or whose input or output is not one frame as
    the contract says.
    """
    model, digest = load_digested(path)
    contract = _contract(model, path, contract)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise InputError(
            f"{path} has {len(inputs)} inputs ({', '.join(value.name for value in inputs)}); unblur runs graphs of "
            "one frame: export a module around the network that takes the frame alone."
        )
    result = _output(model, output, path)
    height, width = _size(inputs[0], contract, path)
    if _size(result, contract, path) not in ((height, width), (None, None)):
        raise InputError(f"{path}: {result.name!r} has another size than {inputs[0].name!r}; unblur runs deblurring.")
    nodes, _ = needed(model.graph, [result.name])
    for values, value in ((model.graph.input, inputs[0]), (model.graph.output, result)):
        _pin(value, contract)
        kept = ValueInfoProto()
        kept.CopyFrom(value)
        del values[:]
        values.append(kept)
    if len(nodes) < len(model.graph.node):
        kept_nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del model.graph.node[:]
        model.graph.node.extend(kept_nodes)
    model.ir_version = max(model.ir_version, 4)  # before, each initializer is an input, and now the frame alone is
    _name_nodes(model)
    fold_sizes(model)
    said = properties(model)
    return GraphFile(
        path, digest, Signature(contract, height, width), _precision(model),
        said.get(CHECKPOINT_KEY), result.name, _quantised(model), _calibration(model, path), said.get(ORDER_KEY),
        _smallest(said.get(SMALLEST_KEY, "1"), path), said.get(FORM_KEY, ""),
    ), model  # fmt: skip


def _name_nodes(model: onnx.ModelProto) -> None:
    """Everything is planned by nodes' names, which ONNX leaves open, and logs of builders are read by lines."""
    taken = {node.name for node in model.graph.node}
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen or not node.name.isprintable():
            node.name = next(
                name
                for name in (f"{node.op_type}_{number}{'_' * k}" for k in range(len(taken) + 1))
                if name not in taken
            )
            taken.add(node.name)
        seen.add(node.name)


def _output(model: onnx.ModelProto, name: str | None, path: Path) -> ValueInfoProto:
    known: dict[str, ValueInfoProto] = {value.name: value for value in model.graph.output}
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    listed = ", ".join(known) or "none"
    if name is None:
        raise InputError(
            f"{path} has {len(known)} outputs ({listed}); say with --output-name which is the restored frame."
        )
    if name not in known:
        raise InputError(f"{path} has no output {name!r}{nearest(name, known)}; it has {listed}.")
    return known[name]


def _pin(value: ValueInfoProto, contract: PixelContract) -> None:
    """One frame of three channels: what is left open there has no size that could be asked for."""
    dims = value.type.tensor_type.shape.dim
    dims[0].dim_value = 1
    dims[1 if contract.layout == "nchw" else 3].dim_value = 3


def _precision(model: onnx.ModelProto) -> str:
    kinds = {WEIGHT_TYPES[t.data_type] for t in model.graph.initializer if t.data_type in WEIGHT_TYPES}
    return "+".join(sorted(kinds)) or "none"


def _quantised(model: onnx.ModelProto) -> int:
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    convolutions = (node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose"))
    return sum(dequantised.issuperset(node.input[:2]) for node in convolutions)


def _calibration(model: onnx.ModelProto, path: Path) -> str:
    try:
        about = calibration_of(model)
        if not about:
            return ""
        words = [about["algorithm"], *about["repairs"]]
        line = f"{', '.join(words)}, on {about['frames']} frames of {about['manifest']}"
        overlaps = "; ".join(about["overlaps_with_evaluation"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: its {CALIBRATION_KEY} cannot be read ({error}); quantise it again.") from error
    return f"{line}; NOT HELD OUT: {overlaps}" if overlaps else line


def _contract(model: onnx.ModelProto, path: Path, given: PixelContract | None) -> PixelContract:
    if given is not None and METADATA_KEY not in properties(model):
        add_properties(model, {METADATA_KEY: given.to_json()})
        return given
    told = contract_of(model, path)
    if given not in (None, told):
        raise InputError(f"{path} says itself which pixels it takes ({told.name}); leave out --contract.")
    return told


def _smallest(text: str, path: Path) -> int:
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise InputError(
            f"{path}: {SMALLEST_KEY} in its metadata is {text[:20]!r}, no side of a frame; export it again."
        )
    return int(text)


def _size(value: ValueInfoProto, contract: PixelContract, path: Path) -> tuple[int | None, int | None]:
    tensor = value.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    kind = TENSOR_TYPES.get(tensor.elem_type) or type_name(tensor.elem_type)
    channels_first = contract.layout == "nchw"
    channels = (shape[1] if channels_first else shape[3]) if len(shape) == 4 else None
    if kind != contract.dtype or len(shape) != 4 or shape[0] not in (1, None) or channels not in (3, None):
        raise InputError(
            f"{path}: {value.name!r} is {kind} {shape}, but its pixel contract says one {contract.layout} "
            f"{contract.dtype} frame of 3 channels; {_cure(kind, shape, contract)}."
        )
    height, width = (shape[2], shape[3]) if channels_first else (shape[1], shape[2])
    if any(side is not None and not 1 <= side <= SIDE_MAX for side in (height, width)):
        raise InputError(f"{path}: {value.name!r} is {shape}, and no frame has such a size; export it again.")
    return height, width


def _cure(kind: str, shape: list[int | None], contract: PixelContract) -> str:
    if len(shape) == 4 and contract.dtype == "float32":
        channels_last = shape[3] == 3 and shape[1] != 3
        if kind == "uint8":
            return f"name those of bytes: --contract uint8-{'nhwc' if channels_last else 'nchw'}"
        if kind == "FLOAT16":
            return "export it in float32 (`unblur build --fp16` makes 16 bits of it)"
        if channels_last:
            return "export a module around the network that transposes it, so that channels come before rows"
        if shape[1] not in (3, None):
            return "export a module around the network that takes RGB and gives RGB"
        if shape[0] not in (1, None):
            return "export it for a batch of one frame"
    return "export it again"


def type_name(kind: int) -> str:
    """ONNX's name of an element type, its number where it has none."""
    known = kind in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(kind)) if known else f"element type {kind}"
