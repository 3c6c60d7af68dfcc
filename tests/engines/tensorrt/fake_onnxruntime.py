"""onnxruntime with a CUDA provider on a fake machine: bound buffers, work done late on the stream it was given.

machine = FakeMachine("tensorrt-10")
with machine.installed(), fake_onnxruntime(machine): open_engine("onnxruntime-cuda", ...)
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fake_cuda import ENGINE_MS
from fake_machine import FakeMachine

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Binding:
    """Where a session reads and writes: addresses of the device."""

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Any, buffer_ptr: int
    ) -> None:
        self.inputs[name] = (device_type, device_id, element_type, tuple(shape), buffer_ptr)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Any = None,
        buffer_ptr: Any = None,
    ) -> None:
        self.outputs[name] = (device_type, device_id, element_type, tuple(shape), buffer_ptr)


class Session:
    """Computes with the real ONNX Runtime, on what lies at the bound addresses when its turn on the stream comes."""

    def __init__(
        self, machine: FakeMachine, path: str, options: Any, providers: Any, strangers: tuple[str, ...]
    ) -> None:
        ((name, given),) = providers
        assert name == CUDA
        assert machine.depth, "no current context"
        self.machine, self.given, self.strangers = machine, given, strangers
        self.stream = int(given["user_compute_stream"])
        self.real = onnxruntime.InferenceSession(path, options, providers=[CPU])
        self.bindings = self.waits = 0

    def get_inputs(self) -> Any:
        return self.real.get_inputs()

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def disable_fallback(self) -> None:
        pass

    def get_provider_graph_assignment_info(self) -> list[Any]:
        node = SimpleNamespace(name="Shape_1", op_type="Shape")
        return [SimpleNamespace(ep_name=name, get_nodes=lambda: [node]) for name in (CUDA, *self.strangers)]

    def io_binding(self) -> Binding:
        self.bindings += 1
        return Binding()

    def run_with_iobinding(self, iobinding: Binding, run_options: Any = None) -> None:
        ((source, (kind, number, dtype, shape, address)),) = iobinding.inputs.items()
        ((target, (*where, to)),) = iobinding.outputs.items()
        assert where == [kind, number, dtype, shape] == ["cuda", self.machine.number, dtype, shape]
        nbytes = prod(shape) * np.dtype(dtype).itemsize

        def work() -> None:
            tensor = self.machine.gpu.bytes_at(address, nbytes).copy().view(dtype).reshape(shape)
            (result,) = self.real.run([target], {source: tensor})
            self.machine.gpu.bytes_at(to, nbytes)[...] = np.ascontiguousarray(result).view(np.uint8).reshape(-1)

        self.machine.gpu.submit(self.stream, work, ENGINE_MS)
        if not (run_options and run_options.get_run_config_entry("disable_synchronize_execution_providers") == "1"):
            self.waits += 1
            self.machine.gpu.synchronize(self.stream)


@contextmanager
def fake_onnxruntime(machine: FakeMachine, strangers: tuple[str, ...] = ()) -> Iterator[list[Session]]:
    """In the place of the module within; gives the sessions that are opened. `strangers`: providers of other nodes."""
    importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    sessions: list[Session] = []

    def new(path: str, options: Any, *, providers: Any, enable_fallback: int) -> Session:
        assert enable_fallback == 0
        sessions.append(Session(machine, path, options, providers, strangers))
        return sessions[-1]

    def preload_dlls() -> None:
        """Finds what lies beside it, or is in the process: on this machine PyTorch lies elsewhere."""
        assert machine.started, "the libraries of CUDA are in no place where ONNX Runtime looks"

    module = SimpleNamespace(
        __version__=onnxruntime.__version__,
        SessionOptions=onnxruntime.SessionOptions,
        ExecutionMode=onnxruntime.ExecutionMode,
        OrtValue=onnxruntime.OrtValue,
        RunOptions=onnxruntime.RunOptions,
        get_available_providers=lambda: [CUDA, CPU],
        preload_dlls=preload_dlls,
        InferenceSession=new,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", module)
        yield sessions
