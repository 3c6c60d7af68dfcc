"""A fake `tensorrt` (10.16, 11.4) or `tensorrt_rtx`, made from a snapshot of the real module's names.

What the snapshot does not have raises AttributeError, as the real bindings do; what it has and the fake does not play
raises NotImplementedError. The parts that unblur uses behave: a parsed graph becomes a "plan" that holds the ONNX file,
and executing it runs ONNX Runtime on the memory behind the addresses, when the fake GPU gets to it (fake_cuda.py).

    fake = FakeTensorRT("10.16.1.11", FakeGpu())
    trt = fake.module                                             # what `import tensorrt` would give
    fake.returns["IExecutionContext.set_input_shape"] = False     # the next calls fail; `del` makes it work again
    fake.calls                                                    # [("Builder.create_network", (1,)), ...]
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_tensorrt_parts
import fake_tensorrt_runtime
from fake_cuda import FakeGpu
from fake_tensorrt_parts import Part

SNAPSHOTS = Path(__file__).parents[2] / "tensorrt_api"
VERSIONS = {"tensorrt-10": "10.16.1.11", "tensorrt-11": "11.4.0.106", "tensorrt-rtx": "rtx-1.7.1.116"}
SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


def snapshot(version: str) -> dict[str, Any]:
    """{"classes": {class: {member: "call" | "ro" | "rw" | "attr"}}, "enums": {enum: {member: value}}, ...}."""
    values: dict[str, Any] = json.loads((SNAPSHOTS / f"{version}.json").read_text())
    return values


class FakeTensorRT:
    """One fake library. `gpu` None: a machine without a driver.

    `returns`: "Class.method" -> what it returns, or raises, instead of doing anything. `parser_errors`: a dict for each
    error that the next parse records (node, operator, desc). `build_log`: (severity, text) that a build logs.
    `scratch_bytes`: device memory of a context for an input's shape. `inspector`: what the EngineInspector tells, as
    JSON values.
    """

    def __init__(self, version: str, gpu: FakeGpu | None = None) -> None:
        names = snapshot(version)
        self.version = str(names["version"])
        self.is_rtx = version.startswith("rtx")
        self.gpu = gpu
        self.returns: dict[str, Any] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.parser_errors: list[dict[str, Any]] = []
        self.build_log: list[tuple[str, str]] = []
        self.scratch_bytes: Callable[[tuple[int, ...]], int] = lambda shape: 64 * shape[1] * shape[2] * shape[3]
        self.inspector: dict[str, Any] = {"Layers": []}
        self.demand_current: Callable[[], None] = lambda: None
        """Asked by what works on a stream: raises where no context of its GPU is current."""
        self.misplaced: list[str] = []
        """What was destroyed while no context of its GPU was current: its memory is another's, or nobody's, by then."""
        self.module = self._module(names)

    def count(self, name: str) -> int:
        """How often "Class.method" was called."""
        return sum(called == name for called, _ in self.calls)

    def _module(self, names: dict[str, Any]) -> ModuleType:
        module = ModuleType("tensorrt_rtx" if self.is_rtx else "tensorrt")
        module.__dict__["__version__"] = self.version
        for name, members in names["enums"].items():
            setattr(module, name, _enum(name, members))
        severity = _enum("Severity", {name: k for k, name in enumerate(SEVERITIES)})
        for name, members in names["classes"].items():
            setattr(module, name, self._class(name, members, severity))
        for name in names["functions"]:
            setattr(module, name, _unplayed(name))
        for name in {"init_libnvinfer_plugins", "get_nv_onnx_parser_version"} & set(names["functions"]):
            setattr(module, name, lambda *_: 1)
        return module

    def _class(self, name: str, members: dict[str, str], severity: type[enum.Enum]) -> type:
        played: type = getattr(fake_tensorrt_runtime, name, getattr(fake_tensorrt_parts, name, Part))
        body: dict[str, Any] = {"_fake": self, "_members": members, "__module__": "tensorrt"}
        for member in (m for m in dir(played) if not m.startswith("_") and m not in members):
            body[member] = _absent(name, member)
        for member, kind in members.items():
            found = getattr(played, member, None)
            if member in SEVERITIES:
                body[member] = getattr(severity, member)
            elif member == "Severity":
                body[member] = severity
            elif kind == "call":
                body[member] = self._method(name, member, found)
            elif not isinstance(found, property):
                body[member] = _property(name, member, kind == "rw", found)
        made = type(name, (played,), body)
        # Closed like the bindings' classes; a class that Python derives from one is open.
        body_setattr = _closed(name, made, members)
        made.__setattr__ = body_setattr  # type: ignore[assignment, method-assign]
        return made

    def _method(self, owner: str, name: str, found: Any) -> Callable[..., Any]:
        full = f"{owner}.{name}"
        play = found or _unplayed(full)

        @wraps(play)
        def call(part: Any, *arguments: Any, **named: Any) -> Any:
            self.calls.append((full, arguments))
            if full in self.returns:
                if isinstance(self.returns[full], Exception):
                    raise self.returns[full]
                return self.returns[full]
            return play(part, *arguments, **named)

        return call


def _enum(name: str, members: dict[str, int]) -> Any:
    made = enum.Enum(name, members)  # type: ignore[misc]
    made.__int__ = lambda member: member.value  # type: ignore[attr-defined]
    made.__index__ = lambda member: member.value  # type: ignore[attr-defined]
    return made


def _absent(owner: str, name: str) -> Any:
    def refuse(_: Any) -> Any:
        raise AttributeError(f"{owner!r} object has no attribute {name!r} in this version")

    return property(refuse)


def _unplayed(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"The fake does not play {name}; teach it in a fake_tensorrt_*.py.")

    return refuse


def _property(owner: str, name: str, writable: bool, default: Any) -> Any:
    hidden = f"_value_{name}"

    def read(part: Any) -> Any:
        if default is None and hidden not in part.__dict__:
            raise NotImplementedError(f"The fake does not play {owner}.{name}; teach it in a fake_tensorrt_*.py.")
        return part.__dict__.get(hidden, default)

    def write(part: Any, value: Any) -> None:
        part.__dict__[hidden] = value

    return property(read, write if writable else None)


def _closed(owner: str, made: type, members: dict[str, str]) -> Callable[[Any, str, Any], None]:
    def assign(part: Any, name: str, value: Any) -> None:
        if type(part) is made and not name.startswith("_") and members.get(name) != "rw":
            raise AttributeError(f"{owner!r} object: {name!r} cannot be set in this version")
        object.__setattr__(part, name, value)

    return assign
