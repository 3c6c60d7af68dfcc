"""Every engine that runs on an NVIDIA GPU through the suite that every runner passes (test_conformance.py).

PyTorch's engines passed on an H100. ONNX Runtime's and TensorRT's have not run on a GPU yet: their tolerances are
bounds from the formats (bits of mantissa, 27 products of values up to 1), not observations.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import pytest
import test_conformance as suite
import torch
from test_conformance import FIXED, Case, OneConvolution
from tiny_graph import BYTES, FLOAT, write_graph

from unblur.core.artefacts import file_digest
from unblur.core.errors import MissingRuntimeError
from unblur.engines.catalogue import CATALOGUE, open_engine
from unblur.engines.runner import Queueing, Runner
from unblur.engines.tensorrt.file import EngineFile, read_engine
from unblur.images.contract import PixelContract
from unblur.networks.checkpoints import Checkpoint

pytestmark = pytest.mark.gpu
T = TypeVar("T")

FORM_LEVELS = 1
TOLERANCES = {"f32": 1e-5, "tf32": 5e-3, "fp16": 5e-3, "bf16": 4e-2}


def torch_case(name: str) -> Any:
    """The ladder on one convolution: compiling a whole network takes minutes. The form is of a real, tiny network."""
    if "-form-" in name:

        def restored(tensor: Any, checkpoint: Checkpoint) -> Any:
            frame = np.ascontiguousarray(tensor[0])
            with torch.no_grad():
                y = checkpoint.network(torch.from_numpy(FLOAT.encode(frame))).clamp(-0.5, 0.5).numpy()
            return FLOAT.decode(y, *frame.shape[:2])[None]

        # Observed on an H100: passes with 1 level.
        form = Case(
            name, lambda _, checkpoint: open_engine(name, checkpoint, None), restored, FORM_LEVELS, contract=BYTES
        )
        return pytest.param(form, id=name)
    precision = next((word for word in ("tf32", "fp16", "bf16") if word in name), "f32")

    def open_it(_: Path, checkpoint: Checkpoint) -> Runner:
        network = OneConvolution().eval().requires_grad_(False)
        return open_engine(name, replace(checkpoint, network=network), None)

    case = Case(name, open_it, lambda tensor, _: suite._convolve(tensor), TOLERANCES[precision])
    return pytest.param(case, id=name)


def onnxruntime_case(name: str, size: tuple[int, int] | None, contract: PixelContract) -> Any:
    case = suite._graph_case(name, size, contract)
    tolerance = 1 if contract is BYTES else TOLERANCES["f32" if name == "onnxruntime-cuda" else "tf32"]
    marks = [pytest.mark.tensorrt] if name.endswith("tensorrt") else []
    return pytest.param(replace(case, tolerance=tolerance), id=case.id, marks=marks)


def built(product_name: Any, graph: Path, output: Path) -> EngineFile:
    """Compile with the real product for the GPU at hand; a graph of every size for sides from 8 to 24."""
    from unblur.engines.tensorrt.builder import compile_engine
    from unblur.engines.tensorrt.manifest import companions
    from unblur.engines.tensorrt.product import open_product
    from unblur.engines.tensorrt.profiles import Profile

    model = onnx.load(graph)
    contract = next(entry.value for entry in model.metadata_props if entry.key.endswith("pixel_contract"))
    dynamic = any(d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim)
    profiles = (Profile((8, 8), (14, 14), (14, 14)), Profile((8, 8), (24, 24), (24, 24))) if dynamic else ()
    engine = compile_engine(graph.read_bytes(), product=open_product(product_name), profiles=profiles)
    output.write_bytes(engine.data)
    device = engine.device
    manifest = {
        "product": engine.product.name,
        "version": engine.product.version,
        "precision": "fp32",
        "pixel_contract": json.loads(contract),
        "engine_sha256": file_digest(output),
        "targets": {target: {} for target in engine.listed},
        "gpu": {"name": device.name, "target": device.target} if device and product_name == "tensorrt" else None,
    }
    companions(output)[1].write_text(json.dumps(manifest))
    return read_engine(output)


def tensorrt_case(product: str, memory: Any, size: tuple[int, int] | None, contract: PixelContract) -> Any:
    from unblur.engines.tensorrt.runner import TensorRtRunner

    case = suite._graph_case("onnxruntime", size, contract)

    def open_it(folder: Path, _: Checkpoint) -> Runner:
        graph = write_graph(folder / "graph.onnx", size, contract)
        return TensorRtRunner(product, built(product, graph, folder / "tiny.engine"), memory=memory)

    tolerance = 1 if contract is BYTES else TOLERANCES["tf32"]
    name = case.id.replace("onnxruntime", f"{product}-{memory}")
    marks = [pytest.mark.tensorrt_rtx if product == "tensorrt-rtx" else pytest.mark.tensorrt]
    if memory == "pycuda":
        marks.append(pytest.mark.skipif(importlib.util.find_spec("pycuda") is None, reason="needs the package pycuda"))
    return pytest.param(replace(case, id=name, open=open_it, tolerance=tolerance), id=name, marks=marks)


CASES = [
    *(torch_case(name) for name in CATALOGUE if name.startswith("torch-cuda")),
    *(
        onnxruntime_case(name, size, contract)
        for name in ("onnxruntime-cuda", "onnxruntime-cuda-tf32", "onnxruntime-tensorrt")
        for size, contract in ((None, FLOAT), (FIXED, BYTES))
    ),
    *(
        tensorrt_case(product, memory, size, contract)
        for product in ("tensorrt", "tensorrt-rtx")
        for memory, size, contract in (
            ("torch", None, FLOAT),
            ("torch", FIXED, FLOAT),
            ("torch", None, BYTES),
            ("pycuda", FIXED, BYTES),
        )
    ),
]

checkpoint = suite.checkpoint
# The suite's tests; `opened` and `case` are those below.
globals().update({name: test for name, test in vars(suite).items() if name.startswith("test_")})


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def there(open_it: Callable[[], T]) -> T:
    """What is opened or built; a package or product that is missing, or that does not know this GPU, is a reason to
    skip.
    """
    try:
        return open_it()
    except MissingRuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def opened(case: Case, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with there(lambda: case.open(tmp_path_factory.mktemp("graph"), checkpoint)) as runner:
        yield runner


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def bound(request: pytest.FixtureRequest, fixed_graph: Path, tmp_path: Path) -> Callable[..., Any]:
    """Open a 48x64 BANet, compiled here."""
    from unblur.engines.tensorrt.runner import TensorRtRunner

    if importlib.util.find_spec(request.param.replace("-", "_")) is None:
        pytest.skip(f"needs the product {request.param}")
    file = there(lambda: built(request.param, fixed_graph, tmp_path / "tiny.engine"))
    return lambda **options: there(lambda: TensorRtRunner(request.param, file, **options))


def test_the_gpus_own_time_is_within_what_the_host_sees(case: Case, opened: Runner) -> None:
    assert isinstance(opened, Queueing)
    tensor = case.contract.encode(np.zeros((*FIXED, 3), np.uint8))
    for _ in range(3):
        opened.run(tensor)
    with opened.resident(tensor.shape) as work, opened.events() as events:
        opened.wait()
        started = time.perf_counter()
        events.around(work)
        opened.wait()
        seen_ms = 1e3 * (time.perf_counter() - started)
        assert 0 < events.elapsed_ms() <= seen_ms


def _tensors(count: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [FLOAT.encode(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)) for _ in range(count)]


def test_frames_in_flight_come_back_as_they_do_alone(bound: Callable[..., Any]) -> None:
    tensors = _tensors(50)
    with bound() as runner, bound(cuda_graph=False) as plain:
        alone = [plain.run(tensor) for tensor in tensors]
        together = list(runner.run_many(tensors))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_tensors_of_pytorch_are_used_where_they_are(bound: Callable[..., Any]) -> None:
    with bound() as runner:
        for tensor in _tensors(4):
            source = torch.from_numpy(tensor).cuda()
            target = torch.empty_like(source)
            with torch.cuda.stream(torch.cuda.Stream()):
                halves = source.clone()
                halves.mul_(2).mul_(0.5)  # work that the runner must wait for
                for _ in range(3):
                    runner.run_on_device(halves, target)
            assert np.array_equal(target.cpu().numpy(), runner.run(tensor))


def test_the_compiled_network_is_the_network(bound: Callable[..., Any], tiny: Checkpoint) -> None:
    (tensor,) = _tensors(1)
    with bound() as runner, torch.no_grad():
        expected = tiny.network(torch.from_numpy(tensor)).clamp(-0.5, 0.5).numpy()
        assert (
            np.abs(runner.run(tensor) - expected).max() < 2e-2
        )  # TF32 through the whole network; float32 would be 1e-5


def test_memory_is_given_back(bound: Callable[..., Any]) -> None:
    bound().close()  # libraries and kernels that stay
    torch.cuda.empty_cache()
    before = torch.cuda.mem_get_info()[0]
    for _ in range(5):
        with bound() as runner:
            runner.run(_tensors(1)[0])
    torch.cuda.empty_cache()
    assert before - torch.cuda.mem_get_info()[0] < 32 << 20
