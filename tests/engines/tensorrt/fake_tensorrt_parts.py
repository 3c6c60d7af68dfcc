"""How the parts of fake_tensorrt.py behave: one class for each class of the bindings that unblur uses.

A class has members of every version; fake_tensorrt.py takes away those that a version lacks. Underscored names are the
fake's own. Plans, timing caches and runtime caches begin with a line that names product and version.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

ONNX_TYPES = {1: "FLOAT", 10: "HALF", 2: "UINT8", 3: "INT8", 16: "BF16", 7: "INT64", 6: "INT32", 9: "BOOL"}


class Part:
    """Base of all; `_fake` is the FakeTensorRT that the class belongs to."""

    _fake: Any
    _members: dict[str, str]

    def _new(self, name: str, *arguments: Any) -> Any:
        return getattr(self._fake.module, name)(*arguments)

    def _log(self, severity: str, message: str) -> None:
        logger = self._fake.__dict__.get("logger")
        if logger is not None:
            logger.log(getattr(self._fake.module.ILogger, severity), message)

    def _header(self, kind: str) -> bytes:
        product = "rtx" if self._fake.is_rtx else "tensorrt"
        return f"FAKE {kind} {product} {self._fake.version}\n".encode()


class OnGpu(Part):
    """Has memory of the GPU, which goes with it."""

    def __del__(self) -> None:
        try:
            self._fake.demand_current()
        except AssertionError:
            self._fake.misplaced.append(type(self).__name__)


class ILogger(Part):
    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError("ILogger.log is pure virtual")


class Logger(ILogger):
    def __init__(self, min_severity: Any = None) -> None:
        self._value_min_severity = min_severity
        self._lines: list[tuple[Any, str]] = []

    def log(self, severity: Any, message: str) -> None:
        self._lines.append((severity, message))


class IProgressMonitor(Part):
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError("IProgressMonitor.phase_start is pure virtual")

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError("IProgressMonitor.step_complete is pure virtual")

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError("IProgressMonitor.phase_finish is pure virtual")


class IHostMemory(bytearray):
    _fake: Any

    @property
    def nbytes(self) -> int:
        return len(self)


class Builder(Part):
    max_threads = 1

    def __init__(self, logger: Any) -> None:
        _demand_logger(self._fake, logger)
        if not self._fake.is_rtx and self._fake.gpu is None:
            raise TypeError("pybind11::init(): factory function returned nullptr")  # what 10.16 and 11.4 raise
        self._fake.logger = logger

    def create_network(self, flags: int = 0) -> Any:
        if type(flags) is not int:
            raise TypeError("create_network(): incompatible function arguments")
        network = self._new("INetworkDefinition")
        network._flags = flags
        return network

    def create_builder_config(self) -> Any:
        return self._new("IBuilderConfig")

    def create_optimization_profile(self) -> Any:
        return self._new("IOptimizationProfile")

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        fake = self._fake
        strongly = fake.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        if not network._flags >> int(strongly) & 1 and not fake.is_rtx and fake.version.startswith("10"):
            raise AssertionError("a weakly typed network on 10.16")
        for severity, text in fake.build_log:
            self._log(severity, text)
        if not _report_phases(config.__dict__.get("_value_progress_monitor")):
            self._log("ERROR", "the build was cancelled")
            return None
        inputs = [_tensor(value) for value in network._model.graph.input]
        dynamic = [name for name, _, shape in inputs if -1 in shape]
        profiles = [profile._shapes for profile in config._profiles]
        if dynamic and (not profiles or any(name not in shapes for shapes in profiles for name in dynamic)):
            self._log("ERROR", f"Network has dynamic or shape inputs, but no optimization profile covers {dynamic}")
            return None
        model = network._model.SerializeToString()
        outputs = [_tensor(value) for value in network._model.graph.output]
        facts = {
            "profiles": profiles, "inputs": inputs, "outputs": outputs, "bytes": len(model),
            "flags": sorted(config._flags),
        }  # fmt: skip
        plan = self._header("plan") + json.dumps(facts).encode() + b"\n" + model
        return self._new("IHostMemory", plan)


class INetworkDefinition(Part):
    _flags = 0
    _model: Any = None

    @property
    def num_layers(self) -> int:
        return len(self._model.graph.node)

    @property
    def num_inputs(self) -> int:
        return len(self._model.graph.input)

    @property
    def num_outputs(self) -> int:
        return len(self._model.graph.output)

    def get_input(self, index: int) -> Any:
        return self._tensor(self._model.graph.input[index])

    def get_output(self, index: int) -> Any:
        return self._tensor(self._model.graph.output[index])

    def _tensor(self, value: Any) -> Any:
        name, kind, shape = _tensor(value)
        tensor = self._new("ITensor")
        tensor.__dict__.update(_name=name, _kind=kind, _shape=tuple(shape))
        return tensor


class ITensor(Part):
    _name, _kind, _shape = "", "FLOAT", ()

    name = property(lambda self: self._name)
    shape = property(lambda self: self._shape)
    dtype = property(lambda self: getattr(self._fake.module.DataType, self._kind))


class OnnxParser(Part):
    def __init__(self, network: Any, logger: Any) -> None:
        _demand_logger(self._fake, logger)
        self._network = network
        self._errors: list[Any] = []

    num_errors = property(lambda self: len(self._errors))

    def parse(self, model: bytes, path: str | None = None) -> bool:
        errors = list(self._fake.parser_errors)
        try:
            self._network._model = onnx.load_from_string(bytes(model))
        except DecodeError:
            errors.append({"desc": "Failed to parse ONNX model from memory", "code": "MODEL_DESERIALIZE_FAILED"})
        for values in errors:
            error = self._new("ParserError")
            error._values = values
            self._errors.append(error)
        return not errors

    def parse_from_file(self, path: str) -> bool:
        return self.parse(Path(path).read_bytes(), path)

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors.clear()


class ParserError(Part):
    _values: dict[str, Any] = {}  # noqa: RUF012

    def desc(self) -> str:
        return str(self._values.get("desc", ""))

    def node(self) -> int:
        return int(self._values.get("node", -1))

    def node_name(self) -> str:
        return str(self._values.get("node_name", ""))

    def node_operator(self) -> str:
        return str(self._values.get("operator", ""))

    def code(self) -> Any:
        return getattr(self._fake.module.ErrorCode, self._values.get("code", "UNSUPPORTED_NODE"))


class IOptimizationProfile(Part):
    def __init__(self) -> None:
        self._shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        if not all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
            raise ValueError("Shape provided for min is inconsistent with other shapes.")
        self._shapes[input] = [list(min), list(opt), list(max)]

    def get_shape(self, input: str) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._shapes.get(input, [])]


class IBuilderConfig(Part):
    builder_optimization_level = 3
    max_aux_streams = -1
    num_compute_capabilities = 0

    def __init__(self) -> None:
        self._flags = {"TF32"}
        self._profiles: list[Any] = []
        self._pools: dict[str, int] = {}
        self._cache: Any = None
        self._capabilities: dict[int, Any] = {}

    num_optimization_profiles = property(lambda self: len(self._profiles))

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag.name)

    def get_flag(self, flag: Any) -> bool:
        return flag.name in self._flags

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool.name] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool.name, 1 << 30)

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
        self._capabilities[index] = compute_capability
        return index < self.num_compute_capabilities

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        data = bytes(serialized_timing_cache)
        if data and not data.startswith(b"FAKE timing"):
            self._log("ERROR", "IBuilderConfig::createTimingCache: the blob is damaged")
            return None
        cache = self._new("ITimingCache")
        cache._data = data
        return cache

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache._data and not cache._data.startswith(self._header("timing")) and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class ITimingCache(Part):
    _data = b""

    def serialize(self) -> Any:
        return self._new("IHostMemory", self._data or self._header("timing"))

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        return ignore_mismatch or not input_cache._data or input_cache._data.startswith(self._header("timing"))

    def reset(self) -> bool:
        self._data = b""
        return True


def _demand_logger(fake: Any, logger: Any) -> None:
    if not isinstance(logger, fake.module.ILogger | fake.module.Logger):
        raise TypeError(f"incompatible constructor arguments: {logger!r} is no ILogger")


def _tensor(value: Any) -> tuple[str, str, list[int]]:
    kind = value.type.tensor_type
    return value.name, ONNX_TYPES[kind.elem_type], [
        d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim
    ]  # fmt: skip


def _report_phases(monitor: Any) -> bool:
    """Tell a progress monitor of two nested phases. False: it wants no more."""
    if monitor is None:
        return True
    monitor.phase_start("Building Engine", None, 2)
    monitor.phase_start("Tactic Search", "Building Engine", 2)
    wanted = all(monitor.step_complete("Tactic Search", step) for step in range(2))
    monitor.phase_finish("Tactic Search")
    monitor.phase_finish("Building Engine")
    return wanted
