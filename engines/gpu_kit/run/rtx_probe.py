"""Does TensorRT for RTX run on this GPU? Each question in a process of its own, so that a crash answers only one.

    rtx_probe.py ENGINES OUT.json [--more]       all questions; --more: of every engine, where it is known to run
    rtx_probe.py ENGINES --ask NAME [ARGUMENT]   one of them; the last line is its answer

ENGINES holds *.engine with unblur's companions, tiny-*.plan (one convolution for each target), tiny.onnx, and
golden*.npz (NAME.input, NAME.output: what ONNX Runtime makes on a CPU of the very graph that was compiled).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Answer = dict[str, Any]
OPENS = "TensorRT for RTX opens an engine on this GPU"
"""What the next step looks for."""


class Bare:
    """The bindings themselves, with a logger that keeps what it was told; a context on the GPU where there is one."""

    def __init__(self) -> None:
        import tensorrt_rtx as trt
        import torch

        if torch.cuda.is_available():
            torch.zeros(1, device="cuda")
        lines: list[str] = []

        class Log(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                lines.append(f"{str(severity).rsplit('.', maxsplit=1)[-1]}: {message[:1500]}")

        self.trt, self.lines, self.logger = trt, lines, Log()
        self.runtime = trt.Runtime(self.logger)

    def complaints(self) -> list[str]:
        """The last warnings and errors."""
        return [line for line in self.lines if line.startswith(("INTERNAL_ERROR", "ERROR", "WARNING"))][-12:]

    def validity(self, data: bytes) -> Answer:
        """What the runtime says of an engine's bytes before it opens them; the mask is its list of GPU families."""
        valid, found = self.runtime.get_engine_validity(data)
        members = self.trt.EngineInvalidityDiagnostics.__members__.items()
        names = [name for name, value in members if int(found) & int(value)]
        return {"validity": str(valid), "diagnostics": int(found), "names": names, "mask": data[32:36].hex()}


def import_it(_: Path) -> Answer:
    bare = Bare()
    return {"version": bare.trt.__version__, "header_bytes": bare.runtime.engine_header_size, "log": bare.complaints()}


def validity(folder: Path) -> Answer:
    bare = Bare()
    answers: Answer = {}
    for path in sorted([*folder.glob("*.plan"), *folder.glob("*.engine")]):
        bare.lines.clear()
        # The list of supported families comes as information, so every level is kept.
        answers[path.name] = bare.validity(path.read_bytes()) | {"log": bare.lines[-8:]}
    return answers


def deserialize(folder: Path, name: str) -> Answer:
    bare = Bare()
    engine = bare.runtime.deserialize_cuda_engine((folder / name).read_bytes())
    return {"opened": engine is not None, "log": bare.complaints()}


def build(folder: Path, target: str) -> Answer:
    """One convolution for "current", "portable" or sm80...; what was built is asked for its validity, opened, run."""
    bare = Bare()
    trt = bare.trt
    builder = trt.Builder(bare.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parsed = trt.OnnxParser(network, bare.logger).parse((folder / "tiny.onnx").read_bytes())
    config = builder.create_builder_config()
    accepted = None
    if target != "portable":
        config.num_compute_capabilities = 1
        accepted = config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), 0)
    started = time.perf_counter()
    made = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - started
    answer: Answer = {"parsed": parsed, "accepted": accepted, "built": made is not None, "seconds": seconds}
    if made is None:
        return answer | {"log": bare.complaints()}
    data = bytes(made)
    answer |= bare.validity(data) | {"bytes": len(data)}
    answer["opened"] = bare.runtime.deserialize_cuda_engine(data) is not None
    answer["log"] = bare.complaints()
    if answer["opened"]:
        (folder / f"made-{target}.plan").write_bytes(data)
        answer |= run_plan(folder, f"made-{target}.plan")
    return answer


def goldens(folder: Path) -> dict[str, NDArray[Any]]:
    """Inputs and outputs of every engine that has them."""
    return {key: value for path in sorted(folder.glob("golden*.npz")) for key, value in np.load(path).items()}


def run_plan(folder: Path, name: str, graph: str = "graph") -> Answer:
    """Plain TensorRT calls on PyTorch's memory: against the golden output, and timed between events."""
    import torch

    bare = Bare()
    trt = bare.trt
    engine = bare.runtime.deserialize_cuda_engine((folder / name).read_bytes())
    if engine is None:
        return {"ran": False, "log": bare.complaints()}
    config = engine.create_runtime_config()
    strategies = trt.CudaGraphStrategy
    config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if graph == "graph" else strategies.DISABLED
    cache = config.create_runtime_cache()
    config.set_runtime_cache(cache)
    started = time.perf_counter()
    context = engine.create_execution_context(config)
    answer: Answer = {"ran": False, "jit_s": time.perf_counter() - started, "log": bare.complaints()}
    if context is None:
        return answer
    names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
    source = next(n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT)
    target = next(n for n in names if n != source)
    types = {trt.DataType.FLOAT: torch.float32, trt.DataType.UINT8: torch.uint8, trt.DataType.HALF: torch.float16}
    shape = tuple(16 if side < 0 else side for side in engine.get_tensor_shape(source))
    context.set_input_shape(source, shape)
    golden = goldens(folder)
    stem = name.rsplit(".", 1)[0]
    key = "tiny" if stem.startswith(("tiny", "made-")) else stem
    given, kind = golden.get(f"{key}.input"), types[engine.get_tensor_dtype(source)]
    known = given is not None and given.shape == shape
    x = torch.from_numpy(given) if given is not None and known else torch.rand(shape) - 0.5
    x = (x * 255).to(kind).cuda() if kind == torch.uint8 and not known else x.to(kind).cuda()
    out_shape = tuple(context.get_tensor_shape(target))
    y = torch.full(out_shape, 77, device="cuda", dtype=types[engine.get_tensor_dtype(target)])
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    placed = [context.set_tensor_address(source, x.data_ptr()), context.set_tensor_address(target, y.data_ptr())]
    started = time.perf_counter()
    placed.append(context.execute_async_v3(stream.cuda_stream))
    stream.synchronize()
    answer |= {
        "ran": all(placed), "first_run_s": time.perf_counter() - started,
        "device_memory": int(engine.device_memory_size_v2), "log": bare.complaints(),
    }  # fmt: skip
    if not answer["ran"]:
        return answer
    result = y.float().cpu().numpy().astype(np.float64)
    expected = golden.get(f"{key}.output")
    if known and expected is not None and expected.shape == result.shape:
        difference = result - expected.astype(np.float64)
        relative = np.linalg.norm(difference) / np.linalg.norm(expected.astype(np.float64))
        answer |= {"max_error": float(np.abs(difference).max()), "relative": float(relative)}
    times = []
    for k in range(35):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record(stream)
        context.execute_async_v3(stream.cuda_stream)
        after.record(stream)
        after.synchronize()
        if k >= 5:
            times.append(before.elapsed_time(after))
    times.sort()
    answer |= {
        "gpu_ms_p50": times[len(times) // 2], "gpu_ms_best": times[0],
        "same_again": bool(np.array_equal(result, y.float().cpu().numpy())),
        "capturable": bool(context.is_stream_capturable(stream.cuda_stream)),
    }  # fmt: skip
    del context
    blob = cache.serialize()
    return answer | {"runtime_cache_bytes": None if blob is None else len(bytes(blob))}


def profile_plan(folder: Path, name: str) -> Answer:
    """Milliseconds of each layer by TensorRT's own profiler, without a CUDA graph, for `unblur xray --profile`."""
    import torch

    bare = Bare()
    times: dict[str, list[float]] = {}

    class Profiler(bare.trt.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            bare.trt.IProfiler.__init__(self)

        def report_layer_time(self, layer: str, ms: float) -> None:
            times.setdefault(layer, []).append(ms)

    engine = bare.runtime.deserialize_cuda_engine((folder / name).read_bytes())
    context = engine.create_execution_context()
    buffers = []
    for k in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(k)
        elements = int(np.prod([max(side, 16) for side in engine.get_tensor_shape(tensor)]))
        buffers.append(torch.zeros(4 * elements, dtype=torch.uint8, device="cuda"))
        context.set_tensor_address(tensor, buffers[-1].data_ptr())
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    profiler = Profiler()
    for k in range(13):
        if k == 3:
            context.profiler = profiler
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
    layers = [{"name": layer, "averageMs": sum(each) / len(each)} for layer, each in times.items()]
    Path(os.environ["OUT"], f"{name}.profile.json").write_text(json.dumps([{"count": 10}, *layers]))
    return {"layers": len(layers), "sum_ms": sum(layer["averageMs"] for layer in layers)}


def runner(folder: Path, name: str) -> Answer:
    """The same engine through unblur's own runner."""
    from unblur.engines.tensorrt.file import read_engine
    from unblur.engines.tensorrt.runner import TensorRtRunner

    golden, stem = goldens(folder), name.rsplit(".", 1)[0]
    started = time.perf_counter()
    with TensorRtRunner("probe", read_engine(folder / name)) as opened:
        answer: Answer = {"open_s": time.perf_counter() - started}
        x = golden.get(f"{stem}.input")
        if x is None:
            height, width = (int(side) for side in stem.split("-")[-2].split("x"))
            x = np.random.default_rng(0).random((1, 3, height, width), np.float32) - 0.5
        started = time.perf_counter()
        y = opened.run(x)
        answer["first_run_s"] = time.perf_counter() - started
        if (expected := golden.get(f"{stem}.output")) is not None:
            answer["max_error"] = float(np.abs(y.astype(np.float64) - expected).max())
        times = []
        for _ in range(40):
            started = time.perf_counter()
            opened.run(x)
            times.append(1e3 * (time.perf_counter() - started))
        answer["description"] = opened.description  # only now: whether a CUDA graph was captured
    times.sort()
    return answer | {"frame_ms_p50": times[20], "frame_ms_best": times[0]}


QUESTIONS: dict[str, Callable[..., Answer]] = {
    question.__name__: question
    for question in (import_it, validity, deserialize, build, run_plan, profile_plan, runner)
}


def answer_one(name: str, folder: Path, given: list[str]) -> None:
    """Print the answer and leave without a destructor: a library that is broken may not get to its own."""
    try:
        answer = QUESTIONS[name](folder, *given)
    except Exception as error:
        answer = {"raised": f"{type(error).__name__}: {error}"[:1500]}
    print("JSON " + json.dumps(answer, default=str), flush=True)
    os._exit(0)


class Interview:
    """Questions to processes of their own, each answer on the disk at once."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.folder, self.output = folder, output
        self.answers: dict[str, Any] = {}

    def ask(self, key: str, name: str, *given: str, limit_s: float = 60) -> Answer:
        """What the question gives; a crash or a hang is an answer too."""
        started = time.perf_counter()
        command = [sys.executable, __file__, str(self.folder), "--ask", name, *given]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            answer: Answer = {"timed_out_s": limit_s}
        else:
            lines = [line for line in done.stdout.splitlines() if line.startswith("JSON ")]
            crashed = {"crashed": done.returncode, "stderr": done.stderr[-1500:], "stdout": done.stdout[-800:]}
            answer = json.loads(lines[-1][5:]) if lines else crashed
        answer["wall_s"] = round(time.perf_counter() - started, 1)
        self.note(key, answer)
        return answer

    def note(self, key: str, answer: Any) -> None:
        self.answers[key] = answer
        self.output.write_text(json.dumps(self.answers, indent=1) + "\n")
        print(f"{key}: {json.dumps(answer)[:600]}", flush=True)

    def each_engine(self, *, without_graph: bool = False) -> None:
        """Speed, agreement and layers of every engine of the folder."""
        for name in sorted(path.name for path in self.folder.glob("*.engine")):
            self.ask(f"run {name}", "run_plan", name, limit_s=120)
            if without_graph:
                self.ask(f"run {name} without a graph", "run_plan", name, "plain", limit_s=120)
            self.ask(f"runner {name}", "runner", name, limit_s=120)
            self.ask(f"profile {name}", "profile_plan", name)

    def whole(self) -> str:
        """From import to the first engine that runs, and what it comes to."""
        if "version" not in self.ask("import", "import_it"):
            return "not asked: tensorrt_rtx cannot be imported"
        known = self.ask("validity", "validity")
        plans = [f"tiny-{target}.plan" for target in ("portable", "sm80", "sm120")]
        opened = [name for name in plans if self.ask(f"open {name}", "deserialize", name).get("opened")]
        built = [self.ask(f"build {target}", "build", target, limit_s=90) for target in ("current", "portable")]
        if not opened and not any(answer.get("ran") for answer in built):
            return "TensorRT for RTX refuses this GPU: " + json.dumps(known.get("tiny-portable.plan", known))[:900]
        for name in opened:
            self.ask(f"run {name}", "run_plan", name)
        self.each_engine()
        return OPENS


def main() -> None:
    """One question, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path, nargs="?")
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--ask", nargs="+", metavar="NAME")
    arguments = parser.parse_args()
    if arguments.ask:
        answer_one(arguments.ask[0], arguments.folder, arguments.ask[1:])
    interview = Interview(arguments.folder, arguments.output)
    if arguments.more:
        interview.each_engine(without_graph=True)
    else:
        interview.note("verdict", interview.whole())


if __name__ == "__main__":
    main()
