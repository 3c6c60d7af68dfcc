"""A machine with a fake GPU: its driver (libcuda), the memory libraries PyTorch and pycuda, and a fake TensorRT.

machine = FakeMachine("tensorrt-rtx", memory="pycuda", seed=3)
file = machine.build(graph, folder / "tiny.engine", [(8, 24)])     # engine and manifest, sizes from 8 to 24
with machine.open(file) as runner: ...
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from fake_cuda import COPY_MS, Event, FakeGpu, OutOfMemoryError
from fake_tensorrt import VERSIONS, FakeTensorRT

from unblur.core.artefacts import file_digest
from unblur.engines.tensorrt import cuda_driver, product, runner
from unblur.engines.tensorrt.file import EngineFile, read_engine
from unblur.engines.tensorrt.manifest import companions
from unblur.engines.tensorrt.product import Device, Driver, Product
from unblur.engines.tensorrt.runner import TensorRtRunner
from unblur.images.contract import METADATA_KEY

INVALID_CONTEXT, INVALID_HANDLE, NOT_READY, CAPTURED_EVENT = 201, 400, 600, 907
"""CUDA_ERROR_...: nobody made the context current; an event that was destroyed, never recorded or keeps no time; one
that has not been reached; one that was last recorded during a capture."""


class FakeMachine:
    """`which` is a key of VERSIONS, `memory` the library that has CUDA, `number` the GPU's: those before it are others.
    `fails`: a driver function -> its status.

    `sticky`: the status that every driver function gives from now on, as after an illegal access of the GPU.
    """

    def __init__(
        self, which: str, memory: str = "torch", seed: int | None = None, memory_bytes: int = 1 << 30,
        number: int = 0,
    ) -> None:  # fmt: skip
        self.gpu = FakeGpu(memory_bytes, seed)
        self.tensorrt = FakeTensorRT(VERSIONS[which], self.gpu)
        self.product = Product(
            "tensorrt-rtx" if self.tensorrt.is_rtx else "tensorrt", self.tensorrt.module, self.tensorrt.version
        )
        self.memory = memory
        self.number = number
        self.torch_stream = self.gpu.stream().handle
        self.sticky = 0
        self.depth = 0
        self.started = False
        """Whether PyTorch or pycuda has brought the libraries of CUDA into the process."""
        self.fails: dict[str, int] = {}
        self.on_fail: dict[str, Callable[[], Any]] = {}
        self.target = "sm89"
        self.torch_starts: Callable[[], None] = lambda: None
        """PyTorch's start on the GPU: raises where the driver is too old for it."""
        self.tensorrt.demand_current = self._demand_current
        self.pinned: list[np.ndarray[Any, Any]] = []
        self.launches = 0
        self.graphs: dict[int, Any] = {}
        self.events: dict[int, Event | None] = {}
        """By handle, in the order of their making; None once destroyed."""

    def build(
        self,
        graph: Path,
        engine: Path,
        sizes: Sequence[tuple[int, int]] = (),
        *,
        checkpoint: str | None = None,
        precision: str = "fp32",
        capturable: bool = True,
    ) -> EngineFile:
        """Compile `graph` with the fake; a profile from each pair (least side, most side). `capturable`: as unblur asks
        TensorRT for RTX to build.
        """
        trt, model = self.tensorrt.module, onnx.load(graph)
        contract = next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY)
        builder = trt.Builder(trt.Logger())
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        assert trt.OnnxParser(network, trt.Logger()).parse(graph.read_bytes())
        config = builder.create_builder_config()
        if self.tensorrt.is_rtx and capturable:
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        first = json.loads(contract)["layout"] == "nchw"
        for least, most in sizes:
            profile = builder.create_optimization_profile()
            shapes = [(1, 3, side, side) if first else (1, side, side, 3) for side in (least, most, most)]
            profile.set_shape(network.get_input(0).name, *shapes)
            config.add_optimization_profile(profile)
        engine.write_bytes(builder.build_serialized_network(network, config))
        manifest = {
            "product": self.product.name,
            "version": self.product.version,
            "precision": precision,
            "pixel_contract": json.loads(contract),
            "engine_sha256": file_digest(engine),
            "checkpoint_sha256": checkpoint,
            "targets": {"sm89": {}},
        }
        companions(engine)[1].write_text(json.dumps(manifest))
        return read_engine(engine)

    def open(self, file: EngineFile, **options: Any) -> TensorRtRunner:
        """A runner on this machine."""
        with self.installed():
            return TensorRtRunner("tensorrt", file, **options)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Everything of this machine in the place of the real one's."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda_driver, "load_libcuda", self._libcuda)
            patch.setattr(runner, "open_product", lambda _: self.product)
            others = (Device("Another GPU", "sm75", 1),) * self.number
            device = Device(self.gpu.name, self.target, self.gpu.memory_bytes)
            driver = Driver(13000, (*others, device), self.gpu.driver)
            patch.setattr(product, "probe_driver", lambda _=None: driver)
            patch.setitem(sys.modules, "torch", self._torch())
            if self.memory == "pycuda":
                patch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
                patch.setitem(sys.modules, "pycuda.driver", self._pycuda())
            yield

    def _start(self, library: Callable[[], None]) -> None:
        library()
        self.started = True

    def _pin(self, nbytes: int) -> np.ndarray[Any, Any]:
        self.pinned.append(np.full(nbytes, 0x3C, np.uint8))
        return self.pinned[-1]

    def _demand_current(self) -> None:
        assert self.depth, "a call of TensorRT on a stream, and no context is current"

    def _mine(self, gpu: int, answer: Any) -> Any:
        assert gpu == self.number, "another GPU is asked"
        return answer

    def _torch(self) -> Any:
        """The names of PyTorch that cuda_memory.py uses; test_tensorrt_names.py holds them to the real ones."""

        def empty(nbytes: int, *, dtype: Any, device: str = "cpu", pin_memory: bool = False) -> Any:
            if pin_memory:
                array = self._pin(nbytes)
                return SimpleNamespace(numpy=lambda: array)
            assert device == f"cuda:{self.number}"
            block = _Allocation(self.gpu, nbytes)
            address = block.data_ptr()

            def late() -> None:
                if self.gpu.lives(address):
                    self.gpu.bytes_at(address, nbytes)[...] = 0xEE

            # Out of the pool: a kernel of whoever had the block before is still queued on PyTorch's stream.
            self.gpu.submit(self.torch_stream, late)
            return block

        cuda = SimpleNamespace(
            init=lambda: self._start(self.torch_starts),
            OutOfMemoryError=OutOfMemoryError,
            memory_reserved=lambda gpu: self._mine(gpu, 0),
            memory_allocated=lambda gpu: self._mine(gpu, 0),
            mem_get_info=lambda gpu: self._mine(gpu, (self.gpu.free_bytes, self.gpu.memory_bytes)),
            current_stream=lambda gpu: self._mine(
                gpu, SimpleNamespace(synchronize=lambda: self.gpu.synchronize(self.torch_stream))
            ),
        )
        version = SimpleNamespace(cuda="13.0" if self.memory == "torch" else None)
        return SimpleNamespace(
            __version__="2.13.0", version=version, cuda=cuda, uint8="uint8", empty=empty, Tensor=_Allocation
        )

    def _pycuda(self) -> Any:
        """pycuda.driver, with the names of wrap_cudadrv.cpp in pycuda 2026.1."""
        machine = self

        class Context:
            def push(self) -> None:
                machine.depth += 1

            @staticmethod
            def pop() -> None:
                machine.depth -= 1

        def current() -> None:
            assert machine.depth, "pycuda: no currently active context"

        module: Any = ModuleType("pycuda.driver")
        module.init = lambda: self._start(lambda: None)
        module.Device = lambda gpu: self._mine(gpu, SimpleNamespace(retain_primary_context=Context))
        module.Context = Context
        module.MemoryError = OutOfMemoryError
        module.mem_alloc = lambda nbytes: (current(), _Allocation(self.gpu, nbytes))[1]
        module.pagelocked_empty = lambda nbytes, dtype: (current(), self._pin(nbytes))[1]
        module.mem_get_info = lambda: (current(), (self.gpu.free_bytes, self.gpu.memory_bytes))[1]
        return module

    def _libcuda(self) -> Any:
        gpu, events, graphs = self.gpu, self.events, self.graphs

        def out(pointer: Any, value: int) -> int:
            pointer._obj.value = value
            return 0

        def new(table: dict[int, Any], value: Any) -> int:
            table[len(table) + 1] = value
            return len(table)

        def upload(address: int, host: int, nbytes: int, stream: int) -> int:
            self._demand_pinned(host, nbytes)

            def copy() -> None:
                gpu.bytes_at(address, nbytes)[...] = np.frombuffer(ctypes.string_at(host, nbytes), np.uint8)

            return gpu.submit(stream, copy, COPY_MS) or 0

        def download(host: int, address: int, nbytes: int, stream: int) -> int:
            self._demand_pinned(host, nbytes)

            def copy() -> None:
                ctypes.memmove(host, gpu.bytes_at(address, nbytes).tobytes(), nbytes)

            return gpu.submit(stream, copy, COPY_MS) or 0

        def launch(graph: int, stream: int) -> int:
            self.launches += 1
            for work, ms in graphs[graph]:
                gpu.submit(stream, work, ms)
            return 0

        def record(event: int, stream: int) -> int:
            known = events[event]
            if known is None:
                return INVALID_HANDLE
            events[event] = gpu.record(stream, known.timing)
            return 0

        def wait_for(event: int) -> int:
            known = events[event]
            if known is None or known.captured:
                return INVALID_HANDLE if known is None else CAPTURED_EVENT
            return gpu.synchronize(known) or 0

        def elapsed(pointer: Any, start: int, end: int) -> int:
            pair = [events[start], events[end]]
            if any(one is None or not one.timing or (one.done and one.at_ms is None) for one in pair):
                return INVALID_HANDLE
            if any(one.captured for one in pair if one):
                return CAPTURED_EVENT
            before, after = (one.at_ms for one in pair if one)
            if before is None or after is None:
                return NOT_READY
            pointer._obj.value = after - before
            return 0

        def push(_: Any) -> int:
            self.depth += 1
            return 0

        def pop(pointer: Any) -> int:
            self.depth -= 1
            return out(pointer, 1)

        def name(status: int, pointer: Any) -> int:
            pointer._obj.value = b"CUDA_ERROR_OF_THE_TEST"
            return 0

        functions: dict[str, Callable[..., int | None]] = {
            "cuInit": lambda _: 0,
            "cuDeviceGet": lambda pointer, gpu: out(pointer, 40 + self._mine(gpu, gpu)),
            "cuDevicePrimaryCtxRetain": lambda pointer, device: self._mine(device - 40, out(pointer, 1)),
            "cuDevicePrimaryCtxRelease_v2": lambda _: 0,
            "cuCtxPushCurrent_v2": push,
            "cuCtxPopCurrent_v2": pop,
            "cuGetErrorName": name,
            "cuPointerGetAttribute": lambda pointer, kind, address: out(
                pointer, gpu.device_of.get(address, self.number)
            ),
            "cuStreamCreate": lambda pointer, _: out(pointer, gpu.stream().handle),
            "cuStreamDestroy_v2": lambda handle: gpu.streams.pop(handle) and 0,
            "cuStreamSynchronize": lambda handle: gpu.synchronize(handle) if handle else None,
            "cuStreamWaitEvent": lambda stream, event, _: gpu.wait(stream, events[event]),
            "cuEventCreate": lambda pointer, flags: out(pointer, new(events, Event(timing=not flags & 2))),
            "cuEventDestroy_v2": lambda handle: events.update({handle: None}),
            "cuEventRecord": record,
            "cuEventSynchronize": wait_for,
            "cuEventElapsedTime": elapsed,
            "cuMemcpyHtoDAsync_v2": upload,
            "cuMemcpyDtoHAsync_v2": download,
            "cuStreamBeginCapture_v2": lambda stream, _: gpu.begin_capture(stream),
            "cuStreamEndCapture": lambda stream, pointer: out(pointer, new(graphs, gpu.end_capture(stream))),
            "cuGraphInstantiateWithFlags": lambda pointer, graph, _: out(pointer, new(graphs, graphs[graph])),
            "cuGraphLaunch": launch,
            "cuGraphDestroy": lambda graph: graphs.update({graph: None}),
            "cuGraphExecDestroy": lambda graph: graphs.update({graph: None}),
        }
        return SimpleNamespace(**{name: self._checked(name, function) for name, function in functions.items()})

    def _checked(self, name: str, function: Callable[..., int | None]) -> Any:
        needs_none = name.startswith(("cuInit", "cuDevice", "cuCtx", "cuGetErrorName"))

        def call(*arguments: Any) -> int:
            for argument, kind in zip(arguments, call.argtypes, strict=True):  # type: ignore[attr-defined]
                kind.from_param(argument)  # as ctypes would convert it
            if self.sticky and name != "cuGetErrorName":
                return self.sticky
            if name in self.fails:
                self.on_fail.get(name, lambda: None)()
                return self.fails[name]
            if self.depth == 0 and not needs_none:
                return INVALID_CONTEXT
            return function(*arguments) or 0

        return call

    def _demand_pinned(self, host: int, nbytes: int) -> None:
        inside = any(p.ctypes.data <= host and host + nbytes <= p.ctypes.data + p.nbytes for p in self.pinned)
        assert inside, "an asynchronous copy from or to memory that is not pinned"


class _Allocation:
    """Device memory that is given back when nobody holds it, as PyTorch's and pycuda's is."""

    is_cuda = True

    def __init__(self, gpu: FakeGpu, nbytes: int) -> None:
        self._gpu = gpu
        self._address = gpu.allocate(nbytes)

    def data_ptr(self) -> int:
        return self._address

    def __int__(self) -> int:
        return self._address

    def __del__(self) -> None:
        if "_address" in self.__dict__:
            self._gpu.release(self._address)
