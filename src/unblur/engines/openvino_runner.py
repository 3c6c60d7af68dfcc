"""OpenVINO on the CPU, in a precision that is asked for by name and verified after compilation."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from unblur.core.errors import BudgetError, InputError, MissingRuntimeError
from unblur.core.provenance import physical_cores
from unblur.engines.base import BaseRunner, out_of_memory
from unblur.engines.bf16 import missing_bf16
from unblur.engines.float32 import refuse_fast_math
from unblur.graphs.file import GraphFile

DEVICE = "CPU"
HINTS = {"f32": "f32", "bf16": "bf16"}
CONVOLUTIONS = frozenset({"Convolution", "Deconvolution"})
"""Names that the runtime model gives to the layers that do the work, after fusion."""


INTEGERS = ("u8", "i8")
"""Precisions of a convolution that multiplies 8-bit integers."""


class OpenVinoRunner(BaseRunner):
    """A graph in OpenVINO's CPU plugin: latency hint, one stream of `threads` threads."""

    def __init__(self, name: str, graph: GraphFile, precision: Literal["f32", "bf16"], threads: int) -> None:
        """Raises MissingRuntimeError without the package or the CPU's bf16 instructions, InputError for a graph that
        OpenVINO refuses and as `refuse_fast_math`, BudgetError when a convolution was compiled in another
        precision than asked or a quantised one in floating point.
        """
        refuse_fast_math(name)
        openvino = _import(name)
        core = _core(name, openvino, precision, "openvino-int8" if graph.quantised else "openvino")
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            **threading_of(threads),
            "INFERENCE_PRECISION_HINT": HINTS[precision],
        }

        def compile_graph() -> Any:
            model = core.read_model(graph.path)
            if precision == "bf16":
                free_constants(model)
            return core.compile_model(model, DEVICE, settings)

        try:
            compiled = compile_graph()
            compiled.output(graph.output)
        except (MemoryError, RuntimeError, ValueError) as error:
            if out_of_memory(error):
                raise InputError(
                    f"Memory does not hold {graph.path} in OpenVINO; free some, or use an engine that takes less."
                ) from error
            raise InputError(f"OpenVINO cannot open {graph.path} ({_last_line(error)}); export it again.") from error
        kinds = _demand_precision(name, graph, precision, compiled, openvino.__version__)
        hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        used = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        if used != threads:
            raise InputError(f"{name}: asked for {threads} threads, OpenVINO uses {used}; ask for {used}.")
        super().__init__(
            graph.signature,
            {
                "backend": "openvino",
                "version": openvino.__version__,
                "device": f"cpu ({core.get_property(DEVICE, 'FULL_DEVICE_NAME')})",
                "threads": str(used),
                "bound to cores": "yes" if compiled.get_property("ENABLE_CPU_PINNING") else "no",
                "precision": f"{hint}+int8" if graph.quantised else hint,
                "convolutions": ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none",
                "graph": f"{graph.signature.sizes}, {graph.digest}",
                **({"calibration": graph.calibration} if graph.calibration else {}),
            },
        )
        self._compile = compile_graph
        self._graph = graph
        self._request: Any = compiled.create_infer_request()

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        # Not `infer`: in 2026.4 it swallows what goes wrong in a graph of any size, out of memory above all, and gives
        # the result of the frame before. Once it has failed, a compiled graph keeps shapes of the frame it failed at:
        # other errors, or old results, would follow. So it is compiled anew for the next frame.
        if self._request is None:
            self._request = self._compile().create_infer_request()
        try:
            self._request.start_async([np.ascontiguousarray(tensor)], share_inputs=False)
            self._request.wait()
        except RuntimeError as error:
            self._request = None
            if out_of_memory(error):  # `run` says how large the frame was
                raise
            raise InputError(
                f"OpenVINO cannot run {self._graph.path} ({_last_line(error)}); export it again."
            ) from error
        # Theirs is overwritten next time.
        restored: NDArray[Any] = np.array(self._request.get_tensor(self._graph.output).data)
        return restored

    def _release(self) -> None:
        self._request = None


def threading_of(threads: int) -> dict[str, Any]:
    """OpenVINO's properties for so many threads.

    It binds threads to cores while they compute, and counts the cores from the first one in every process: two engines
    of one thread each, in processes of their own, share a core while another idles (11 frames a second for 21). So
    threads are bound only where they take all cores.
    """
    unbound = {"ENABLE_CPU_PINNING": False} if threads < physical_cores() else {}
    return {"INFERENCE_NUM_THREADS": threads} | unbound


def _core(name: str, openvino: Any, precision: Literal["f32", "bf16"], instead: str) -> Any:
    """OpenVINO with a CPU that has the precision. Raises MissingRuntimeError."""
    core = openvino.Core()
    if DEVICE not in core.available_devices:
        raise MissingRuntimeError(
            f"{name}: OpenVINO finds no {DEVICE} device, only {core.available_devices}; "
            'reinstall it with pip install --force-reinstall -e ".[cpu]".'
        )
    capabilities = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in capabilities:
        raise missing_bf16(name, instead, f"OpenVINO reports {', '.join(capabilities)}")
    return core


def _demand_precision(
    name: str, graph: GraphFile, precision: Literal["f32", "bf16"], compiled: Any, version: str
) -> Counter[str]:
    """What the convolutions were compiled in. Raises BudgetError where that is not what was asked for."""
    kinds = convolution_precisions(compiled)
    integers = sum(kinds[kind] for kind in INTEGERS)
    if set(kinds) - {precision, *(INTEGERS if graph.quantised else ())} or integers < graph.quantised:
        eight = f" and 8 bits in {graph.quantised}" if graph.quantised else ""
        raise BudgetError(
            f"{name}: asked for {precision}{eight}, but OpenVINO compiled the convolutions of {graph.path} as "
            f"{dict(kinds)}; use an engine whose precision this CPU and OpenVINO {version} have."
        )
    return kinds


def free_constants(model: Any) -> int:
    """Make products with a constant on the left, as strip pooling is, follow the hint; how many there were.

    OpenVINO 2026.4 leaves a node's constant operands in float32 where the hint is bf16, and a MatMul then takes the
    wider type for both: the whole map is converted and laid out anew for it (docs/numerics.md). What is computed from
    a constant follows the hint, and one times it is not folded where the one is stored in 8 bits: it looks like a
    weight that is dequantised. Computed once, when the graph is compiled.
    """
    from openvino import opset13

    products = [op for op in model.get_ops() if op.get_type_name() == "MatMul"]
    found = [op for op in products if op.input_value(0).get_node().get_type_name() == "Constant"]
    for op in found:
        one = opset13.convert(opset13.constant(np.ones((1,) * len(op.get_input_shape(0)), np.int8)), "f32")
        op.input(0).replace_source_output(opset13.multiply(one, op.input_value(0)).output(0))
    model.validate_nodes_and_infer_types()
    return len(found)


def compile_openvino(model: onnx.ModelProto, threads: int, precision: str = "f32") -> Any:
    """A graph in memory, compiled as the runner would. Without the CPU's instructions for it OpenVINO computes in
    float32: `convolution_precisions` tells. Needs openvino. Raises InputError as `refuse_fast_math`.
    """
    refuse_fast_math("OpenVINO")
    openvino = _import("a graph")
    core = openvino.Core()
    settings = threading_of(threads) | {"INFERENCE_PRECISION_HINT": precision}
    read = core.read_model(model=model.SerializeToString())
    if precision == "bf16":
        free_constants(read)
    return core.compile_model(read, DEVICE, settings)


def run_openvino(
    model: onnx.ModelProto, threads: int, precision: str = "f32"
) -> Callable[[NDArray[Any]], dict[str, NDArray[Any]]]:
    """A graph of one input that is being worked on, by `compile_openvino`: tensor -> outputs by name."""
    request = compile_openvino(model, threads, precision).create_infer_request()
    names = [value.name for value in model.graph.output]

    def run(tensor: NDArray[Any]) -> dict[str, NDArray[Any]]:
        results = request.infer([np.ascontiguousarray(tensor)])
        return {name: np.array(results[name]) for name in names}

    return run


def realised(graph: Path) -> frozenset[str]:
    """Names of the nodes of a graph file whose kernel has an integer precision, from OpenVINO's runtime model.

    Raises MissingRuntimeError without OpenVINO, InputError for a graph that it refuses.
    """
    core = _import("openvino").Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}
    try:
        compiled = core.compile_model(core.read_model(graph), DEVICE, settings)
    except RuntimeError as error:
        raise InputError(f"OpenVINO cannot open the graph ({_last_line(error)}).") from error
    found: set[str] = set()
    for info, precision in _convolutions(compiled):
        if precision in INTEGERS:
            found.update(str(info["originalLayersNames"].astype(str)).split(","))
    return frozenset(found)


def _convolutions(compiled: Any) -> Iterator[tuple[Any, str]]:
    """What the runtime (execution) model says of each convolution, and the precision that it runs in."""
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if str(info["layerType"].astype(str)) in CONVOLUTIONS:
            yield info, str(info["runtimePrecision"].astype(str))


def _import(who: str) -> Any:
    """The module openvino, which must be imported here only. Raises MissingRuntimeError with the way to get it.

    Its import alone would write a client's id into the user's home and send an event, through a package that it does
    without where that cannot be imported. A person who wants it imports openvino first.
    """
    name = "openvino_telemetry"
    hidden = name not in sys.modules
    try:
        if hidden:
            sys.modules[name] = None  # type: ignore[assignment]  # what import takes for "there is none"
        import openvino
    except ImportError as error:
        raise MissingRuntimeError(
            f'{who}: the package openvino is not installed ({error}); pip install -e ".[cpu]".'
        ) from error
    finally:
        if hidden:
            sys.modules.pop(name, None)
    return openvino


def _last_line(error: Exception) -> str:
    """OpenVINO tells where before it tells what."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def convolution_precisions(compiled: Any) -> Counter[str]:
    """What the convolutions of a compiled model really run in: {"f32": 94}. Reads its runtime (execution) model."""
    return Counter(precision for _, precision in _convolutions(compiled))
