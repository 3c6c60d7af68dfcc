"""The suite that every runner passes, a fake included: what the protocol promises, nothing about speed.

Two graph sizes of every backend: fixed (FIXED) and any. Expected values come from the PyTorch reference; each case
states the tolerance and what was observed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_machine import FakeMachine
from fake_onnxruntime import fake_onnxruntime
from numpy.typing import NDArray
from tiny_graph import BYTES, FLOAT, kernel, run_quantised, write_graph, write_quantised
from torch import nn

from unblur.core.errors import InputError
from unblur.engines.base import BaseRunner
from unblur.engines.catalogue import open_engine
from unblur.engines.onnxruntime_runner import PROVIDERS, OnnxRuntimeCudaRunner
from unblur.engines.per_size import PerSizeRunner
from unblur.engines.runner import Runner, restore_frame
from unblur.graphs.file import read_graph
from unblur.images.contract import Frame, PixelContract
from unblur.images.signature import Signature
from unblur.networks.banet.network import BANet, BANetSpec
from unblur.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint

FIXED = (12, 18)
Array = NDArray[Any]


def _has_bf16() -> bool:
    try:
        import openvino
    except ImportError:  # tests/gpu borrows this suite, on machines without it
        return False
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


HAS_BF16 = _has_bf16()


def _convolve(tensor: Array) -> Array:
    """The graph of tiny_graph.py in PyTorch, on a float tensor of the published contract."""
    weight, bias = kernel()
    y = F.conv2d(torch.from_numpy(tensor), torch.from_numpy(weight), torch.from_numpy(bias), padding=1)
    return y.clamp(-0.5, 0.5).numpy()


class FakeRunner(BaseRunner):
    """A runner without a backend: what a test of any other room may stand on, held to the same promises."""

    def __init__(self, size: tuple[int, int] | None) -> None:
        signature = Signature(FLOAT, *(size or (None, None)))
        super().__init__(signature, dict.fromkeys(("backend", "version", "device", "threads", "precision"), "fake"))

    def _run(self, tensor: Array) -> Array:
        return _convolve(tensor.copy())

    def _release(self) -> None:
        pass


@dataclass(frozen=True)
class Case:
    """One runner. `reference` gives the expected output for an input of its own contract."""

    id: str
    open: Callable[[Path, Checkpoint], Runner]
    reference: Callable[[Array, Checkpoint], Array]
    tolerance: float
    size: tuple[int, int] | None = None
    contract: PixelContract = FLOAT


def _graph_case(engine: str, size: tuple[int, int] | None, contract: PixelContract) -> Case:
    def open_it(folder: Path, checkpoint: Checkpoint) -> Runner:
        graph = write_graph(folder / "graph.onnx", size, contract, checkpoint=checkpoint.digest)
        return open_engine(engine, checkpoint, graph, threads=2)

    def reference(tensor: Array, checkpoint: Checkpoint) -> Array:
        if contract is FLOAT:
            return _convolve(tensor)
        frame = np.ascontiguousarray(tensor[0])
        return FLOAT.decode(_convolve(FLOAT.encode(frame)), *frame.shape[:2])[None]

    # float: observed 2.4e-7, sums of 27 products in another order, so a factor of 4 is left. Bytes: rounding half
    # up can turn that into one level where a value falls on a half; observed 0.
    tolerance = 1e-6 if contract is FLOAT else 1
    kind = "fixed" if size else "dynamic"
    return Case(f"{engine}-{kind}-{contract.dtype}", open_it, reference, tolerance, size, contract)


def _eight_bit_case(engine: str, size: tuple[int, int] | None) -> Any:
    """The same graph in 8 bits, against itself as it is written."""
    plain = _graph_case("onnxruntime", size, FLOAT)

    def open_it(folder: Path, checkpoint: Checkpoint) -> Runner:
        return open_engine(engine, checkpoint, write_quantised(folder / "8.onnx", size, checkpoint.digest), threads=2)

    # Observed 1.6e-3: bfloat16 rounds a result of 0.5 by half a step of 2**-9.
    case = replace(plain, open=open_it, reference=run_quantised, tolerance=2.0**-9)
    needs = pytest.mark.skipif(not HAS_BF16, reason="OpenVINO on a CPU with bf16")
    return pytest.param(case, id=plain.id.replace("onnxruntime", engine), marks=needs)


def _tensorrt_case(product: str, memory: str, size: tuple[int, int] | None, contract: PixelContract, seed: int) -> Any:
    """The runner itself on a fake machine, whose GPU computes with ONNX Runtime: late, and in an order by the seed."""
    plain = _graph_case("onnxruntime", size, contract)

    def open_it(folder: Path, _: Checkpoint) -> Runner:
        machine = FakeMachine(product, memory, seed)
        graph = write_graph(folder / "graph.onnx", size, contract)
        return machine.open(machine.build(graph, folder / "tiny.engine", [] if size else [(8, 14), (8, 24)]))

    name = plain.id.replace("onnxruntime", f"fake-{product}-{memory}")
    return pytest.param(replace(plain, id=name, open=open_it), id=name)


def _cuda_case(memory: str, size: tuple[int, int] | None, contract: PixelContract, seed: int) -> Any:
    """ONNX Runtime's CUDA provider, faked, on a fake machine; without a size a graph for each (`PerSizeRunner`)."""
    plain = _graph_case("onnxruntime", size, contract)

    def open_it(folder: Path, _: Checkpoint) -> Runner:
        machine = FakeMachine("tensorrt-10", memory, seed)

        def open_size(at: tuple[int, int]) -> Runner:
            graph = read_graph(write_graph(folder / f"{at[0]}x{at[1]}.onnx", at, contract))
            with machine.installed(), fake_onnxruntime(machine):
                return OnnxRuntimeCudaRunner("onnxruntime-cuda", graph, 1, PROVIDERS["CUDA"])

        return open_size(size) if size else PerSizeRunner(open_size, contract, FIXED)

    name = plain.id.replace("onnxruntime", f"fake-onnxruntime-cuda-{memory}")
    return pytest.param(replace(plain, id=name, open=open_it), id=name)


def _fake_case(name: str, size: tuple[int, int] | None) -> Any:
    return pytest.param(Case(name, lambda *_: FakeRunner(size), lambda t, _: _convolve(t), 0.0, size), id=name)


class OneConvolution(nn.Module):
    """tiny_graph.py's graph, not clamped. Compiling a whole BANet block takes a minute, this takes seconds."""

    def __init__(self) -> None:
        super().__init__()
        weight, bias = kernel()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.conv.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return y


def _torch_case(engine: str, tolerance: float) -> Any:
    def reference(tensor: Array, checkpoint: Checkpoint) -> Array:
        with torch.no_grad():
            return checkpoint.network(torch.from_numpy(tensor.copy())).clamp(-0.5, 0.5).numpy()

    case = Case(engine, lambda _, checkpoint: open_engine(engine, checkpoint, None, threads=1), reference, tolerance)
    return pytest.param(case, id=engine)


def _compiled_case(tolerance: float) -> Any:
    def open_it(_: Path, checkpoint: Checkpoint) -> Runner:
        network = OneConvolution().eval().requires_grad_(False)
        return open_engine("torch-compile", replace(checkpoint, network=network), None, threads=1)

    case = Case("torch-compile", open_it, lambda tensor, _: _convolve(tensor), tolerance)
    return pytest.param(case, id="torch-compile")


CASES = [
    _fake_case("fake", None),
    _fake_case("fake-fixed", FIXED),
    _torch_case("torch", 0.0),
    _torch_case("torch-channels-last", 1e-6),  # observed 7.5e-8
    _compiled_case(1e-6),  # observed 1.5e-7
    _cuda_case("torch", FIXED, FLOAT, 6),
    _cuda_case("pycuda", None, BYTES, 7),
    _tensorrt_case("tensorrt-10", "pycuda", None, FLOAT, 0),
    _tensorrt_case("tensorrt-10", "torch", FIXED, BYTES, 1),
    _tensorrt_case("tensorrt-11", "torch", None, BYTES, 2),
    _tensorrt_case("tensorrt-11", "pycuda", FIXED, FLOAT, 3),
    _tensorrt_case("tensorrt-rtx", "torch", None, FLOAT, 4),
    _tensorrt_case("tensorrt-rtx", "pycuda", FIXED, BYTES, 5),
    *(_eight_bit_case("openvino-int8-bf16", size) for size in (FIXED, None)),
    *(
        pytest.param(case, id=case.id)
        for engine in ("onnxruntime", "openvino")
        for case in (
            _graph_case(engine, None, FLOAT),
            _graph_case(engine, FIXED, FLOAT),
            _graph_case(engine, None, BYTES),
            _graph_case(engine, FIXED, BYTES),
        )
    ),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(BANet(BANetSpec(depth=1, stem_width=4, width=8, fuse_width=4)), path)
    return load_checkpoint(path)


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def opened(case: Case, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with case.open(tmp_path_factory.mktemp("graph"), checkpoint) as runner:
        yield runner


def _frame(height: int, width: int, seed: int = 0) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _input(case: Case, seed: int = 0) -> Array:
    return case.contract.encode(_frame(*FIXED, seed))


def test_signature_tells_contract_and_size(case: Case, opened: Runner) -> None:
    assert opened.signature == Signature(case.contract, *(case.size or (None, None)))


def test_description_is_strings_for_a_report(opened: Runner) -> None:
    description = opened.description
    assert {"backend", "version", "device", "threads", "precision"} <= set(description)
    assert all(isinstance(value, str) and value for value in description.values())
    description["backend"] = "changed by the caller"
    assert opened.description["backend"] != "changed by the caller"


def test_agrees_with_the_torch_reference(case: Case, opened: Runner, checkpoint: Checkpoint) -> None:
    tensor = _input(case)
    result = opened.run(tensor)
    expected = case.reference(tensor, checkpoint)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    assert np.abs(result.astype(np.float64) - expected.astype(np.float64)).max() <= case.tolerance


def test_the_same_input_gives_the_same_bits(case: Case, opened: Runner) -> None:
    first, second = opened.run(_input(case)), opened.run(_input(case))
    assert first.tobytes() == second.tobytes()


def test_results_belong_to_the_caller(case: Case, opened: Runner) -> None:
    first = opened.run(_input(case, seed=1))
    kept = first.copy()
    other = opened.run(_input(case, seed=2))
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, other)
    first[...] = 0
    assert np.array_equal(opened.run(_input(case, seed=1)), kept)


def test_the_input_is_left_alone(case: Case, opened: Runner) -> None:
    tensor = _input(case)
    kept = tensor.copy()
    tensor.flags.writeable = False
    opened.run(tensor)
    assert np.array_equal(tensor, kept)


def test_inputs_need_not_be_contiguous(case: Case, opened: Runner) -> None:
    tensor = _input(case)
    backwards = tensor[:, ::-1, ::-1, :][:, ::-1, ::-1, :]
    spread = np.repeat(tensor, 2, axis=3)[..., ::2]
    assert np.array_equal(opened.run(backwards), opened.run(tensor))
    assert np.array_equal(opened.run(spread), opened.run(tensor))


def test_wrong_inputs_are_refused(case: Case, opened: Runner) -> None:
    tensor = _input(case)
    channel_axis = 1 if case.contract.layout == "nchw" else 3
    width_axis = 3 if case.contract.layout == "nchw" else 2
    wrong = {
        "type": tensor.astype(np.float64),
        "channels": np.concatenate([tensor, tensor], axis=channel_axis),
        "rank": tensor[0],
        "batch": np.concatenate([tensor, tensor]),
        "odd size": np.take(tensor, range(FIXED[1] - 1), axis=width_axis),
    }
    if case.size:
        wrong["another size"] = np.take(tensor, range(FIXED[1] - 2), axis=width_axis)
    for bad in wrong.values():
        with pytest.raises(InputError, match="The engine"):
            opened.run(bad)


def test_every_even_size_where_none_is_fixed(case: Case, opened: Runner, checkpoint: Checkpoint) -> None:
    if case.size:
        pytest.skip("built for one size")
    for size in ((16, 16), (22, 14)):
        tensor = case.contract.encode(_frame(*size))
        error = np.abs(opened.run(tensor).astype(np.float64) - case.reference(tensor, checkpoint)).max()
        assert error <= case.tolerance


def test_odd_frames_come_back_odd(case: Case, opened: Runner, checkpoint: Checkpoint) -> None:
    frame = _frame(FIXED[0] - 1, FIXED[1] - 1)
    restored = restore_frame(opened, frame)
    assert (restored.shape, restored.dtype) == (frame.shape, np.uint8)
    expected = case.contract.decode(case.reference(case.contract.encode(frame), checkpoint), *frame.shape[:2])
    assert np.abs(restored.astype(int) - expected.astype(int)).max() <= 1  # one level where rounding falls on a half


def test_closing(case: Case, checkpoint: Checkpoint, tmp_path: Path) -> None:
    with ExitStack() as stack:
        runner = stack.enter_context(case.open(tmp_path, checkpoint))
        kept = runner.run(_input(case))
        copy = kept.copy()
        runner.close()
        runner.close()
        assert np.array_equal(kept, copy)
        with pytest.raises(RuntimeError, match="closed"):
            runner.run(_input(case))
        runner.signature.check(_input(case))  # still answers
    with case.open(tmp_path, checkpoint) as again:
        assert np.array_equal(again.run(_input(case)), copy)
