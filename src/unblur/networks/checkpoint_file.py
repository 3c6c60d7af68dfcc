"""What a checkpoint file holds: read once, held to its own checksums, and never executed."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from unblur.core.errors import InputError

LARGEST_BYTES = 8 << 30
"""The largest known network has 0.2 GB of weights; eight times that is taken with all that a training keeps."""

MOST_OPCODES = 1_000_000
"""Of a pickle: 310 tensors with two moments each take 50,000. A file may ask for any number, at 100 bytes each."""

LEGACY_PICKLES = 5
"""A file of torch.save from before 1.6: magic number, protocol, system, contents, keys of the storages."""

MOST_TUPLES = 50_000
"""Of them; a tensor takes five. Inside each other and taken for a key they are hashed by recursion in C, which ends the
process where its stack ends.
"""

GREEDY = frozenset({"builtins bytearray", "__builtin__ bytearray"})
"""What torch lets a pickle call that allocates as much as it is told to."""

KEEPSAKES = re.compile(r"(argparse|numpy|pathlib)\.[A-Za-z_.]{1,60}")
"""Names of what training scripts leave beside the weights: the best PSNR, the options, folders. Nothing of theirs is
imported or called: a `Keepsake` of that name stands in its place.
"""

CHECKSUM_KEY = "unblur.weights_sha256"
"""In the header of the safetensors files that unblur writes: the format has no checksum of its own."""

FOREIGN_CODE = re.compile(r"nsupported (?:global: )?GLOBAL ([\w.]+)")
"""How torch's restricted unpickler names what a file wanted it to import or call."""

# Readers of damaged files fail in as many ways as there are bytes to damage; each of these was seen or is documented.
UNREADABLE = (
    *(pickle.UnpicklingError, SafetensorError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, LookupError),
    *(OSError, AttributeError, TypeError, ImportError, AssertionError, OverflowError, MemoryError, struct.error),
)


@dataclass(frozen=True)
class FileContent:
    """What a file holds (`value`: for a checkpoint nested dicts of tensors), and SHA-256 and length of those bytes."""

    value: Any
    digest: str
    size_bytes: int


class Keepsake:
    """In the place of an object that is not made: it takes whatever a pickle gives it, and does nothing."""

    def __new__(cls, *_: object) -> Keepsake:
        return object.__new__(cls)

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def read_content(path: Path) -> FileContent:
    """Read a .safetensors file or one of torch.save. What is hashed and what is parsed are the same bytes.

    Raises InputError for a file that is missing, no regular file, too large, unreadable, damaged, of another kind, or
    that wants code to be run.
    """
    data = _read(path)
    try:
        value = _parse(path, data)
    except UNREADABLE as error:
        if code := FOREIGN_CODE.search(str(error)):
            raise InputError(
                f"{path} asks to run code ({code[1]}), which unblur never does; "
                "save the bare state dict (torch.save(network.state_dict(), ...)) or safetensors."
            ) from error
        # The unpickler's own text advises to switch the safety off: not repeated.
        first = "" if isinstance(error, pickle.UnpicklingError) else str(error).splitlines()[:1]
        reason = f"{type(error).__name__}: {first[0]}".split(". ")[0] if first else type(error).__name__
        raise _damaged(path, reason) from error
    return FileContent(value, hashlib.sha256(data).hexdigest(), len(data))


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, in whatever order and layout they are stored."""
    total = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        total.update(f"{key}\0{value.dtype}\0{list(value.shape)}\0".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"Checkpoint {path} is a directory; name the .pth, .pt or .safetensors file in it.")
    try:
        if not path.exists():
            raise InputError(f"Checkpoint {path} does not exist; check the name.")
        if not path.is_file():
            raise InputError(f"Checkpoint {path} is not a regular file; name the .pth, .pt or .safetensors file.")
        size = path.stat().st_size
        if path.suffix.lower() == ".onnx":
            raise InputError(
                f"{path} is a graph, not a checkpoint: look into it with `unblur xray`, run it with `unblur "
                "deblur --engine FILE.onnx`, take it on with --onnx of `unblur build`, `calibrate` and `search`; where "
                "another tool exported it, --contract says its pixels."
            )
        if size > LARGEST_BYTES:
            raise InputError(
                f"{path} has {size / 1e9:.0f} GB, more than any known network; save the weights alone "
                "(torch.save(network.state_dict(), ...))."
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"Checkpoint {path} cannot be opened: {error.strerror}; check its permissions.") from error
    if not data:
        raise InputError(f"Checkpoint {path} is empty (0 bytes); copy or download it again.")
    return data


def _parse(path: Path, data: bytes) -> Any:
    is_zip = data.startswith(b"PK\x03\x04")
    if path.suffix.lower() == ".safetensors":
        if is_zip:
            raise InputError(f"{path} is a zip archive as torch.save writes, not safetensors; rename it to .pth.")
        return _parse_safetensors(path, data)
    if is_zip:
        asked = _check_archive(path, data)
    elif 8 + int.from_bytes(data[:8], "little") <= len(data) and data[8:9] == b"{":
        raise InputError(f"{path} is a safetensors file under another suffix; rename it to .safetensors.")
    else:
        asked = _check_pickles(path, io.BytesIO(data), LEGACY_PICKLES)
    kept: list[Any] = [(type(name, (Keepsake,), {}), name) for name in sorted(asked) if KEEPSAKES.fullmatch(name)]
    with warnings.catch_warnings(), torch.serialization.safe_globals(kept):
        # torch remarks on pickle protocols; what cannot be read is an error anyway.
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _parse_safetensors(path: Path, data: bytes) -> dict[str, Tensor]:
    state: dict[str, Tensor] = safetensors.torch.load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    stated = header.get("__metadata__", {}).get(CHECKSUM_KEY)
    if stated is not None and stated != weights_digest(state):
        raise _damaged(path, "its weights do not have the checksum that it states")
    return state


def _check_archive(path: Path, data: bytes) -> set[str]:
    """Hold a zip archive to its checksums, which torch does not do. Returns as `_check_pickles`."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = archive.infolist()
        names = {record.filename for record in records}
        parts = {name.partition("/")[2] for name in names}
        if "constants.pkl" in parts or any(part.startswith("code/") for part in parts):
            raise InputError(
                f"{path} is a TorchScript archive, a program with its weights; unblur loads weights: "
                "torch.save(torch.jit.load(...).state_dict(), ...)."
            )
        pickled = [name for name in names if name.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise InputError(
                f"{path} is a zip archive, but not one of torch.save (it holds {', '.join(sorted(names)[:3])}); "
                "unpack it and name the checkpoint in it."
            )
        if len(names) != len(records) or any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise _damaged(path, "its records are compressed, or there twice, which torch.save never does")
        if (bad := archive.testzip()) is not None:
            raise _damaged(path, f"the record {bad!a} does not have its checksum")
        return _check_pickles(path, io.BytesIO(archive.read(pickled[0])), 1)


def _check_pickles(path: Path, stream: io.BytesIO, most: int) -> set[str]:
    """Walk the opcodes of up to `most` pickles without obeying them: what they ask to import, as "module.name".

    Raises ValueError where they are no pickles.
    """
    left, tuples = MOST_OPCODES, 0
    asked: set[str] = set()
    for _ in range(most):
        if not stream.read(1):
            break
        stream.seek(-1, io.SEEK_CUR)
        for opcode, argument, _ in itertools.islice(pickletools.genops(stream), left + 1):
            left -= 1
            tuples += opcode.name.startswith("TUPLE")
            if opcode.name == "GLOBAL" and argument is not None:
                if argument in GREEDY:
                    raise InputError(f"{path} asks for a {argument.split()[1]}; save the bare state dict of tensors.")
                asked.add(argument.replace(" ", "."))
        if left < 0 or tuples > MOST_TUPLES:
            raise InputError(
                f"{path} holds more than {MOST_OPCODES:,} things, or {MOST_TUPLES:,} tuples, beside its tensors; save "
                "the bare state dict."
            )
    return asked


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} is not a readable checkpoint: truncated, damaged or another kind of file ({reason}); "
        "copy or download it again, as .pth, .pt or .safetensors."
    )
