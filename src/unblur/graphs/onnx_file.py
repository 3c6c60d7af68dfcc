"""The one place that opens an ONNX file: whatever is wrong with it becomes a sentence before anything relies on it.

A graph may come from anybody, damaged or made to do harm. Here it is parsed, its data are put in, and ONNX's own
checker and shape inference are asked; what they raise, and what they let pass, is told as InputError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError, EncodeError, Message  # type: ignore[import-untyped]
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from unblur.core.errors import InputError
from unblur.core.reading import open_regular, read_regular

REFUSALS = (ValidationError, InferenceError, EncodeError, RuntimeError, ValueError, TypeError, LookupError,
            ArithmeticError)  # fmt: skip
"""What ONNX's checker, shape inference and array reader raise about a graph."""

EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})


def load_onnx(path: Path) -> onnx.ModelProto:
    """`load_digested` without the digest."""
    return load_digested(path)[0]


def load_digested(path: Path) -> tuple[onnx.ModelProto, str]:
    """The model of a file with all its weights inside, as ONNX's checker takes it, and the SHA-256 of what it was made
    of: of the file, or where weights lie in other files, of it and of them.

    Raises InputError for a file that is missing, no regular file, no ONNX graph, or truncated; for text in it that is
    no UTF-8, weights that are not as large as they say, weights in other files that lie elsewhere than in or below
    the graph's folder or are too short, and for whatever the checker objects to.
    """
    try:
        data = read_regular(path)
    except FileNotFoundError as error:
        raise InputError(f"Graph {path} does not exist; export it with `unblur export`.") from error
    except OSError as error:
        raise InputError(f"Graph {path} cannot be read: {error.strerror}.") from error
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise InputError(f"{path} is not an ONNX graph, or only a part of one; export it again.") from error
    if not model.graph.node:
        raise InputError(f"{path} holds no ONNX graph ({len(data)} bytes, no node); export it again.")
    _refuse_broken_text(model, path)
    read = sha256(data)
    for tensor in _tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            _fill(tensor, path)
            read.update(tensor.raw_data)
        _refuse_wrong_size(tensor, path)
    try:
        onnx.checker.check_model(model)
    except REFUSALS as error:
        raise InputError(f"{path} is no valid ONNX graph: {reason(error)}; export it again.") from error
    return model, read.hexdigest()


def infer(model: onnx.ModelProto, *, strict: bool = True) -> onnx.ModelProto:
    """The model with the shapes and types that ONNX infers. Raises InputError with the reason where it cannot."""
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True)
    except REFUSALS as error:
        raise InputError(f"ONNX cannot infer the graph's shapes: {reason(error)}; export it again.") from error


def reason(error: BaseException) -> str:
    """The first line of what was raised that says something, cut to a readable length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".;:")


def needed(graph: GraphProto, names: Iterable[str]) -> tuple[list[NodeProto], set[str]]:
    """The nodes that these tensors depend on, in the order of the graph, and the names of all that these read."""
    wanted = set(names)
    nodes = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            wanted.update(name for inner in _inner(node) for each in inner.node for name in each.input)
            nodes.append(node)
    return nodes[::-1], wanted


def _inner(node: NodeProto) -> Iterator[GraphProto]:
    """Subgraphs of a node, and theirs. The parser takes no more than a hundred levels."""
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield graph
            for inner in graph.node:
                yield from _inner(inner)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    for each in (graph, *(inner for node in graph.node for inner in _inner(node))):
        yield from each.initializer
        for sparse in each.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in each.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _refuse_broken_text(model: onnx.ModelProto, path: Path) -> None:
    """Python's protobuf gives text that is no UTF-8 as bytes, and backends fail on it each in their own way."""
    left: list[Any] = [model]
    while left:
        for field, value in left.pop().ListFields():
            if field.type not in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING):
                continue
            values = [value] if isinstance(value, Message | str | bytes) else value
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                left += values
            elif any(not isinstance(text, str) for text in values):
                raise InputError(f"{path} is damaged: {field.name} in it is text that is no UTF-8; export it again.")


def _fill(tensor: TensorProto, path: Path) -> None:
    """Put the bytes of a tensor that lie in another file into it."""
    keys = {entry.key: entry.value for entry in tensor.external_data}
    place = path.parent / keys.get("location", "")
    what = f"{path}: the weights of {tensor.name!r} in {keys.get('location', '')!r}"
    if not keys.get("location") or not keys.keys() <= EXTERNAL_KEYS:
        raise InputError(f"{what}: the graph does not say plainly where they are ({', '.join(sorted(keys))}).")
    if "\0" in keys["location"] or not place.resolve().is_relative_to(path.parent.resolve()):
        raise InputError(f"{what} are outside the graph's folder, where unblur does not read; put them beside it.")
    try:
        with open_regular(place) as file:
            size = file.seek(0, 2)
            offset = int(keys.get("offset", "0"))
            length = int(keys["length"]) if "length" in keys else size - offset
            if not (0 <= offset <= size and 0 <= length <= size - offset):
                raise InputError(f"{what}: bytes {offset} to {offset + length} of {size} are asked for; copy it again.")
            file.seek(offset)
            tensor.raw_data = file.read(length)
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror}; copy them beside the graph.") from error
    except ValueError as error:
        raise InputError(f"{what}: offset and length must be whole numbers ({reason(error)}).") from error
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _refuse_wrong_size(tensor: TensorProto, path: Path) -> None:
    """ONNX's checker lets pass a tensor with other data than its type and shape say."""
    try:
        if min(tensor.dims, default=0) < 0:
            raise ValueError(f"shape {list(tensor.dims)}")
        numpy_helper.to_array(tensor)
    except REFUSALS as error:
        raise InputError(f"{path}: the tensor {tensor.name!r} is damaged ({reason(error)}); export again.") from error
