"""Damaged copies of files, the same for the same seed: bytes that flip, messages whose fields say something else."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

NUMBERS = (-1, 0, 1, 2, 3, 17, 999, 2**31 - 1, 2**31, 2**62, -(2**62))
FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e38)
TEXTS = ("", "\x1b[2J", "x", "y", "Conv", "Loop", "no.such.domain", "9" * 5000)


def byte_mutants(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Copies with one to four places flipped, cut out, doubled or overwritten, or cut short."""
    rng = random.Random(seed)
    for _ in range(count):
        harmed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(harmed))
            match rng.randrange(6):
                case 0 | 1:
                    harmed[at] ^= 1 << rng.randrange(8)
                case 2:
                    harmed[at] = rng.randrange(256)
                case 3:
                    del harmed[at : at + rng.randint(1, 8)]
                case 4:
                    harmed[at:at] = harmed[at : at + rng.randint(1, 16)]
                case _:
                    harmed[at : at + 4] = b"\xff\xff\xff\x7f"
        yield bytes(harmed if rng.randrange(8) else harmed[: rng.randrange(len(harmed))])


def field_mutants(model: onnx.ModelProto, count: int, seed: int = 0) -> Iterator[onnx.ModelProto]:
    """Copies that still are ONNX, of which one or two fields anywhere are changed, dropped or doubled."""
    rng = random.Random(seed)
    while count:
        harmed = onnx.ModelProto()
        harmed.CopyFrom(model)
        for _ in range(rng.randint(1, 2)):
            _harm(rng.choice(list(_messages(harmed))), rng)
        count -= 1
        yield harmed


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _messages(inner)


def _harm(message: Any, rng: random.Random) -> None:
    field, value = rng.choice(message.ListFields() or [(None, None)])
    if field is None:
        return
    single = isinstance(value, Message | str | bytes | int | float)
    if rng.randrange(6) == 0:
        message.ClearField(field.name)
    elif not single and rng.randrange(2):
        at = rng.randrange(len(value))
        if rng.randrange(2):
            del value[at]
        else:
            value.extend([value[at]])
    elif field.type != FieldDescriptor.TYPE_MESSAGE:
        new = _other(value if single else value[-1], rng)
        try:
            if single:
                setattr(message, field.name, new)
            else:
                value[rng.randrange(len(value))] = new
        except (ValueError, TypeError):  # a number that this field cannot hold
            message.ClearField(field.name)


def _other(value: Any, rng: random.Random) -> Any:
    match value:
        case bytes():
            return rng.choice((b"", value[:-1], value + b"\0", bytes([rng.randrange(256)]) + value[1:], b"\xff\xfe"))
        case str():
            return rng.choice((*TEXTS, value + "0", value[:-1]))
        case int():
            return rng.choice((*NUMBERS, value + 1, value - 1))
    return rng.choice(FLOATS)


def json_mutants(value: Any, count: int, seed: int = 0) -> Iterator[Any]:
    """Copies of a JSON value of which one or two places hold something else, or are missing."""
    rng = random.Random(seed)
    for _ in range(count):
        harmed = copy.deepcopy(value)
        for _ in range(rng.randint(1, 2)):
            holder, key = rng.choice(list(_places(harmed)))
            if rng.randrange(6) == 0:
                del holder[key]
            else:
                holder[key] = rng.choice((*NUMBERS, *FLOATS, *TEXTS, None, True, [], {}, [None], {"": []}, [[]] * 3))
        yield harmed


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])
