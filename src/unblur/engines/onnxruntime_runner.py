"""ONNX Runtime on the CPU or an NVIDIA GPU, in the precision that the graph holds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from unblur.core.errors import BudgetError, InputError, MissingRuntimeError
from unblur.engines.base import BaseRunner, out_of_memory
from unblur.engines.tensorrt.product import probe_driver
from unblur.graphs.file import GraphFile
from unblur.graphs.onnx_file import reason
from unblur.graphs.sessions import CPU, Provider, open_onnxruntime, refusals

INTEGER_OPERATORS = ("QLinearConv", "ConvInteger")
SHOWN = 5
"""So many nodes are named in an error."""


CUDA = Provider("CUDAExecutionProvider", "gpu", (("device_id", "0"), ("use_tf32", "0")))
CUDA_TF32 = Provider("CUDAExecutionProvider", "gpu", (("device_id", "0"), ("use_tf32", "1")), "tf32")
# TensorRT's own default allows TF32, and the provider has no option against it.
TENSORRT = Provider("TensorrtExecutionProvider", "gpu", (("device_id", "0"),), "tf32")


class OnnxRuntimeRunner(BaseRunner):
    """A graph in ONNX Runtime with one execution provider for every node of it, one stream of `threads` threads."""

    def __init__(
        self, name: str, graph: GraphFile, threads: int, provider: Provider = CPU, *, demand_8_bits: bool = False
    ) -> None:
        """Raises MissingRuntimeError without the package, the provider or its GPU; InputError for a graph that ONNX
        Runtime refuses, or would run in part with another provider; with `demand_8_bits` BudgetError where a quantised
        convolution would run in floating point.
        """
        onnxruntime = open_onnxruntime(name, provider.extra)
        device = "cpu"
        if provider.extra == "gpu":
            device = probe_driver().devices[0].name
            onnxruntime.preload_dlls()  # CUDA and cuDNN out of the packages that PyTorch brings
        with tempfile.TemporaryDirectory(prefix="unblur-") as folder:
            optimised = Path(folder) / "optimised.onnx" if demand_8_bits else None
            session = _open_session(onnxruntime, name, graph, threads, provider, optimised)
            if optimised is not None:
                _demand_8_bits(name, graph, len(integer_convolutions(optimised)))
        _demand_provider(session, name, graph, provider)
        converted = graph.precision == "f32" and provider.precision
        super().__init__(
            graph.signature,
            {
                "backend": "onnxruntime",
                "version": onnxruntime.__version__,
                "device": f"{device} ({provider.name})",
                "threads": str(threads),
                "precision": provider.precision if converted and provider.precision else graph.precision,
                "graph": f"{graph.signature.sizes}, {graph.digest}",
                **({"calibration": graph.calibration} if graph.calibration else {}),
            },
        )
        self._session: Any = session
        self._input = session.get_inputs()[0].name
        self._graph = graph

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        feed = {self._input: np.ascontiguousarray(tensor)}
        try:
            result: NDArray[Any] = self._session.run([self._graph.output], feed)[0]
        except refusals() as error:
            if out_of_memory(error):  # `run` says how large the frame was
                raise RuntimeError(str(error)) from error
            raise InputError(f"ONNX Runtime cannot run {self._graph.path} ({reason(error)}); export again.") from error
        return result

    def _release(self) -> None:
        self._session = None


def _open_session(
    onnxruntime: Any, name: str, graph: GraphFile, threads: int, provider: Provider, optimised: Path | None
) -> Any:
    """`optimised`: where ONNX Runtime shall save the graph that it really runs."""
    if provider.name not in onnxruntime.get_available_providers():
        raise MissingRuntimeError(
            f'{name}: this onnxruntime has no {provider.name}; pip install -e ".[{provider.extra}]", in an '
            "environment without the other build of onnxruntime."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors: the warnings are about its own graph rewriting
    # Threads that spin on after a run would slow whoever runs next, in a comparison above all.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    try:
        # Without enable_fallback=0 a provider that fails is replaced by the CPU, and a line is printed.
        session = onnxruntime.InferenceSession(
            str(graph.path), options, providers=_options(provider), enable_fallback=0
        )
    except refusals() as error:
        raise InputError(f"ONNX Runtime cannot open {graph.path} ({reason(error)}); export it again.") from error
    except (RuntimeError, ValueError) as error:
        if provider.extra == "cpu":
            raise InputError(f"ONNX Runtime cannot open {graph.path} ({reason(error)}); export it again.") from error
        # libraries or a device are missing
        raise MissingRuntimeError(f"{name}: {provider.name} does not start ({reason(error)}).") from error
    session.disable_fallback()
    return session


def integer_convolutions(optimised: Path) -> set[str]:
    """Names of the convolutions that became integer ones, from the optimised graph that ONNX Runtime saves."""
    nodes = onnx.load(optimised, load_external_data=False).graph.node
    # A fused node has the name of the convolution and a counter: body.1.conv/Conv_token_17.
    return {node.name.partition("_token_")[0] for node in nodes if node.op_type in INTEGER_OPERATORS}


def _demand_8_bits(name: str, graph: GraphFile, found: int) -> None:
    if found < graph.quantised:
        raise BudgetError(
            f"{name}: {graph.path} asks for 8 bits in {graph.quantised} convolutions, and ONNX Runtime would run "
            f"{graph.quantised - found} of them in floating point; quantise in the form 'onnxruntime'."
        )


def _options(provider: Provider) -> list[tuple[str, dict[str, str]]]:
    return [(provider.name, dict(provider.options))]


def _demand_provider(session: Any, name: str, graph: GraphFile, provider: Provider) -> None:
    """ONNX Runtime adds the CPU to every list, and gives it whatever the provider does not take."""
    if session.get_providers()[0] != provider.name:
        raise MissingRuntimeError(f"{name}: ONNX Runtime chose {session.get_providers()} instead of {provider.name}.")
    strangers = [
        f"{node.name or node.op_type} ({part.ep_name})"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider.name
        for node in part.get_nodes()
    ]
    if strangers:
        more = f" and {len(strangers) - SHOWN} more" if len(strangers) > SHOWN else ""
        raise InputError(
            f"{name}: {len(strangers)} nodes of {graph.path} would not run with {provider.name}: "
            f"{', '.join(strangers[:SHOWN])}{more}; export the graph for one size, without --dynamic."
        )
