"""ONNX Runtime's bound buffers: on a CPU the result's memory is used again, on a GPU all is pinned, on one stream."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fake_cuda import ENGINE_MS
from fake_machine import FakeMachine
from fake_onnxruntime import Binding, fake_onnxruntime
from tiny_graph import BYTES, FLOAT, write_graph

from unblur.core.errors import CrashError, InputError, MissingRuntimeError, UnblurError
from unblur.engines.onnxruntime_runner import PROVIDERS, OnnxRuntimeCudaRunner, OnnxRuntimeRunner
from unblur.engines.per_size import SIZES_MAX, PerSizeRunner
from unblur.engines.runner import Runner
from unblur.graphs.file import read_graph
from unblur.images.contract import PixelContract

SIZE = (12, 18)


def frame(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def on_cpu(graph: Path) -> OnnxRuntimeRunner:
    return OnnxRuntimeRunner("onnxruntime", read_graph(graph), 1)


@pytest.mark.parametrize("contract", [FLOAT, BYTES])
@pytest.mark.parametrize(("memory", "number"), [("torch", 0), ("pycuda", 0), ("torch", 1), ("pycuda", 1)])
def test_frames_one_after_the_other_on_a_gpu(tmp_path: Path, contract: PixelContract, memory: str, number: int) -> None:
    """Whatever the GPU does late shows in the next frame; copies not from pinned memory are caught by the machine."""
    graph = write_graph(tmp_path / "g.onnx", SIZE, contract)
    with on_cpu(graph) as reference:
        expected = [reference.run(contract.encode(frame(seed))) for seed in range(4)]
    for seed in (None, 0, 1, 2):
        machine = FakeMachine("tensorrt-10", memory, seed, number=number)
        with machine.installed(), fake_onnxruntime(machine) as sessions:
            with OnnxRuntimeCudaRunner(
                "onnxruntime-cuda", read_graph(graph), 1, PROVIDERS["CUDA"], gpu=number
            ) as runner:
                assert runner.description["device"] == "Fake GPU (CUDAExecutionProvider)"
                results = [runner.run(contract.encode(frame(k))) for k in range(4)]
                assert (sessions[0].bindings, len(machine.pinned)) == (1, 2), "bound once, not for each frame"
                assert sessions[0].given["device_id"] == str(number)
                assert not sessions[0].waits, "one wait a frame: for its copy back"
                for _ in range(2):
                    with runner.resident(results[0].shape) as work, runner.events() as events:
                        events.around(work)
                        runner.wait()
                        assert events.elapsed_ms() == ENGINE_MS
                del work  # it holds the bound memory
            assert not any(machine.events.values())
            assert machine.gpu.free_bytes == machine.gpu.memory_bytes
            assert machine.gpu.streams.keys() == {machine.torch_stream}
        assert all(np.array_equal(*pair) for pair in zip(results, expected, strict=True))


def test_the_memory_of_a_result_is_used_again_and_never_given_away(tmp_path: Path) -> None:
    with on_cpu(write_graph(tmp_path / "g.onnx", None)) as runner:
        first = runner.run(FLOAT.encode(frame(0)))
        kept, buffers = first.copy(), runner._buffers
        runner.run(FLOAT.encode(frame(1)))
        assert runner._buffers is buffers
        assert np.array_equal(first, kept)
        runner.run(FLOAT.encode(frame(1, (8, 8))))
        assert runner._buffers is not buffers, "another size has memory of its own"


def test_a_frame_that_failed_harms_no_other(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "g.onnx", SIZE)
    with on_cpu(graph) as reference:
        expected = reference.run(FLOAT.encode(frame(1)))
    machine = FakeMachine("tensorrt-10", seed=1)
    with machine.installed(), fake_onnxruntime(machine):
        with OnnxRuntimeCudaRunner("onnxruntime-cuda", read_graph(graph), 1, PROVIDERS["CUDA"]) as runner:
            runner.run(FLOAT.encode(frame(0)))
            machine.fails["cuMemcpyDtoHAsync_v2"] = 700
            with pytest.raises(UnblurError, match="cuMemcpyDtoHAsync"):
                runner.run(FLOAT.encode(frame(2)))
            machine.fails.clear()
            assert np.array_equal(runner.run(FLOAT.encode(frame(1))), expected)
            machine.sticky = 700
            with pytest.raises(UnblurError):
                runner.close()
        machine.sticky = 0


def test_a_gpu_that_fails_is_no_graph_that_is_refused(tmp_path: Path) -> None:
    """A refused graph is an error of each frame; a GPU that fails costs the engine its row."""

    def fail(*_: object) -> None:
        what = (
            "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=machine ; file=/cuda_call.cc"
        )
        raise RuntimeError(f"Non-zero status code returned while running Conv node.\n{what}")

    machine = FakeMachine("tensorrt-10")
    graph = read_graph(write_graph(tmp_path / "g.onnx", SIZE))
    with (
        machine.installed(),
        fake_onnxruntime(machine) as sessions,
        OnnxRuntimeCudaRunner("onnxruntime-cuda", graph, 1, PROVIDERS["CUDA"]) as runner,
    ):
        sessions[0].run_with_iobinding = fail  # type: ignore[method-assign]
        told = r"fails in ONNX Runtime: CUDA failure 700: an illegal memory access was encountered\.$"
        with pytest.raises(CrashError, match=told):
            runner.run(FLOAT.encode(frame(0)))


def test_what_does_not_open_gives_everything_back(tmp_path: Path) -> None:
    graph = read_graph(write_graph(tmp_path / "g.onnx", None))
    machine = FakeMachine("tensorrt-10")
    with machine.installed(), fake_onnxruntime(machine, ("CPUExecutionProvider",)):
        with pytest.raises(InputError, match=r"1 nodes of .* would not run with CUDAExecutionProvider: Shape_1"):
            OnnxRuntimeCudaRunner("onnxruntime-cuda", graph, 1, PROVIDERS["CUDA"])
        assert machine.gpu.streams.keys() == {machine.torch_stream}
        with pytest.raises(MissingRuntimeError, match="There is no GPU cuda:1; the driver finds cuda:0 Fake GPU"):
            OnnxRuntimeCudaRunner("onnxruntime-cuda", graph, 1, PROVIDERS["CUDA"], gpu=1)
        with pytest.raises(MissingRuntimeError, match="no TensorrtExecutionProvider"):
            OnnxRuntimeCudaRunner("onnxruntime-tensorrt", graph, 1, PROVIDERS["TENSORRT"])


def test_a_frame_that_the_gpu_does_not_hold(tmp_path: Path) -> None:
    graph = read_graph(write_graph(tmp_path / "g.onnx", SIZE))
    machine = FakeMachine("tensorrt-10", memory_bytes=4000)
    with (
        machine.installed(),
        fake_onnxruntime(machine),
        OnnxRuntimeCudaRunner("onnxruntime-cuda", graph, 1, PROVIDERS["CUDA"]) as runner,
        pytest.raises(InputError, match="GPU's memory does not hold two frames"),
    ):
        runner.run(FLOAT.encode(frame(0)))


def test_the_fake_has_the_real_names() -> None:
    for name in ("bind_input", "bind_output"):
        real = inspect.signature(getattr(onnxruntime.IOBinding, name)).parameters
        assert list(real) == list(inspect.signature(getattr(Binding, name)).parameters)


def test_each_size_gets_an_engine_of_its_own(tmp_path: Path) -> None:
    opened: list[tuple[int, int]] = []
    closed: list[tuple[int, int]] = []

    def open_size(size: tuple[int, int]) -> Runner:
        opened.append(size)
        runner = on_cpu(write_graph(tmp_path / f"{size[0]}x{size[1]}.onnx", size))
        release = runner._release
        runner._release = lambda: (closed.append(size), release())[1]  # type: ignore[method-assign]
        return runner

    sizes = [(8, 8 + 2 * k) for k in range(SIZES_MAX + 1)]
    with on_cpu(write_graph(tmp_path / "every.onnx", None)) as reference:
        with PerSizeRunner(open_size, FLOAT, sizes[0]) as runner:
            assert opened == sizes[:1], "what is missing shows before the first frame"
            assert runner.signature == reference.signature
            assert runner.description["graph"] == "fixed, one for each size"
            for size in [sizes[0], *sizes[1:], sizes[-1], sizes[1]]:
                tensor = FLOAT.encode(frame(0, size))
                assert np.abs(runner.run(tensor) - reference.run(tensor)).max() < 1e-6  # observed 2e-7
            assert (opened, closed) == (sizes, sizes[:1]), "the one unused for longest made room"
        assert set(closed) == set(sizes)
        with pytest.raises(RuntimeError, match="closed"):
            runner.run(FLOAT.encode(frame(0)))
