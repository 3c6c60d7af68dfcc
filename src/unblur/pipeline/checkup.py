"""What runs here: every engine of the catalogue is opened on a network of one convolution, and says itself what it
lacks.

That happens in a process of its own, so that a runtime that is broken beyond an error takes along nobody else: the
engine at which the process ends is the one that ended it, and the next process goes on behind it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unblur.core.errors import UnblurError
from unblur.core.interrupts import end_with_parent
from unblur.core.leftovers import temporary_folder
from unblur.core.provenance import default_threads
from unblur.images.contract import METADATA_KEY, PixelContract

if TYPE_CHECKING:
    from torch import nn

    from unblur.engines.engine import Engine

SECONDS = 120
"""For one engine, the import of its runtime included: ten times what the slowest takes on two busy cores."""

DRIVER, COMPILER = "driver", "compiler"
"""What is asked first, and is no engine."""

SIDE = 32
"""Of the frame, in pixels."""


@dataclass(frozen=True)
class Checkup:
    """`cuda`: the version that the driver speaks; `no_gpu`: why there are none, "" with `gpus`; `compiler`: the
    TensorRT that compiles here, or ("", `no_compiler`); `engines`: by name, "" for one that runs here, else what it
    lacks and what brings it.
    """

    cuda: str
    gpus: tuple[dict[str, Any], ...]
    no_gpu: str
    compiler: str
    no_compiler: str
    engines: dict[str, str]


def check_up(engines: tuple[str, ...], tried: Callable[[str], None] = lambda _: None) -> Checkup:
    """Open each of these engines of the catalogue. `tried` is told each name when its turn is over."""
    told: dict[str, Any] = {}
    left = [DRIVER, COMPILER, *engines]
    while left:
        for name, answer in _answers(left):
            told[name] = answer
            tried(name)
        left = left[left.index(name) + 1 :]
    driver, compiler = told.pop(DRIVER), told.pop(COMPILER)
    none: dict[str, Any] = {"cuda": "", "gpus": []}
    found, no_gpu = (driver, "") if isinstance(driver, dict) else (none, str(driver))
    named, no_compiler = (compiler["name"], "") if isinstance(compiler, dict) else ("", compiler)
    return Checkup(found["cuda"], tuple(found["gpus"]), no_gpu, named, no_compiler, told)


def _answers(names: list[str]) -> Iterator[tuple[str, Any]]:
    """What the process says of the names in their order, and of the one at which it ended, if it ended at one."""
    command = [sys.executable, "-m", __name__, *names]
    paths = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for name in names:
            line = process.stdout.readline()
            try:
                answer = json.loads(line)[name]
            except (ValueError, KeyError, TypeError):
                process.kill()
                status = process.wait()
                how = signal.Signals(-status).name if status < 0 else f"status {status}"
                yield name, f"its runtime ends the process that opens it ({how}); install its packages again."
                return
            yield name, answer


def main(names: list[str]) -> None:
    """What the other process does: a line of JSON for each name."""
    answers = os.fdopen(os.dup(1), "w")  # runtimes print what they like
    os.dup2(2, 1)
    with temporary_folder() as folder:
        bench = _Bench(folder)
        others: dict[str, Callable[[], Any]] = {DRIVER: _driver, COMPILER: _compiler}
        for name in names:
            if hasattr(signal, "alarm"):
                signal.alarm(SECONDS)  # ends the process, which is an answer
            try:
                answer = others[name]() if name in others else bench.open(name)
            except UnblurError as error:
                answer = str(error).removeprefix(f"{name}: ")
            except Exception as error:  # noqa: BLE001  # whatever a broken runtime raises is what is asked for
                answer = f"its runtime is broken ({type(error).__name__}: {error}); install its packages again."
            answers.write(json.dumps({name: answer}) + "\n")
            answers.flush()


def _driver() -> dict[str, Any]:
    from unblur.engines.tensorrt.product import probe_driver

    driver = probe_driver()
    gpus = [{"name": gpu.name, "target": gpu.target, "memory_bytes": gpu.memory_bytes} for gpu in driver.devices]
    version = f"{driver.cuda_version // 1000}.{driver.cuda_version % 1000 // 10}"
    return {"cuda": version, "gpus": gpus}


def _compiler() -> dict[str, str]:
    from unblur.engines.tensorrt.product import open_product

    product = open_product()
    return {"name": f"{product.name} {product.version}"}


class _Bench:
    """A network of one convolution as a checkpoint, as a graph and as a graph in 8 bits, each made when it is asked
    for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str) -> str:
        """Open and close an engine. Raises what opening raises."""
        from unblur.engines.catalogue import find_engine, open_engine

        engine = find_engine(name)
        if engine.runs == "engine":
            self._product(engine)
            return ""
        file = self._graph(eight_bits=bool(engine.form)) if engine.runs == "graph" else None
        open_engine(name, _Weights(), file, default_threads()).close()
        return ""

    def _product(self, engine: Engine) -> None:
        """An engine file takes a compiler and minutes to make; what running one takes is asked for instead."""
        from unblur.engines.tensorrt.product import FLAVORS, find_device, open_product
        from unblur.engines.tensorrt.targets import demand_supported

        product = open_product(next(flavor for flavor in FLAVORS if flavor == engine.backend))
        demand_supported(product, find_device(0, product))

    def _graph(self, *, eight_bits: bool) -> Path:
        path = self._folder / f"{eight_bits}.onnx"
        if not path.exists():
            _write_graph(path, eight_bits)
        return path


class _Weights:
    """The checkpoint, as engines know one (unblur.engines.source)."""

    path = Path("checkup")
    digest = "0" * 64
    contract = PixelContract(channel_order="rgb", low=0.0, high=1.0, multiple=1)

    @property
    def network(self) -> nn.Module:
        from torch import nn

        return nn.Conv2d(3, 3, 3, padding=1).eval()

    def form(self, size: tuple[int, int], contract: PixelContract) -> nn.Module:
        del size, contract
        return self.network


def _write_graph(path: Path, eight_bits: bool) -> None:
    """The same as a graph; in 8 bits as unblur writes them for engines on a CPU: u8 maps, s8 weights."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from unblur.graphs.metadata import CHECKPOINT_KEY

    rng = np.random.default_rng(0)
    constants: dict[str, Any] = {"bias": np.zeros(3, np.float32)}
    nodes = []
    maps, kernel = "x", "kernel"
    if eight_bits:
        constants |= {"step": np.float32(1 / 255), "zero": np.uint8(0), "fine": np.float32(0.01), "none": np.int8(0)}
        constants["stored"] = rng.integers(-99, 99, (3, 3, 3, 3)).astype(np.int8)
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "step", "zero"], ["xd"]),
            helper.make_node("DequantizeLinear", ["stored", "fine", "none"], ["kernel"]),
            helper.make_node("QuantizeLinear", ["c", "step", "zero"], ["cq"]),
            helper.make_node("DequantizeLinear", ["cq", "step", "zero"], ["y"]),
        ]
        maps = "xd"
    else:
        constants["kernel"] = rng.normal(0, 0.1, (3, 3, 3, 3)).astype(np.float32)
    convolution = helper.make_node("Conv", [maps, kernel, "bias"], ["c" if eight_bits else "y"], pads=[1, 1, 1, 1])
    nodes.insert(3 if eight_bits else 0, convolution)
    frame = [1, 3, SIDE, SIDE]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, frame) for name in ("x", "y")]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "checkup", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    said = {METADATA_KEY: _Weights.contract.to_json(), CHECKPOINT_KEY: _Weights.digest}
    helper.set_model_props(model, said)
    onnx.save(model, path)


if __name__ == "__main__":
    end_with_parent()
    main(sys.argv[1:])
