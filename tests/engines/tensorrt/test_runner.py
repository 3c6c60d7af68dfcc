"""The TensorRT runner on a fake machine: order of work, addresses, graphs, refusals. Results: test_conformance.py."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_cuda import ENGINE_MS, GpuFaultError, host_bytes
from fake_machine import FakeMachine
from fake_tensorrt import VERSIONS
from tiny_graph import BYTES, FLOAT, write_graph

from unblur.core.errors import CrashError, InputError, MissingRuntimeError, UnblurError
from unblur.engines.onnxruntime_runner import OnnxRuntimeRunner
from unblur.engines.tensorrt import cuda_driver, cuda_memory
from unblur.engines.tensorrt import product as tensorrt_product
from unblur.engines.tensorrt import runner as tensorrt_runner
from unblur.engines.tensorrt.cuda_driver import Event, Stream
from unblur.engines.tensorrt.cuda_memory import DeviceBlock
from unblur.engines.tensorrt.execution import Execution
from unblur.engines.tensorrt.file import read_engine
from unblur.engines.tensorrt.manifest import companions
from unblur.engines.tensorrt.runner import SIZES_MAX, TensorRtRunner
from unblur.graphs.file import read_graph

EACH = pytest.mark.parametrize("product", VERSIONS)
SEEDS = range(12)


def frames(*sizes: tuple[int, int], contract: Any = BYTES) -> list[Any]:
    rng = np.random.default_rng(5)
    return [contract.encode(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def opened(
    folder: Path, machine: FakeMachine, size: tuple[int, int] | None = None, contract: Any = BYTES, **options: Any
) -> TensorRtRunner:
    graph = write_graph(folder / "g.onnx", size, contract)
    return machine.open(machine.build(graph, folder / "e.engine", [] if size else [(8, 24)]), **options)


def results(folder: Path, seed: int | None, product: str = "tensorrt-10") -> list[Any]:
    """Frames of two sizes through run_many, with another through run in between."""
    given = frames(*[(12, 18)] * 5, *[(16, 8)] * 3, *[(12, 18)] * 2)
    found = []
    with opened(folder, FakeMachine(product, seed=seed)) as runner:
        for k, result in enumerate(runner.run_many(given)):
            found.append(result)
            if k == 2:
                found.append(runner.run(given[0]))
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """One frame at a time, which the conformance suite holds to the reference."""
    given = frames(*[(12, 18)] * 5, *[(16, 8)] * 3, *[(12, 18)] * 2)
    with opened(tmp_path_factory.mktemp("one"), FakeMachine("tensorrt-11")) as runner:
        one = [runner.run(tensor) for tensor in given]
    return [*one[:3], one[0], *one[3:]]


def same(found: list[Any], expected: list[Any]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("seed", [None, *SEEDS])
def test_frames_overtake_each_other_and_come_back_right(seed: int | None, tmp_path: Path, expected: list[Any]) -> None:
    assert same(results(tmp_path, seed), expected)


def _nothing(*_: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("kind", "name"), [(Event, "synchronize"), (Stream, "wait"), (Stream, "upload"), (Stream, "record")]
)
def test_a_missing_step_is_seen(
    kind: type, name: str, tmp_path: Path, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above is worth something: without this step some seed gives wrong bytes."""
    monkeypatch.setattr(kind, name, _nothing)
    assert not all(same(results(tmp_path, seed), expected) for seed in (None, *SEEDS))


def test_a_wrong_address_is_seen(tmp_path: Path, expected: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    point = Execution.point
    monkeypatch.setattr(Execution, "point", lambda self, source, target: point(self, target, source))
    assert not same(results(tmp_path, None), expected)
    monkeypatch.setattr(Execution, "point", lambda self, source, target: point(self, 0x1000000, target))
    with pytest.raises(GpuFaultError, match="illegal access"):
        results(tmp_path, None)


def test_a_slot_used_while_its_frame_is_on_its_way_is_seen(
    tmp_path: Path, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = TensorRtRunner._free_slot
    monkeypatch.setattr(TensorRtRunner, "_free_slot", lambda self, size: self._slots.get(size, [free(self, size)])[0])
    assert not all(same(results(tmp_path, seed), expected) for seed in (None, *SEEDS))


@EACH
def test_graphs_are_captured_once_for_each_slot(product: str, tmp_path: Path) -> None:
    machine = FakeMachine(product)
    with opened(tmp_path, machine, (12, 18)) as runner:
        (frame,) = frames((12, 18))
        assert runner.description["mode"] == "CUDA graph requested"
        for _ in range(5):
            runner.run(frame)
        assert runner.description["mode"] == "CUDA graph"
        contexts = machine.tensorrt.count("ICudaEngine.create_execution_context")
        executed = machine.tensorrt.count("IExecutionContext.execute_async_v3")
        # RTX captures by itself; the other runs as it is, then captures, then launches four times.
        assert (contexts, executed, machine.launches) == ((1, 5, 0) if product == "tensorrt-rtx" else (1, 2, 4))
        list(runner.run_many([frame] * 6))
        assert machine.tensorrt.count("ICudaEngine.create_execution_context") == 2
        given = [given[1] for name, given in machine.tensorrt.calls if name.endswith("set_tensor_address")]
        assert len(given) == len(set(given)) == 4, "an input and an output for each slot, and never again"
    with opened(tmp_path, machine, (12, 18), cuda_graph=False) as runner:
        before = machine.launches
        for _ in range(3):
            runner.run(frame)
        assert machine.launches == before
        assert runner.description["mode"] == "no CUDA graph"


def test_the_product_for_rtx_is_configured(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-rtx")
    trt = machine.tensorrt.module
    with opened(tmp_path, machine, (12, 18)) as runner:
        config = runner._plan._runtime_config
        assert config.cuda_graph_strategy == trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        assert config.dynamic_shapes_kernel_specialization_strategy == strategy
        own = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        assert config.get_execution_context_allocation_strategy() == own
    with opened(tmp_path, machine, (12, 18), cuda_graph=False) as runner:
        assert runner._plan._runtime_config.cuda_graph_strategy == trt.CudaGraphStrategy.DISABLED


def test_kernels_made_for_the_gpu_are_kept_beside_the_engine(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-rtx")
    file = machine.build(write_graph(tmp_path / "g.onnx", (12, 18), BYTES), tmp_path / "e.engine")
    cache = tmp_path / "e.engine.fake-gpu-sm89-580-65-06.runtime-cache"
    with machine.open(file) as runner:
        assert runner.description["kernels"] == "made anew"
    blob = cache.read_bytes()
    cache.write_bytes(blob + b"more kernels")
    with machine.open(file) as runner:
        assert runner.description["kernels"] == "kept from before"
    assert cache.read_bytes() == blob + b"more kernels", "loaded, and written back only when it changed"
    for spoilt in (b"damaged", blob.replace(b"Fake GPU", b"Older GPU"), blob.replace(b"580", b"999")):
        cache.write_bytes(spoilt)
        with pytest.warns(
            UserWarning, match="made anew: .* is damaged, or of another GPU or version; this start takes"
        ):
            runner = machine.open(file)
        assert runner.description["kernels"].startswith("made anew: e.engine.fake-gpu-sm89-580-65-06.runtime-cache is")
        runner.close()
        assert cache.read_bytes() == blob
    machine.tensorrt.returns["IRuntimeCache.serialize"] = b"new"
    runner = machine.open(file)
    cache.unlink()
    cache.mkdir()
    with pytest.warns(UserWarning, match="not kept"):
        runner.close()
    machine.tensorrt.returns["IRuntimeCache.serialize"] = None
    runner = machine.open(file)
    with pytest.warns(UserWarning, match="does not give the kernels"):
        runner.close()


def test_a_process_that_is_killed_has_kept_its_kernels(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-rtx")
    file = machine.build(write_graph(tmp_path / "g.onnx", (12, 18), BYTES), tmp_path / "e.engine")
    cache = tmp_path / "e.engine.fake-gpu-sm89-580-65-06.runtime-cache"
    with machine.open(file) as runner:
        assert not cache.exists()
        runner.run(frames((12, 18))[0])
        assert cache.exists(), "after the first frame, which made them"
        cache.unlink()
        runner.run(frames((12, 18))[0])
        assert not cache.exists(), "they are the same: nothing is asked for and written with each frame"


def test_each_gpu_and_driver_keeps_kernels_of_its_own(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-rtx")
    file = machine.build(write_graph(tmp_path / "g.onnx", (12, 18), BYTES), tmp_path / "e.engine")
    machines = [("Fake GPU", "580.65.06"), ("Other GPU", "580.65.06"), ("Other GPU", "590.1"), ("Other GPU", "")]
    for name, driver in [*machines, machines[0]]:
        machine.gpu.name, machine.gpu.driver = name, driver
        with machine.open(file) as runner:
            found = runner.description["kernels"]
    assert found == "kept from before"
    names = {path.name.split(".")[2] for path in tmp_path.glob("*.runtime-cache")}
    told = {"fake-gpu-sm89-580-65-06", "other-gpu-sm89-580-65-06", "other-gpu-sm89-590-1", "other-gpu-sm89-cuda-13-0"}
    assert names == told


def test_a_cuda_graph_is_not_claimed_of_an_engine_that_cannot_be_captured(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-rtx")
    graph = write_graph(tmp_path / "g.onnx", (12, 18), BYTES)
    with machine.open(machine.build(graph, tmp_path / "e.engine", capturable=False)) as runner:
        for _ in range(3):
            runner.run(frames((12, 18))[0])
        assert runner.description["mode"] == "CUDA graph requested"


@EACH
@pytest.mark.parametrize("memory", ["torch", "pycuda"])
def test_everything_is_given_back(product: str, memory: str, tmp_path: Path) -> None:
    machine = FakeMachine(product, memory)
    streams = dict(machine.gpu.streams)
    runner = opened(tmp_path, machine)
    runner.run(frames((12, 18))[0])
    assert runner.description["memory"] == memory
    assert machine.gpu.free_bytes < machine.gpu.memory_bytes
    many = runner.run_many(frames((12, 18), (12, 18)))
    next(many)
    runner.close()
    many.close()
    assert (machine.gpu.free_bytes, machine.gpu.streams, machine.depth) == (machine.gpu.memory_bytes, streams, 0)
    assert machine.tensorrt.misplaced == []
    assert set(machine.graphs.values()) <= {None}
    assert not any(machine.events.values())
    with pytest.raises(RuntimeError, match="closed"):
        list(runner.run_many(frames((12, 18))))


def test_only_so_many_sizes_keep_their_memory(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-11")
    with opened(tmp_path, machine) as runner:
        sizes = [(8 + 2 * k, 8) for k in range(SIZES_MAX)]
        for frame in frames(*sizes, sizes[0]):
            runner.run(frame)
        runner.run(frames((24, 24))[0])
        assert list(runner._slots) == [*sizes[2:], sizes[0], (24, 24)], "the second was unused for longest"
        used = machine.gpu.memory_bytes - machine.gpu.free_bytes
        runner.run(frames((8, 8))[0])
        assert machine.gpu.memory_bytes - machine.gpu.free_bytes == used


def on_device(machine: FakeMachine, array: Any) -> Any:
    """An array on the fake GPU as numba, cupy and PyTorch show theirs."""
    address = machine.gpu.allocate(array.nbytes)
    machine.gpu.bytes_at(address, array.nbytes)[...] = host_bytes(array)
    facts = {"data": (address, False), "shape": array.shape, "typestr": array.dtype.str, "version": 3, "stream": 1}
    return SimpleNamespace(__cuda_array_interface__=facts, address=address)


def fetched(machine: FakeMachine, like: Any, array: Any) -> Any:
    return machine.gpu.bytes_at(array.address, like.nbytes).view(like.dtype).reshape(like.shape)


@EACH
@pytest.mark.parametrize("contract", [FLOAT, BYTES], ids=["float", "bytes"])
def test_arrays_on_the_device_are_used_where_they_are(product: str, contract: Any, tmp_path: Path) -> None:
    machine = FakeMachine(product, seed=1)
    with opened(tmp_path, machine, contract=contract) as runner:
        first, second = frames((12, 18), (12, 18), contract=contract)
        wanted = [runner.run(first), runner.run(second)]
        a, b, out = on_device(machine, first), on_device(machine, second), on_device(machine, 0 * first)
        for source, want in [(a, wanted[0])] * 3 + [(b, wanted[1])] * 2:
            machine.gpu.bytes_at(out.address, first.nbytes)[...] = 0
            runner.run_on_device(source, out)
            assert np.array_equal(fetched(machine, first, out), want)
        assert ("IExecutionContext.set_tensor_address", (runner._plan.source, b.address)) in machine.tensorrt.calls


@EACH
def test_resident_work_is_that_of_a_frame_and_no_copy(product: str, tmp_path: Path) -> None:
    machine = FakeMachine(product)
    with opened(tmp_path, machine) as runner:
        (frame,) = frames((12, 18))
        restored = runner.run(frame)
        (slot,) = runner._slots[12, 18]
        slot.output[...] = 0
        machine.gpu.bytes_at(slot.target.address, slot.target.nbytes)[...] = 0
        with runner.resident(frame.shape) as work:
            work()
            runner.wait()
            on_device = machine.gpu.bytes_at(slot.target.address, slot.target.nbytes)
            assert np.array_equal(on_device.view(restored.dtype).reshape(restored.shape), restored)
            assert not slot.output.any(), "nothing was brought back"
        assert np.array_equal(runner.run(frame), restored)


@EACH
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_events_tell_the_gpus_own_time_of_the_engine_alone(product: str, seed: int | None, tmp_path: Path) -> None:
    """Plain, captured and replayed alike; copies take time on this GPU too, and are not in it."""
    machine = FakeMachine(product, seed=seed)
    with opened(tmp_path, machine) as runner:
        (frame,) = frames((12, 18))
        for _ in range(4):
            with runner.resident(frame.shape) as work, runner.events() as events:
                events.around(work)
                if seed is None:  # nothing is done before somebody waits
                    with pytest.raises(UnblurError, match=r"cuEventElapsedTime gives .* \(600\)"):
                        events.elapsed_ms()
                runner.wait()
                assert events.elapsed_ms() == ENGINE_MS
            runner.run(frame)
        assert len([event for event in machine.events.values() if event]) == 3, "those of the frame's way"
    assert not any(machine.events.values())


def test_an_event_of_a_capture_is_no_time(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    with opened(tmp_path, machine) as runner, machine.installed(), runner._memory.active():
        events = cuda_driver.StreamEvents(runner._memory.driver, runner._compute)
        graph = runner._compute.capture(lambda: events.around(lambda: None))
        graph.launch(runner._compute)
        runner._compute.synchronize()
        with pytest.raises(UnblurError, match=r"\(907\)"):
            events.elapsed_ms()
        graph.close()
        events.close()
        with pytest.raises(UnblurError, match=r"\(400\)"):
            events.elapsed_ms()


def test_resident_work_is_waited_for_where_its_user_fails(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    with opened(tmp_path, machine) as runner:
        (frame,) = frames((12, 18))

        def failing() -> None:
            with runner.resident(frame.shape) as work, runner.events() as events:
                events.around(work)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            failing()
        assert not any(stream.work for stream in machine.gpu.streams.values()), "the next frame has its memory"
        assert len([event for event in machine.events.values() if event]) == 3


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    with opened(tmp_path, machine) as runner:
        good, wide = (on_device(machine, array) for array in frames((12, 18), (12, 20)))
        shifted = SimpleNamespace(
            __cuda_array_interface__=good.__cuda_array_interface__ | {"data": (good.address + 4, 0)}
        )
        spread = SimpleNamespace(__cuda_array_interface__=good.__cuda_array_interface__ | {"strides": (1, 2, 3, 4)})
        with pytest.raises(InputError, match="aligned"):
            runner.run_on_device(shifted, good)
        with pytest.raises(InputError, match="strides"):
            runner.run_on_device(spread, good)
        with pytest.raises(InputError, match="output is"):
            runner.run_on_device(good, wide)
        with pytest.raises(InputError, match="ndarray is no array on the GPU"):
            runner.run_on_device(frames((12, 18))[0], good)
        floats = SimpleNamespace(__cuda_array_interface__=good.__cuda_array_interface__ | {"typestr": "<f4"})
        with pytest.raises(InputError, match="The engine takes one"):
            runner.run_on_device(floats, good)


@EACH
@pytest.mark.parametrize(
    "call", ["set_input_shape", "set_tensor_address", "execute_async_v3", "set_optimization_profile_async"]
)
def test_a_false_is_never_overlooked(product: str, call: str, tmp_path: Path) -> None:
    machine = FakeMachine(product)
    graph = write_graph(tmp_path / "g.onnx", None, BYTES)
    with machine.open(machine.build(graph, tmp_path / "e.engine", [(8, 16), (18, 24)])) as runner:
        machine.tensorrt.returns[f"IExecutionContext.{call}"] = False
        with pytest.raises(CrashError, match=rf"TensorRT refuses {call}\("):
            runner.run(frames((12, 12))[0])
        del machine.tensorrt.returns[f"IExecutionContext.{call}"]
        runner.run(frames((12, 12))[0])


@pytest.mark.parametrize(
    ("call", "result", "match"),
    [
        ("ICudaEngine.create_execution_context", None, "no execution context"),
        ("IExecutionContext.infer_shapes", ["bytes"], "no shape for"),
        ("IExecutionContext.infer_shapes", RuntimeError("cannot"), r"infer_shapes\(\) for \(1, 12, 18, 3\): cannot"),
        ("IExecutionContext.get_tensor_shape", (1, 6, 9, 3), r"\(1, 6, 9, 3\) of \(1, 12, 18, 3\)"),
        ("IRuntimeConfig.set_runtime_cache", False, "set_runtime_cache"),
        ("Runtime.deserialize_cuda_engine", None, "cannot open"),
    ],
)
def test_nothing_else_that_fails_is_overlooked(call: str, result: Any, match: str, tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-rtx")
    machine.tensorrt.returns[call] = result
    with pytest.raises(UnblurError, match=match), opened(tmp_path, machine, (12, 18)) as runner:
        runner.run(frames((12, 18))[0])
    gc.collect()
    assert (machine.depth, machine.tensorrt.misplaced) == (0, [])


@pytest.mark.parametrize("function", ["cuGraphLaunch", "cuMemcpyHtoDAsync_v2", "cuEventSynchronize", "cuEventRecord"])
def test_the_driver_is_looked_at_too(function: str, tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    runner = opened(tmp_path, machine, (12, 18))
    runner.run(frames((12, 18))[0])
    machine.fails[function] = 700
    with pytest.raises(CrashError, match=rf"{function} gives CUDA_ERROR_OF_THE_TEST \(700\)"):
        runner.run(frames((12, 18))[0])


def test_a_failed_capture_leaves_the_stream_usable(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    with opened(tmp_path, machine, (12, 18)) as runner:
        (frame,) = frames((12, 18))
        wanted = runner.run(frame)
        machine.tensorrt.returns["IExecutionContext.execute_async_v3"] = False
        with pytest.raises(UnblurError, match="execute_async_v3"):
            runner.run(frame)
        machine.tensorrt.returns.clear()
        assert np.array_equal(runner.run(frame), wanted)
    assert set(machine.graphs.values()) <= {None}, "what was captured before the failure is given back"


@pytest.mark.parametrize("call", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_where_a_capture_is_refused_frames_go_on_without(call: str, tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    with opened(tmp_path, machine, (12, 18)) as runner:
        (frame,) = frames((12, 18))
        wanted = runner.run(frame)
        machine.fails[call] = 900
        if call == "cuStreamEndCapture":  # a driver that refuses the graph has ended the capture
            machine.on_fail[call] = lambda: machine.gpu.end_capture(runner._compute.handle)
        for _ in range(3):
            assert np.array_equal(runner.run(frame), wanted)
        assert machine.launches == 0
        assert runner.description["mode"].startswith(f"no CUDA graph: The GPU fails: {call}")


@EACH
@pytest.mark.parametrize("memory", ["torch", "pycuda"])
def test_after_an_error_that_stays_the_memory_is_given_back_and_the_first_error_told(
    product: str, memory: str, tmp_path: Path
) -> None:
    machine = FakeMachine(product, memory)
    runner = opened(tmp_path, machine)
    runner.run(frames((12, 18))[0])
    machine.sticky = 700
    with pytest.raises(UnblurError, match=r"\(700\)"):
        runner.run(frames((12, 18))[0])
    with pytest.raises(CrashError, match=r"gives CUDA_ERROR_OF_THE_TEST \(700\)\. .* restart it"):
        runner.close()
    gc.collect()  # tracebacks hold what failed
    assert machine.gpu.free_bytes == machine.gpu.memory_bytes
    runner.close()  # a second time is nothing


def test_a_frame_that_fails_half_way_leaves_no_copy_behind(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    with opened(tmp_path, machine, (12, 18)) as runner:
        (frame,) = frames((12, 18))
        wanted = runner.run(frame)
        machine.fails["cuGraphInstantiateWithFlags"] = 900
        machine.tensorrt.returns["IExecutionContext.execute_async_v3"] = False
        with pytest.raises(UnblurError, match="execute_async_v3"):
            runner.run(frame)
        assert not any(stream.work for stream in machine.gpu.streams.values()), "its upload reads pinned memory"
        assert [slot.busy for slots in runner._slots.values() for slot in slots] == [False]
        machine.tensorrt.returns.clear()
        assert np.array_equal(runner.run(frame), wanted)


def test_memory_out_of_pytorchs_pool_is_waited_for(
    tmp_path: Path, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`results` above runs on such memory; without the wait the kernel queued before spoils some frame."""
    memory = cuda_memory.TorchMemory
    monkeypatch.setattr(memory, "device_block", lambda self, n: DeviceBlock((t := self._torch.empty(
        n, dtype=self._torch.uint8, device="cuda:0")).data_ptr(), n, t))  # fmt: skip
    assert not all(same(results(tmp_path, seed), expected) for seed in SEEDS)


def test_an_output_that_somebody_still_reads_is_waited_for(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    with opened(tmp_path, machine) as runner:
        (frame,) = frames((12, 18))
        source, target = on_device(machine, frame), on_device(machine, frame)
        reader = machine.gpu.stream()
        target.__cuda_array_interface__["stream"] = reader.handle
        read: list[Any] = []
        machine.gpu.submit(reader.handle, lambda: read.append(fetched(machine, frame, target).copy()))
        runner.run_on_device(source, target)
        assert np.array_equal(read[0], frame), "the last result, before it is overwritten"
        assert not np.array_equal(fetched(machine, frame, target), frame)


def test_an_input_that_is_still_being_filled_is_waited_for(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    with opened(tmp_path, machine) as runner:
        before, after = frames((12, 18), (12, 18))
        wanted = runner.run(after)
        source, target = on_device(machine, before), on_device(machine, before)
        for named in (False, True):
            writer = machine.gpu.stream()
            source.__cuda_array_interface__["stream"] = None if named else writer.handle
            machine.gpu.submit(writer.handle, lambda: np.copyto(fetched(machine, after, source), after))
            runner.run_on_device(source, target, stream=writer.handle if named else None)
            assert np.array_equal(fetched(machine, after, target), wanted)
            np.copyto(fetched(machine, before, source), before)


def test_arrays_of_another_gpu_are_refused(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    with opened(tmp_path, machine) as runner:
        (frame,) = frames((12, 18))
        here, there = on_device(machine, frame), on_device(machine, frame)
        machine.gpu.device_of[there.address] = 1
        for pair in ((here, there), (there, here)):
            with pytest.raises(InputError, match="on cuda:1, the engine on cuda:0"):
                runner.run_on_device(*pair)


def test_a_gpu_that_the_product_does_not_know_is_a_missing_runtime(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-rtx")
    file = machine.build(write_graph(tmp_path / "g.onnx", (12, 18), BYTES), tmp_path / "e.engine")
    machine.target = "sm90"
    with pytest.raises(MissingRuntimeError, match=r"not support this GPU \(Fake GPU, sm90\); it knows sm75, .* sm121"):
        machine.open(file)
    machine.target = "sm130"  # newer than all: a portable engine runs
    machine.open(replace(file, manifest=file.manifest | {"targets": {"portable": {}}})).close()


@EACH
def test_too_little_memory_names_what_is_needed_and_what_would_fit(product: str, tmp_path: Path) -> None:
    machine = FakeMachine(product, memory_bytes=3 << 20)
    machine.tensorrt.scratch_bytes = lambda shape: shape[1] * shape[2] << 12  # 24x24: 2.25 MiB, 720x1280: 3.5 GiB
    with opened(tmp_path, machine) as runner:
        runner.run(frames((24, 24))[0])
    file = machine.build(write_graph(tmp_path / "g.onnx", (720, 1280), BYTES), tmp_path / "e.engine")
    with pytest.raises(InputError, match=r"needs 3600 MiB more .* 720x1280, and 3 MiB are free; about 20x36 would fit"):
        machine.open(file)
    gc.collect()
    assert (machine.depth, machine.tensorrt.misplaced) == (0, []), "the engine went while its context was there"


def test_sizes_outside_the_profiles_are_told_the_nearest(tmp_path: Path) -> None:
    with (
        opened(tmp_path, FakeMachine("tensorrt-11")) as runner,
        pytest.raises(InputError, match=r"no frame of 12x30 .* is 12x24"),
    ):
        runner.run(frames((12, 30))[0])


def test_files_that_are_no_engine_are_refused_in_a_sentence(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    engine = tmp_path / "e.engine"
    with pytest.raises(InputError, match="does not exist; build it"):
        read_engine(engine)
    machine.build(write_graph(tmp_path / "g.onnx", (12, 18), BYTES), engine)
    beside = companions(engine)[1]
    manifest = json.loads(beside.read_text())
    engine.write_bytes(engine.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"truncated or was replaced.*--rebuild"):
        read_engine(engine)
    for change, match in [({"product": "coreml"}, "coreml"), ({"pixel_contract": {}}, "Not a pixel contract")]:
        beside.write_text(json.dumps(manifest | change))
        with pytest.raises(InputError, match=match):
            read_engine(engine)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": "10.15.0"}, r"built by tensorrt 10\.15\.0, this is 10\.16.*--rebuild"),
        ({"targets": {"sm120": {}}}, "built for sm120, this is Fake GPU"),
        ({"gpu": {"name": "Another", "target": "sm89"}}, "built on Another"),
    ],
)
def test_engines_of_another_version_or_gpu_are_refused(change: Any, match: str, tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    file = machine.build(write_graph(tmp_path / "g.onnx", (12, 18), BYTES), tmp_path / "e.engine")
    machine.tensorrt.calls.clear()
    with pytest.raises(InputError, match=match):
        machine.open(replace(file, manifest=file.manifest | change))
    assert machine.tensorrt.calls == []


def test_what_the_gpu_says_of_an_rtx_engine_becomes_a_sentence(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-rtx")
    trt = machine.tensorrt.module
    flags, invalid = trt.EngineInvalidityDiagnostics, trt.EngineValidity.INVALID
    file = machine.build(write_graph(tmp_path / "g.onnx", (12, 18), BYTES), tmp_path / "e.engine")
    for flag, kind, match in [
        (flags.VERSION_MISMATCH, InputError, "another version.*--rebuild"),
        (flags.UNSUPPORTED_CC, InputError, "not built for this kind of GPU.*--rebuild"),
        (flags.MALFORMED_ENGINE, InputError, "truncated or no engine"),
        (flags.INSUFFICIENT_GPU_MEMORY, InputError, "more memory than this GPU has"),
        (flags.OLD_CUDA_DRIVER, MissingRuntimeError, "driver is too old"),
    ]:
        machine.tensorrt.returns["Runtime.get_engine_validity"] = (invalid, int(flag))
        with pytest.raises(kind, match=match):
            machine.open(file)
    machine.tensorrt.returns["Runtime.get_engine_validity"] = (trt.EngineValidity.SUBOPTIMAL, 0)
    with machine.open(file) as runner:
        assert "build it for this one" in runner.description["engine fits"]
    machine.tensorrt.returns.clear()
    with machine.open(file) as runner:
        assert "engine fits" not in runner.description


def test_the_engine_is_held_to_the_pixels_of_its_manifest(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    file = machine.build(write_graph(tmp_path / "g.onnx", (12, 18), BYTES), tmp_path / "e.engine")
    manifest = json.loads(companions(file.path)[1].read_text())
    manifest["pixel_contract"] = json.loads(FLOAT.to_json())
    companions(file.path)[1].write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="its manifest says float32"):
        machine.open(read_engine(file.path))


def test_the_driver_is_asked_before_any_tensorrt_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without one libnvinfer's Runtime would end the process; the fake raises AssertionError."""
    machine = FakeMachine("tensorrt-10")
    file = machine.build(write_graph(tmp_path / "g.onnx", (12, 18), BYTES), tmp_path / "e.engine")
    machine.tensorrt.gpu = None
    machine.tensorrt.calls.clear()

    def absent() -> Any:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(tensorrt_runner, "open_product", lambda _: machine.product)
    monkeypatch.setattr(tensorrt_product, "load_libcuda", absent)
    monkeypatch.setattr(cuda_driver, "load_libcuda", absent)
    with pytest.raises(MissingRuntimeError, match="No NVIDIA driver"):
        TensorRtRunner("tensorrt", file)
    assert machine.tensorrt.calls == []


def test_without_a_library_for_memory_both_are_named(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10", memory="neither")
    file = machine.build(write_graph(tmp_path / "g.onnx", (12, 18), BYTES), tmp_path / "e.engine")
    with pytest.raises(MissingRuntimeError, match=r"CUDA build of PyTorch.*\[pycuda\]"):
        machine.open(file)


def test_a_driver_that_is_too_old_for_pytorch_is_told_in_a_sentence(tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    file = machine.build(write_graph(tmp_path / "g.onnx", (12, 18), BYTES), tmp_path / "e.engine")

    def refuse() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12040).\nPlease update")

    machine.torch_starts = refuse
    with pytest.raises(MissingRuntimeError, match=r"CUDA 13\.0\) does not reach the GPU \(.*12040\)\.\); install"):
        machine.open(file)


@pytest.mark.parametrize("memory", ["torch", "pycuda"])
@pytest.mark.parametrize("product", ["tensorrt-11", "tensorrt-rtx"])
def test_the_second_gpu_is_used_throughout(product: str, memory: str, tmp_path: Path) -> None:
    """The machine's libraries refuse a call for another GPU than its own, which is cuda:1 here."""
    machine = FakeMachine(product, memory, number=1)
    graph = write_graph(tmp_path / "g.onnx", (12, 18), BYTES)
    file = machine.build(graph, tmp_path / "e.engine")
    with machine.open(file, gpu=1) as runner, OnnxRuntimeRunner("cpu", read_graph(graph), 1) as reference:
        assert runner.description["device"] == "Fake GPU"
        for frame in frames((12, 18), (12, 18)):
            assert np.array_equal(runner.run(frame), reference.run(frame))
        (frame,) = frames((12, 18))
        source, target = on_device(machine, frame), on_device(machine, frame)
        runner.run_on_device(source, target)
        machine.gpu.device_of[source.address] = 0
        with pytest.raises(InputError, match="on cuda:0, the engine on cuda:1"):
            runner.run_on_device(source, target)
    with pytest.raises(MissingRuntimeError, match="There is no GPU cuda:2; the driver finds cuda:0 Another"):
        machine.open(file, gpu=2)
