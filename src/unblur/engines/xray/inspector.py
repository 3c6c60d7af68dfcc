"""Kernels from the JSON of TensorRT's EngineInspector (`trtexec --exportLayerInfo`): 10.x, 11.x and TensorRT for RTX.

10.x names the network's tensors under `Bindings` and writes format and type of a tensor as one phrase; 11.x and
TensorRT for RTX have objects under `I/O Tensors` and both apart (docs.nvidia.com, migration of IEngineInspector).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from unblur.core.errors import InputError, UnblurError
from unblur.core.reading import parse_json
from unblur.engines.xray.kernels import BYTES, SYNCHRONISATION, Kernel, KernelTensor, XRay

FORM_10, FORM_11 = "TensorRT 10.x", "TensorRT 11.x or for RTX"

NOT_LAUNCHED = (*SYNCHRONISATION, "NoOp", "Constant")
"""Layer types that move nothing while a frame runs: order of streams, views, stored values. Counting them would lift
the lower bound above what an engine can do."""

_TOP = {FORM_10: {"Layers", "Bindings"}, FORM_11: {"Layers", "I/O Tensors", "Engine Metadata"}}
_REQUIRED = ("Name", "LayerType", "Inputs", "Outputs")
_READ = {*_REQUIRED, "Constants", "Metadata", "TacticName", "TacticValue", "StreamId", "EventId", "ParameterType"}
_TENSOR = {"Name", "Dimensions", "Location", "Strides", "StrideOrder"}
_PHRASES = {
    "FP32": "Float", "Float": "Float", "FP16": "Half", "Half": "Half", "BF16": "BFloat16", "BFloat16": "BFloat16",
    "Int8": "Int8", "INT8": "Int8", "UInt8": "UInt8", "UINT8": "UInt8", "FP8": "FP8", "BOOL": "Bool", "Bool": "Bool",
    "Int32": "Int32", "INT32": "Int32", "Int64": "Int64", "INT64": "Int64",
}  # fmt: skip
_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_GENERIC = {"Convolution": "correlation", "Deconvolution": "deconv", "MatrixMultiply": "gemm"}
"""ParameterType of data-centre layers -> the word that the compiler's own kernels have for it."""


@dataclass(frozen=True)
class Inspected:
    """`form` is FORM_10 or FORM_11; `edges` the network's inputs and outputs; `names` every layer, launched or not.

    `unread` are parameters of layers (such as Stride) that nothing here counts with.
    """

    form: str
    xray: XRay
    edges: tuple[str, ...]
    names: tuple[str, ...]
    unread: tuple[str, ...]


def parse_inspector(text: str | bytes) -> Inspected:
    """Read the JSON of a whole engine.

    The inspector does not tell activation memory: it is 0. Raises InputError for JSON of something else, an engine
    without detailed verbosity or without shapes; UnblurError where a field or type is not known, since what it holds
    would be missing from every count.
    """
    try:
        data = parse_json(text)
    except ValueError as error:
        raise InputError(f"The layer information is not whole JSON ({error}); export it again.") from error
    if not isinstance(data, dict) or "Layers" not in data:
        raise InputError("This JSON has no `Layers`: it is no layer information of an engine (--exportLayerInfo).")
    try:
        return _inspected(data)
    except (TypeError, AttributeError, LookupError, ValueError, ArithmeticError) as error:  # values of other types
        raise InputError(f"The layer information is not understood ({error}); export it again.") from error


def _inspected(data: dict[str, Any]) -> Inspected:
    form = FORM_10 if "Bindings" in data else FORM_11
    _demand_known(data, _TOP[form], f"the layer information ({form})")
    layers = data["Layers"]
    if any(isinstance(layer, str) for layer in layers):
        raise InputError(
            "The layer information has only names; build the engine with detailed verbosity "
            "(trtexec --profilingVerbosity=detailed) and export it again."
        )
    edges = data["Bindings"] if form == FORM_10 else [tensor["Name"] for tensor in data.get("I/O Tensors", [])]
    unread: set[str] = set()
    kernels = [_kernel(layer, form, unread) for layer in layers]
    launched = tuple(kernel for kernel in kernels if kernel.kind not in NOT_LAUNCHED)
    names = tuple(kernel.name for kernel in kernels)
    return Inspected(form, XRay(launched, 0), tuple(edges), names, tuple(sorted(unread)))


def _kernel(layer: dict[str, Any], form: str, unread: set[str]) -> Kernel:
    lacking = [field for field in _REQUIRED if field not in layer]
    if lacking:
        raise UnblurError(f"The layer {layer.get('Name', '?')!r} has no {', '.join(lacking)}.")
    name = layer["Name"]
    weights = []
    for field, value in layer.items():
        if field in _READ:
            continue
        if _is_weights(value):
            weights.append(_weights(layer, field, value))
        elif "ParameterType" in layer and not _may_hold_tensors(value):
            unread.add(field)
        else:
            raise UnblurError(f"The field {field!r} of layer {name!r} is not known: {str(value)[:200]}")
    inputs, listed, outputs = (
        tuple(_tensor(tensor, form, name) for tensor in layer.get(field, []))
        for field in ("Inputs", "Constants", "Outputs")
    )
    kind = layer["LayerType"]
    if kind not in NOT_LAUNCHED:
        kind = _GENERIC.get(layer.get("ParameterType", ""), kind)
    constants = (*listed, *(tensor for tensor in weights if tensor.shape))
    nodes = tuple(_ONNX_NODE.findall(layer.get("Metadata", "")))
    return Kernel(name, kind, inputs, constants, outputs, nodes)


def _tensor(tensor: dict[str, Any], form: str, layer: str) -> KernelTensor:
    where = f"a tensor of layer {layer!r} ({form})"
    if form == FORM_10:
        _demand_known(tensor, {*_TENSOR, "Format/Datatype"}, where)
        kind = _type_in(tensor["Format/Datatype"], where)
    else:
        _demand_known(tensor, {*_TENSOR, "Format", "Datatype", "DataType"}, where)
        kind = tensor.get("Datatype") or tensor.get("DataType") or "nothing"
        if kind not in BYTES:
            raise UnblurError(f"The type {kind!r} of {tensor['Name']} is not known, in {where}.")
    return KernelTensor(tensor["Name"], tuple(int(d) for d in tensor["Dimensions"]), kind)


def _type_in(phrase: str, where: str) -> str:
    """ "Channel major FP16 format where channel % 8 == 0" -> "Half"."""
    if "dynamic shapes" in phrase:
        raise InputError(
            "The layer information was exported without shapes, so formats and types are not in it; give the frame's "
            "(trtexec --shapes=..., or EngineInspector.execution_context) and export it again."
        )
    found = {_PHRASES[word] for word in re.findall(r"\w+", phrase) if word in _PHRASES}
    if len(found) != 1:
        raise UnblurError(f"The format {phrase!r} does not tell one known type, in {where}.")
    return found.pop()


def _is_weights(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"Type", "Count"}


def _may_hold_tensors(value: Any) -> bool:
    if isinstance(value, list):
        return any(_may_hold_tensors(part) for part in value)
    return isinstance(value, dict)


def _weights(layer: dict[str, Any], field: str, value: dict[str, Any]) -> KernelTensor:
    """Weights of a convolution in their own shape, others as a row; () for none.

    Convolution [O, I/g, kernel], Deconvolution [I, O/g, kernel].
    """
    count = int(value["Count"])
    if not count:
        return KernelTensor(field, (), "Float")
    kind = _type_in(value["Type"], f"{field} of layer {layer['Name']!r}")
    shape: tuple[int, ...] = (count,)
    parameters = layer.get("ParameterType")
    if parameters in ("Convolution", "Deconvolution"):
        kernel, outputs = tuple(layer["Kernel"]), int(layer["OutMaps"])
        if field == "Bias":
            shape = (1, count, *(1 for _ in kernel))
        elif field == "Weights":
            area = math.prod(kernel)
            first = outputs if parameters == "Convolution" else count * int(layer["Groups"]) // (outputs * area)
            shape = (first, count // (first * area), *kernel)
        if math.prod(shape) != count:
            raise UnblurError(f"{field} of layer {layer['Name']!r} has {count} values, which is not {shape}.")
    return KernelTensor(field, shape, kind)


def _demand_known(data: dict[str, Any], known: set[str], where: str) -> None:
    strange = sorted(set(data) - known)
    if strange:
        raise UnblurError(f"Not known in {where}: {', '.join(map(repr, strange))}.")
