"""The X-ray: kernels of a compiled engine, read from the builder's detailed log. No GPU needed.

With DETAILED profiling verbosity the builder logs one message that begins with `Layers:` and has a line for
each kernel: what it reads and writes, in which types, and which ONNX nodes ended up inside it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from unblur.core.errors import InputError, UnblurError

BYTES = {"Float": 4, "Half": 2, "BFloat16": 2, "Int8": 1, "UInt8": 1, "FP8": 1, "Bool": 1, "Int32": 4, "Int64": 8}
SYNCHRONISATION = ("wait", "signal")
"""Layer types that only order streams; they are no kernels."""

_HOST = re.compile(r"LayerType: (ShapeHostToDevice|shape_call),")
"""Layers of a dynamic engine that compute shapes on the host: no kernels either, and without a tactic."""

_FIELDS = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), Inputs: \[(?P<inputs>.*?)\]"
    r"(?:, Constants: \[(?P<constants>.*?)\])?, Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), "
    r"StreamId: (?P<stream>\d+)(?:, EventId: \d+)?(?:, Metadata: (?P<metadata>.*))?$"
)
_TENSOR = re.compile(r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<dims>[^\]]*)\].*?Datatype: (?P<type>\w+)")
_WHOLE = re.compile(r"-?\d{1,18}$")
_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


@dataclass(frozen=True)
class KernelTensor:
    """One input, constant or output of a kernel; `type` is the compiler's word (Float, Half, ...)."""

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def bytes(self) -> int:
        """Size when read or written once, 0 for a shape the compiler leaves open (a dynamic engine)."""
        return math.prod(self.shape) * BYTES[self.type] if min(self.shape, default=1) >= 0 else 0

    def to_text(self) -> str:
        """Name, type and shape on one line: `cat.1 Half 1x128x64x64`."""
        return f"{self.name} {self.type} {'x'.join(map(str, self.shape))}"

    @classmethod
    def from_text(cls, text: str) -> KernelTensor:
        """The inverse of `to_text`. Raises UnblurError for a text that is none."""
        name, kind, dims = [*text.rsplit(" ", 2), "", ""][:3]
        if kind not in BYTES or not all(_WHOLE.match(d) for d in dims.split("x") if dims):
            raise UnblurError(f"{text!r} is no tensor of a kernel; expected name, type and shape.")
        return cls(name, tuple(int(d) for d in dims.split("x") if dims), kind)


@dataclass(frozen=True)
class Kernel:
    """One launch: `kind` is the compiler's LayerType, `nodes` the ONNX nodes inside it."""

    name: str
    kind: str
    inputs: tuple[KernelTensor, ...]
    constants: tuple[KernelTensor, ...]
    outputs: tuple[KernelTensor, ...]
    nodes: tuple[str, ...]

    @property
    def bytes_moved(self) -> int:
        """Bytes of all inputs, constants and outputs, each once: the least the kernel can move."""
        return sum(t.bytes for t in (*self.inputs, *self.constants, *self.outputs))

    @property
    def is_convolution(self) -> bool:
        """Whether this kernel is a convolution, alone or fused with what follows it.

        Generated kernels (kgen) may name a convolution among their nodes when they only lay out its input.
        """
        if self.kind == "runtime_fusion":
            return any(word in self.name for word in ("Corr", "Deco", "Conv"))
        return self.kind in ("correlation", "deconv")

    def to_json(self) -> dict[str, Any]:
        """For a manifest: all that `from_json` needs."""
        return {
            "name": self.name,
            "kind": self.kind,
            "bytes_moved": self.bytes_moved,
            "inputs": [t.to_text() for t in self.inputs],
            "constants": [t.to_text() for t in self.constants],
            "outputs": [t.to_text() for t in self.outputs],
            "nodes": list(self.nodes),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Kernel:
        """The inverse of `to_json`. Raises UnblurError where a field is missing or no tensor."""
        lacking = [k for k in ("name", "kind", "inputs", "constants", "outputs", "nodes") if k not in data]
        if lacking:
            raise UnblurError(f"The kernel {data.get('name', '?')!r} is listed without {', '.join(lacking)}.")
        inputs, constants, outputs = (
            tuple(KernelTensor.from_text(text) for text in data[k]) for k in ("inputs", "constants", "outputs")
        )
        return cls(data["name"], data["kind"], inputs, constants, outputs, tuple(data["nodes"]))


@dataclass(frozen=True)
class XRay:
    """All kernels of an engine, in launch order."""

    kernels: tuple[Kernel, ...]
    activation_bytes: int

    @property
    def bytes_moved(self) -> int:
        return sum(kernel.bytes_moved for kernel in self.kernels)

    def summary(self) -> dict[str, Any]:
        """Figures for a manifest: kernels, bytes moved, and both by kind of kernel."""
        count: Counter[str] = Counter()
        moved: Counter[str] = Counter()
        for kernel in self.kernels:
            count[kernel.kind] += 1
            moved[kernel.kind] += kernel.bytes_moved
        return {
            "kernels": len(self.kernels),
            "bytes_moved": self.bytes_moved,
            "activation_bytes": self.activation_bytes,
            "by_kind": {kind: {"kernels": count[kind], "bytes_moved": moved[kind]} for kind in sorted(count)},
        }


def parse_builder_log(messages: list[str]) -> XRay:
    """Read the kernels from the builder's messages (VERBOSE severity included).

    Raises InputError when the message is missing, UnblurError when a line of it is not understood: a kernel that is
    passed over would falsify every count.
    """
    listing = next((m for m in messages if m.startswith("Layers:")), None)
    if listing is None:
        raise InputError(
            "The builder logged no kernels: the graph computes nothing, or the build had no verbose logger and no "
            "DETAILED profiling verbosity."
        )
    kernels = []
    for line in listing.partition("\nI/O Tensors:")[0].splitlines()[1:]:
        if line.strip() and not _HOST.search(line):
            kernel = _parse_kernel(line)
            if kernel.kind not in SYNCHRONISATION:
                kernels.append(kernel)
    memory = [int(m[1]) for text in messages if (m := re.match(r"Total Activation Memory: (\d+) bytes", text))]
    return XRay(tuple(kernels), max(memory, default=0))


def _parse_kernel(line: str) -> Kernel:
    match = _FIELDS.match(line)
    if match is None:
        raise UnblurError(f"A kernel of the builder's log is not understood: {line[:300]}")
    return Kernel(
        name=match["name"],
        kind=match["kind"],
        inputs=_tensors(match["inputs"]),
        constants=_tensors(match["constants"] or ""),
        outputs=_tensors(match["outputs"]),
        nodes=tuple(_ONNX_NODE.findall(match["metadata"] or "")),
    )


def _tensors(text: str) -> tuple[KernelTensor, ...]:
    tensors = []
    for match in _TENSOR.finditer(text):
        if match["type"] not in BYTES:
            raise UnblurError(f"The type {match['type']!r} of tensor {match['name']} in the builder's log is unknown.")
        shape = tuple(int(d) for d in match["dims"].split(",") if d)
        tensors.append(KernelTensor(match["name"], shape, match["type"]))
    if text.count("{ Name:") != len(tensors):
        raise UnblurError(f"Tensors of the builder's log are not understood: {text[:300]}")
    return tuple(tensors)
