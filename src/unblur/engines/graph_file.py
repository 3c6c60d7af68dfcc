"""Read what an ONNX file says about itself before any backend opens it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, ValueInfoProto, helper

from unblur.core.artefacts import file_digest, text_with
from unblur.core.errors import InputError
from unblur.engines.runner import Signature
from unblur.images.contract import METADATA_KEY, PixelContract

CHECKPOINT_KEY = "unblur.checkpoint_sha256"
ORDER_KEY = "unblur.channel_order"
"""Holds the order that the network takes, also where the graph takes bytes in RGB and turns them round inside."""

CALIBRATION_KEY = "unblur.calibration"
"""Holds, as JSON, what the ranges of an 8-bit graph were measured on and how."""

is_exported = text_with(METADATA_KEY)
"""Whether a file is a graph that unblur wrote, of any precision, without parsing it."""

TENSOR_TYPES: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8"}
WEIGHT_TYPES: dict[int, str] = {TensorProto.FLOAT: "f32", TensorProto.FLOAT16: "f16", TensorProto.BFLOAT16: "bf16",
                                TensorProto.DOUBLE: "f64", TensorProto.INT8: "int8",
                                TensorProto.FLOAT8E4M3FN: "fp8"}  # fmt: skip


@dataclass(frozen=True)
class GraphFile:
    """A graph that one frame at a time can be run through.

    `digest` is the file's SHA-256; `precision` names the types of its weights, such as "f32" or "f32+int8";
    `checkpoint` is the SHA-256 of the checkpoint it was exported from and `channel_order` that of its network, None
    where the file does not say; `quantised` counts the convolutions that read both map and weights through a
    DequantizeLinear; `calibration` says in a line what their ranges were measured on, "" where the file does not.
    """

    path: Path
    digest: str
    signature: Signature
    precision: str
    checkpoint: str | None
    quantised: int = 0
    calibration: str = ""
    channel_order: str | None = None


def read_graph(path: Path) -> GraphFile:
    """Read contract and size of an exported graph.

    A size written in the input's shape becomes the signature's height and width, a symbolic one None. Raises
    InputError for a file that is missing, a directory, no ONNX graph, truncated, without the pixel contract in its
    metadata, or whose input is not one frame as the contract says.
    """
    model = _load(path)
    contract = _contract(model, path)
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise InputError(
            f"{path} has {len(model.graph.input)} inputs and {len(model.graph.output)} outputs; "
            "unblur runs graphs with one of each: export it with `unblur export`."
        )
    height, width = _size(model.graph.input[0], contract, path)
    _size(model.graph.output[0], contract, path)
    checkpoint = next((entry.value for entry in model.metadata_props if entry.key == CHECKPOINT_KEY), None)
    order = next((entry.value for entry in model.metadata_props if entry.key == ORDER_KEY), None)
    signature = Signature(contract, height, width)
    return GraphFile(
        path, file_digest(path), signature, _precision(model), checkpoint, _quantised(model), _calibration(model, path),
        order,
    )  # fmt: skip


def _load(path: Path) -> onnx.ModelProto:
    if not path.exists():
        raise InputError(f"Graph {path} does not exist; export it with `unblur export`.")
    if path.is_dir():
        raise InputError(f"Graph {path} is a directory; name the .onnx file in it.")
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not an ONNX graph, or only a part of one; export it again.") from error
    except OSError as error:
        raise InputError(f"Graph {path} cannot be read: {error.strerror}.") from error
    if not model.graph.node:
        raise InputError(f"{path} holds no ONNX graph ({path.stat().st_size} bytes, no node); export it again.")
    return model


def _precision(model: onnx.ModelProto) -> str:
    kinds = {WEIGHT_TYPES[t.data_type] for t in model.graph.initializer if t.data_type in WEIGHT_TYPES}
    return "+".join(sorted(kinds)) or "none"


def _quantised(model: onnx.ModelProto) -> int:
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    convolutions = (node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose"))
    return sum(dequantised.issuperset(node.input[:2]) for node in convolutions)


def calibration_of(model: onnx.ModelProto) -> dict[str, Any]:
    """What the metadata says under CALIBRATION_KEY; empty where it says nothing. Raises ValueError for no JSON."""
    text = next((entry.value for entry in model.metadata_props if entry.key == CALIBRATION_KEY), "{}")
    return dict(json.loads(text))


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


def _contract(model: onnx.ModelProto, path: Path) -> PixelContract:
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            try:
                return PixelContract.from_json(entry.value)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
    raise InputError(
        f"{path} does not say which pixels it takes (no {METADATA_KEY} in its metadata), and guessing order and range "
        "would give wrong colours; export it from its checkpoint with `unblur export`."
    )


def _size(value: ValueInfoProto, contract: PixelContract, path: Path) -> tuple[int | None, int | None]:
    tensor = value.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    kind = TENSOR_TYPES.get(tensor.elem_type) or helper.tensor_dtype_to_string(tensor.elem_type)
    channels_first = contract.layout == "nchw"
    channels = (shape[1] if channels_first else shape[3]) if len(shape) == 4 else None
    if kind != contract.dtype or len(shape) != 4 or shape[0] not in (1, None) or channels not in (3, None):
        raise InputError(
            f"{path}: {value.name!r} is {kind} {shape}, but its pixel contract says one {contract.layout} "
            f"{contract.dtype} frame of 3 channels; export it again."
        )
    return (shape[2], shape[3]) if channels_first else (shape[1], shape[2])
