"""The fake itself: it has the names of each release and no other, and its work is done late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_cuda import FakeGpu, GpuFaultError, OutOfMemoryError, host_bytes
from fake_tensorrt import VERSIONS, FakeTensorRT, snapshot
from tiny_graph import write_graph

EACH = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)


def built(fake: FakeTensorRT, graph: Path, *sizes: tuple[int, int]) -> bytes:
    """A plan through the module's own API; one profile up to each (height, width)."""
    trt = fake.module
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph.read_bytes())
    config = builder.create_builder_config()
    for height, width in sizes:
        profile = builder.create_optimization_profile()
        profile.set_shape("x", (1, 3, 8, 8), (1, 3, height, width), (1, 3, height, width))
        assert config.add_optimization_profile(profile) >= 0
    return bytes(builder.build_serialized_network(network, config))


@EACH
def test_names_are_those_of_the_release(version: str) -> None:
    trt = FakeTensorRT(version, FakeGpu()).module
    names = snapshot(version)
    assert {name for name in dir(trt) if not name.startswith("_")} == {
        *names["classes"], *names["enums"], *names["functions"],
    }  # fmt: skip
    for name, members in names["classes"].items():
        found = getattr(trt, name)
        for member in members:
            assert member in dir(found), (name, member)
        extra = {m for m in dir(found) if not m.startswith("_")} - set(members)
        for member in extra:
            assert isinstance(getattr(found, member), property), f"{name}.{member} would work"


def test_what_a_release_lacks_raises() -> None:
    trt = FakeTensorRT(VERSIONS["tensorrt-11"], FakeGpu()).module
    with pytest.raises(AttributeError):
        _ = trt.BuilderFlag.FP16
    with pytest.raises(AttributeError):
        _ = trt.ComputeCapability
    config = trt.Builder(trt.Logger()).create_builder_config()
    with pytest.raises(AttributeError):
        config.int8_calibrator = None
    with pytest.raises(AttributeError):
        config.num_compute_capabilities = 1
    with pytest.raises(AttributeError):
        _ = config.num_compute_capabilities
    with pytest.raises(NotImplementedError, match=r"IBuilderConfig\.reset"):
        config.reset()
    old = FakeTensorRT(VERSIONS["tensorrt-10"], FakeGpu()).module
    old.Builder(old.Logger()).create_builder_config().int8_calibrator = None


@EACH
def test_a_plan_runs_late_and_in_the_memory_of_its_addresses(version: str, tmp_path: Path) -> None:
    gpu = FakeGpu()
    fake = FakeTensorRT(version, gpu)
    engine = fake.module.Runtime(fake.module.Logger()).deserialize_cuda_engine(
        built(fake, write_graph(tmp_path / "g.onnx", None), (16, 16))
    )
    context: Any = engine.create_execution_context()
    assert not context.set_input_shape("x", (1, 3, 18, 16))
    assert context.set_input_shape("x", (1, 3, 16, 16))
    stream = gpu.stream().handle
    assert not context.execute_async_v3(stream)  # no addresses
    source, target = gpu.allocate(4 * 768), gpu.allocate(4 * 768)
    assert not context.set_tensor_address("x", source + 1)
    assert context.set_tensor_address("x", source)
    assert context.set_tensor_address("z", target)
    gpu.bytes_at(source, 4 * 768)[...] = 0
    assert context.execute_async_v3(stream)
    assert (gpu.bytes_at(target, 4 * 768) == 0xA5).all()
    gpu.synchronize(stream)
    got = gpu.bytes_at(target, 4 * 768).view(np.float32).reshape(3, 16, 16)
    assert np.ptp(got, axis=(1, 2)).max() == 0
    assert got[:, 0, 0].any()
    fake.returns["IExecutionContext.execute_async_v3"] = False
    assert context.execute_async_v3(stream) is False
    gpu.release(target)
    del fake.returns["IExecutionContext.execute_async_v3"]
    assert context.execute_async_v3(stream)
    with pytest.raises(GpuFaultError, match="illegal access"):
        gpu.synchronize()


def test_a_dynamic_network_without_a_profile_gives_none(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        built(FakeTensorRT(VERSIONS["tensorrt-11"], FakeGpu()), write_graph(tmp_path / "g.onnx", None))


def test_plans_of_another_release_or_cut_short_are_refused(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "g.onnx", (12, 18))
    plan = built(FakeTensorRT(VERSIONS["tensorrt-10"], FakeGpu()), graph)
    for version, data in [("tensorrt-11", plan), ("tensorrt-10", plan[:-5]), ("tensorrt-10", b"")]:
        fake = FakeTensorRT(VERSIONS[version], FakeGpu())
        logger = fake.module.Logger()
        assert fake.module.Runtime(logger).deserialize_cuda_engine(data) is None
        assert logger._lines


def test_without_a_driver_each_product_fails_in_its_own_way() -> None:
    rtx, old = FakeTensorRT(VERSIONS["tensorrt-rtx"]), FakeTensorRT(VERSIONS["tensorrt-10"])
    assert rtx.module.Runtime(rtx.module.Logger()).get_engine_validity(b"") == (rtx.module.EngineValidity.INVALID, 0)
    with pytest.raises(AssertionError, match="probe the driver"):
        old.module.Runtime(old.module.Logger())


def test_work_of_two_streams_is_ordered_by_events_alone() -> None:
    """Over the seeds both orders happen, unless the second stream waits."""
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    for waits in seen:
        for seed in range(40):
            gpu, done = FakeGpu(seed=seed), []
            first, second = gpu.stream().handle, gpu.stream().handle
            gpu.submit(first, lambda done=done: done.append("1"))
            event = gpu.record(first)
            if waits:
                gpu.wait(second, event)
            gpu.submit(second, lambda done=done: done.append("2"))
            gpu.synchronize(second)
            gpu.synchronize()
            seen[waits].add("".join(done))
    assert seen == {True: {"12"}, False: {"12", "21"}}


def test_a_graph_is_recorded_once_and_memory_is_finite() -> None:
    gpu, done = FakeGpu(memory_bytes=1000), []
    stream = gpu.stream().handle
    gpu.begin_capture(stream)
    gpu.submit(stream, lambda: done.append(1))
    with pytest.raises(GpuFaultError, match="while a stream captures"):
        gpu.synchronize(stream)
    graph = gpu.end_capture(stream)
    for work, ms in graph * 2:
        gpu.submit(stream, work, ms)
    assert done == []
    gpu.synchronize(stream)
    assert done == [1, 1]
    with pytest.raises(OutOfMemoryError):
        gpu.allocate(1001)
    gpu.release(gpu.allocate(900))
    assert gpu.free_bytes == 1000
    assert host_bytes(np.zeros((2, 3), np.float32)).size == 24
