"""How the parts of fake_tensorrt.py behave that open and execute a plan; see fake_tensorrt_parts.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import onnxruntime
from fake_cuda import ALIGNMENT, ENGINE_MS, host_bytes
from fake_tensorrt_parts import OnGpu, Part, _demand_logger

NUMPY_TYPES = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT8": np.int8, "INT64": np.int64}


class Runtime(Part):
    engine_host_code_allowed = False
    engine_header_size = 64

    def __init__(self, logger: Any) -> None:
        _demand_logger(self._fake, logger)
        if not self._fake.is_rtx and self._fake.gpu is None:
            raise AssertionError("libnvinfer's Runtime ends the process where no driver is; probe the driver first")
        self._fake.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        header = self._header("plan")
        data = bytes(serialized_engine)
        if self._fake.gpu is None:
            self._log("ERROR", "CUDA initialization failure with error: 35")
            return None
        if not data.startswith(header):
            self._log("ERROR", "The engine plan file is not compatible with this version of TensorRT, please rebuild.")
            return None
        facts, _, model = data[len(header) :].partition(b"\n")
        if len(model) != json.loads(facts or b"{}").get("bytes"):
            self._log("ERROR", "Serialization assertion failed: size mismatch")
            return None
        engine = self._new("ICudaEngine")
        engine.__dict__.update(_facts=json.loads(facts), _model=model)
        return engine

    def get_engine_validity(self, blob: bytes) -> tuple[Any, int]:
        trt = self._fake.module
        if self._fake.gpu is None:
            return trt.EngineValidity.INVALID, 0
        if not bytes(blob).startswith(b"FAKE plan rtx"):
            return trt.EngineValidity.INVALID, int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE)
        if not bytes(blob).startswith(self._header("plan")):
            return trt.EngineValidity.INVALID, int(trt.EngineInvalidityDiagnostics.VERSION_MISMATCH)
        return trt.EngineValidity.VALID, 0


class ICudaEngine(OnGpu):
    _facts: dict[str, Any]
    _model: bytes
    _session: Any = None
    num_aux_streams = 0

    num_io_tensors = property(lambda self: len(self._all()))
    num_optimization_profiles = property(lambda self: max(1, len(self._facts["profiles"])))
    device_memory_size_v2 = property(
        lambda self: max(self.get_device_memory_size_for_profile_v2(k) for k in range(self.num_optimization_profiles))
    )

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        shapes = [self._profile(name, profile_index)[2] for name, _, _ in self._facts["inputs"]]
        return sum(self._fake.scratch_bytes(tuple(shape)) for shape in shapes)

    def get_tensor_name(self, index: int) -> str:
        return str(self._all()[index][0])

    def get_tensor_mode(self, name: str) -> Any:
        mode = self._fake.module.TensorIOMode
        if name in [n for n, _, _ in self._facts["inputs"]]:
            return mode.INPUT
        return mode.OUTPUT if name in [n for n, _, _ in self._facts["outputs"]] else mode.NONE

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self._fake.module.DataType, self._find(name)[1])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._find(name)[2])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._profile(name, profile_index)]

    def create_execution_context(self, strategy: Any = None) -> Any:
        trt = self._fake.module
        if isinstance(strategy, trt.IRuntimeConfig):
            config, strategy = strategy, strategy._strategy
        else:
            config = None
        own = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._new("IExecutionContext")
        context.__dict__.update(_engine=self, _config=config, _scratch=None if strategy == own else "its own")
        return context

    def create_runtime_config(self) -> Any:
        config = self._new("IRuntimeConfig")
        config.__dict__["_engine"] = self  # the bindings keep alive what an object was made of
        return config

    def create_engine_inspector(self) -> Any:
        return self._new("EngineInspector")

    def _all(self) -> list[Any]:
        return [*self._facts["inputs"], *self._facts["outputs"]]

    def _find(self, name: str) -> Any:
        return next(tensor for tensor in self._all() if tensor[0] == name)

    def _profile(self, name: str, k: int) -> list[list[int]]:
        profiles = self._facts["profiles"]
        return profiles[k][name] if profiles and name in profiles[k] else [list(self._find(name)[2])] * 3

    def _run(self, name: str, array: Any) -> Any:
        if self._session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])
        return self._session.run(None, {name: array})[0]


class IExecutionContext(OnGpu):
    _engine: Any
    _config: Any
    _scratch: Any

    def __init__(self) -> None:
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._profile = 0

    engine = property(lambda self: self._engine)
    active_optimization_profile = property(lambda self: self._profile)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._fake.gpu.find(stream_handle)
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            return False
        self._profile, self._shapes = profile_index, {}
        return True

    def set_input_shape(self, name: str, shape: Any) -> bool:
        low, _, high = self._engine._profile(name, self._profile)
        if len(shape) != len(low) or not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            self._log("ERROR", f"IExecutionContext::setInputShape: {tuple(shape)} is outside of the profile")
            return False
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name, _, shape in self._engine._facts["inputs"] if -1 in shape and name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        wanted = self._engine._find(name)[2]
        given = next(iter(self._shapes.values()), tuple(wanted))
        return tuple(b if a == -1 else a for a, b in zip(wanted, given, strict=True))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        known = name in [tensor[0] for tensor in self._engine._all()]
        if known and memory % ALIGNMENT == 0:
            self._addresses[name] = memory
        return known and memory % ALIGNMENT == 0

    def set_device_memory(self, memory: int, size: int) -> None:
        self._scratch = (memory, size)

    def update_device_memory_size_for_shapes(self) -> int:
        return int(self._fake.scratch_bytes(next(iter(self._shapes.values()))))

    def is_stream_capturable(self, stream_handle: int) -> bool:
        self._fake.gpu.find(stream_handle)
        self._fake.demand_current()
        user_allocates = "REQUIRE_USER_ALLOCATION" in self._engine._facts["flags"]
        return bool(self._config and self._config.cuda_graph_strategy != "disabled" and user_allocates)

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._fake.demand_current()
        gpu = self._fake.gpu
        names = [tensor[0] for tensor in self._engine._all()]
        if self.infer_shapes() or set(names) != set(self._addresses) or self._scratch is None:
            self._log("ERROR", "IExecutionContext::enqueueV3: shapes, addresses or device memory are not set")
            return False
        if self._fake.is_rtx and gpu.find(stream_handle).graph is not None:
            self._log("ERROR", "the engine was not built for stream capture")
            return False
        gpu.submit(stream_handle, self._work(), ENGINE_MS)
        return True

    def _work(self) -> Callable[[], None]:
        """What the GPU will do, with the addresses and shapes of now."""
        (source, kind, _), (target, _, _) = self._engine._all()
        shape = self.get_tensor_shape(source)
        addresses, scratch, gpu = dict(self._addresses), self._scratch, self._fake.gpu
        nbytes = prod(shape) * np.dtype(NUMPY_TYPES[kind]).itemsize
        needed = self._fake.scratch_bytes(shape)

        def work() -> None:
            if scratch != "its own":
                gpu.bytes_at(scratch[0], needed)[...] = 0x5A
            array = gpu.bytes_at(addresses[source], nbytes).view(NUMPY_TYPES[kind]).reshape(shape)
            result = np.ascontiguousarray(self._engine._run(source, array))
            gpu.bytes_at(addresses[target], result.nbytes)[...] = host_bytes(result)

        return work


class IRuntimeConfig(Part):
    cuda_graph_strategy = "disabled"
    _strategy: Any = None
    _cache: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self._strategy = strategy

    def get_execution_context_allocation_strategy(self) -> Any:
        return self._strategy

    def create_runtime_cache(self) -> Any:
        return self._new("IRuntimeCache")

    def set_runtime_cache(self, cache: Any) -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> Any:
        return self._cache


class IRuntimeCache(Part):
    """Of one version and GPU; the driver may be newer than the one it was made under."""

    _data = b""

    def deserialize(self, blob: bytes) -> bool:
        self._fake.demand_current()
        header, gpu, driver, *_ = [*bytes(blob).split(b"\n"), b"", b""]
        here = self._fake.gpu
        if (header + b"\n", gpu.decode()) != (self._header("kernels"), here.name) or driver.decode() > here.driver:
            return False
        self._data = bytes(blob)
        return True

    def serialize(self) -> Any:
        self._fake.demand_current()
        gpu = self._fake.gpu
        return self._new("IHostMemory", self._data or self._header("kernels") + f"{gpu.name}\n{gpu.driver}\n".encode())

    def reset(self) -> bool:
        self._data = b""
        return True


class EngineInspector(Part):
    def get_engine_information(self, format: Any) -> str:
        one_line = format == self._fake.module.LayerInformationFormat.ONELINE
        return "\n".join(map(str, self._fake.inspector["Layers"])) if one_line else json.dumps(self._fake.inspector)

    def get_layer_information(self, layer_index: int, format: Any) -> str:
        return json.dumps(self._fake.inspector["Layers"][layer_index])
