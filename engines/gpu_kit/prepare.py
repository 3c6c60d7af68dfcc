"""Engines and golden outputs for a GPU machine that is bare, made where the compiler and a CPU are.

    prepare.py build/gpu [--sizes 256x256,720x1280] [--with-banet]

`run/engines`: one convolution for each target; `engines`: the bundled network in FP16, and in 8 bits at small sizes;
with `--with-banet` also BANet of 18 million weights in FP16. A golden output is what ONNX Runtime makes here of the
very graph that was compiled.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unblur.building.engine import BuildOptions, build_engine
from unblur.engines.tensorrt.builder import compile_engine
from unblur.engines.tensorrt.targets import PORTABLE, TARGETS
from unblur.graphs.sessions import WrittenGraph, as_backend
from unblur.networks.checkpoints import Checkpoint, load_checkpoint
from unblur.networks.random_weights import random_checkpoint
from unblur.pipeline.job import Size, Source
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.scored_engine import build_quantised
from unblur.pipeline.places import artefact_folder, bundled_checkpoint
from unblur.pipeline.store import Store

GOLDEN_PIXELS = 300_000
"""Of larger frames only the time is asked: their outputs would be megabytes to send. 8 bits are made up to here too,
for calibrating a large frame takes a quarter of an hour."""

Goldens = dict[str, NDArray[Any]]


def one_convolution() -> onnx.ModelProto:
    """(1, 3, 16, 16) float32 -> same, by a 3x3 convolution of drawn weights."""
    rng = np.random.default_rng(0)
    weights = (rng.random((3, 3, 3, 3), np.float32) - 0.5) / 3
    maps = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 16, 16]) for name in ("x", "y")]
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "tiny", maps[:1], maps[1:], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def by_onnxruntime(graph: Path, x: NDArray[np.float32]) -> NDArray[Any]:
    """What ONNX Runtime gives on a CPU."""
    return WrittenGraph(onnx.load(graph), what=str(graph), threads=2, adjust=as_backend).output(x)


def write_tiny(folder: Path) -> Goldens:
    """One convolution for every target, the smallest thing that can be asked of a runtime."""
    tiny = folder / "tiny.onnx"
    onnx.save(one_convolution(), tiny)
    for name, targets in [(PORTABLE, ()), *((target, (target,)) for target in TARGETS)]:
        (folder / f"tiny-{name}.plan").write_bytes(compile_engine(tiny.read_bytes(), targets).data)
    x = np.random.default_rng(0).random((1, 3, 16, 16), np.float32) - 0.5
    return {"tiny.input": x, "tiny.output": by_onnxruntime(tiny, x)}


def write_engine(store: Store, checkpoint: Checkpoint, size: Size, precision: str, folder: Path) -> Goldens:
    """One engine with its manifest. Its graph stays here: the runner needs no more."""
    name = f"{checkpoint.path.stem}-{size[0]}x{size[1]}-{precision}"
    output = folder / f"{name}.engine"
    graph = stored_graph(store, checkpoint, size)
    options: Any = BuildOptions(precision, "tensorrt-rtx")  # type: ignore[arg-type]
    if precision == "fp16":
        build_engine(graph.path, output, options)
    else:
        build_quantised(store, Source(checkpoint, size), output, options)
    compiled = Path(f"{output}.onnx")
    golden: Goldens = {}
    if size[0] * size[1] < GOLDEN_PIXELS:
        x = np.random.default_rng(0).random((1, 3, *size), np.float32) - 0.5
        golden = {f"{name}.input": x, f"{name}.output": by_onnxruntime(compiled, x).astype(np.float16)}
    compiled.unlink()
    return golden


def main() -> None:
    """Everything, with the seconds that each took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", default="256x256,720x1280")
    parser.add_argument("--with-banet", action="store_true", help="37 MB more for each size")
    parser.add_argument("--without-8-bits", action="store_true", help="calibrates nothing, which takes a minute or two")
    arguments = parser.parse_args()
    sizes = [(int(h), int(w)) for h, w in (size.split("x") for size in arguments.sizes.split(","))]
    first, more = arguments.folder / "run" / "engines", arguments.folder / "engines"
    goldens: dict[Path, Goldens] = {first: {}, more: {}}
    for folder in goldens:
        folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    def say(text: str) -> None:
        print(f"   [{time.perf_counter() - start:.0f}s] {text}", flush=True)

    goldens[first] |= write_tiny(first)
    say(f"one convolution for each of {len(TARGETS)} targets, and portable")
    store = Store(artefact_folder())
    nano = load_checkpoint(bundled_checkpoint())
    for size in sizes:
        small = size[0] * size[1] < GOLDEN_PIXELS
        for precision in ("fp16", "int8"):
            if precision == "fp16" or (small and not arguments.without_8_bits):
                goldens[more] |= write_engine(store, nano, size, precision, more)
                say(f"{nano.name} {size[0]}x{size[1]} {precision}")
    if arguments.with_banet:
        with tempfile.TemporaryDirectory() as folder:
            banet = random_checkpoint("banet", 0, Path(folder))
            for size in sizes:
                goldens[more] |= write_engine(store, banet, size, "fp16", more)
                say(f"{banet.name} {size[0]}x{size[1]} fp16")
    for folder, golden in goldens.items():
        np.savez_compressed(folder / "golden.npz", **dict[str, Any](golden))


if __name__ == "__main__":
    main()
