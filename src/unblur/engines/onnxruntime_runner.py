"""ONNX Runtime on the CPU or an NVIDIA GPU, in the precision that the graph holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from unblur.core.errors import BudgetError, CrashError, InputError, MissingRuntimeError
from unblur.core.leftovers import temporary_folder
from unblur.engines.base import BaseRunner, out_of_memory
from unblur.engines.onnxruntime_buffers import Buffers, CpuPlace, CudaBuffers, CudaPlace
from unblur.engines.tensorrt.cuda_driver import StreamEvents
from unblur.engines.tensorrt.product import find_device
from unblur.graphs.file import GraphFile
from unblur.graphs.onnx_file import reason
from unblur.graphs.sessions import CPU, Provider, as_backend, open_onnxruntime, open_session, refusals

INTEGER_OPERATORS = ("QLinearConv", "ConvInteger")
_OF_THE_GPU = re.compile(r"(CUDA|CUDNN|CUBLAS|CUFFT) failure [^;\n]*[^;\s]")
"""What its CUDA provider says of a call that fails, before it names the machine and its source."""
SHOWN = 5
"""So many nodes are named in an error."""


PROVIDERS = {
    "CUDA": Provider("CUDAExecutionProvider", "gpu", (("use_tf32", "0"),)),
    "CUDA_TF32": Provider("CUDAExecutionProvider", "gpu", (("use_tf32", "1"),), "tf32"),
    # TensorRT's own default allows TF32, and the provider has no option against it.
    "TENSORRT": Provider("TensorrtExecutionProvider", "gpu", (), "tf32"),
}
"""Of NVIDIA GPUs."""


class OnnxRuntimeRunner(BaseRunner):
    """A graph in ONNX Runtime with one execution provider for every node of it, one stream of `threads` threads."""

    def __init__(
        self, name: str, graph: GraphFile, threads: int, provider: Provider = CPU, *, demand_8_bits: bool = False,
        gpu: int = 0,
    ) -> None:  # fmt: skip
        """`gpu`: its number, for a provider that runs on one.

        Raises MissingRuntimeError without the package, the provider or its GPU; InputError for a graph that ONNX
        Runtime refuses, or would run in part with another provider; with `demand_8_bits` BudgetError where a quantised
        convolution would run in floating point.
        """
        onnxruntime = open_onnxruntime(name, provider.extra)
        device = find_device(gpu).name if provider.extra == "gpu" else "cpu"
        _demand_available(onnxruntime, name, provider)
        self._place = CudaPlace(name, gpu, onnxruntime) if provider.extra == "gpu" else CpuPlace(onnxruntime)
        try:
            if provider.extra == "gpu":
                # CUDA and cuDNN out of the packages that PyTorch brings. Where those lie in another folder than ONNX
                # Runtime it finds only what is loaded, as PyTorch's are now: whoever has its memory has imported it.
                onnxruntime.preload_dlls()
            room = 2 * graph.path.stat().st_size if demand_8_bits else 0
            with self._place.active(), temporary_folder(room) as folder:
                optimised = folder / "optimised.onnx" if demand_8_bits else None
                options = dict(provider.options) | self._place.options
                session = _open_session(onnxruntime, name, graph, threads, provider, options, optimised)
                if optimised is not None:
                    _demand_8_bits(name, graph, len(integer_convolutions(optimised)))
            _demand_provider(session, name, graph, provider)
        except BaseException:
            self._place.close()
            raise
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
        self._names = (session.get_inputs()[0].name, graph.output)
        self._buffers: Buffers | None = None
        self._graph = graph

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        refused: tuple[type[Exception], ...] = (*refusals(), RuntimeError)
        try:
            with self._place.active():
                return self._find_buffers(tensor).run(tensor)
        except refused as error:
            if out_of_memory(error):  # `run` says how large the frame was
                raise RuntimeError(str(error)) from error
            if failure := _OF_THE_GPU.search(str(error)):
                raise CrashError(f"The GPU fails in ONNX Runtime: {failure[0]}.") from error
            raise InputError(
                f"ONNX Runtime cannot run {self._graph.path} ({reason(error)}); is it a deblurring network? Export it "
                "again."
            ) from error

    def _find_buffers(self, like: NDArray[Any]) -> Buffers:
        if self._buffers is None or self._buffers.shape != like.shape:
            self._buffers = None  # before the next: memory for one size at a time
            self._buffers = self._place.buffers(self._session, self._names, like)
        return self._buffers

    def _release(self) -> None:
        # The stream and the memory outlive what works with them.
        try:
            self._buffers = self._session = None
        finally:
            self._place.close()


class OnnxRuntimeCudaRunner(OnnxRuntimeRunner):
    """On an NVIDIA GPU, where the work of a frame can be queued and waited for apart from the copies."""

    _place: CudaPlace

    @contextmanager
    def resident(self, shape: tuple[int, ...]) -> Iterator[Callable[[], None]]:
        """The work of one frame of `shape` on what lies in the bound memory there; each call queues it."""
        with self._place.active():
            buffers = self._find_buffers(np.empty(shape, self._signature.contract.dtype))
            assert isinstance(buffers, CudaBuffers)
            try:
                yield buffers.enqueue
            finally:  # the memory is the next frame's
                self._place.stream.synchronize()

    def wait(self) -> None:
        """Return when all that was queued is done."""
        with self._place.active():
            self._place.stream.synchronize()

    def events(self) -> AbstractContextManager[StreamEvents]:
        """On the session's stream."""
        return self._place.events()


def _open_session(
    onnxruntime: Any, name: str, graph: GraphFile, threads: int, provider: Provider, given: dict[str, str],
    optimised: Path | None,
) -> Any:  # fmt: skip
    """`given`: the provider's options. `optimised`: where ONNX Runtime shall save the graph that it really runs."""
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
            str(graph.path), options, providers=_providers(provider, given), enable_fallback=0
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


def realised(graph: Path) -> frozenset[str]:
    """Names of the convolutions of a graph file that ONNX Runtime computes in integers.

    Raises MissingRuntimeError without it, InputError for a graph that it refuses.
    """
    with temporary_folder(2 * graph.stat().st_size) as folder:
        optimised = folder / "optimised.onnx"

        def saved(options: Any, onnxruntime: Any) -> None:
            as_backend(options, onnxruntime)
            options.optimized_model_filepath = str(optimised)

        open_session(onnx.load(graph), adjust=saved)
        return integer_convolutions(optimised)


def integer_convolutions(optimised: Path) -> frozenset[str]:
    """Names of the convolutions that became integer ones, from the optimised graph that ONNX Runtime saves."""
    nodes = onnx.load(optimised, load_external_data=False).graph.node
    # A fused node has the name of the convolution and a counter: body.1.conv/Conv_token_17.
    return frozenset(node.name.partition("_token_")[0] for node in nodes if node.op_type in INTEGER_OPERATORS)


def _demand_8_bits(name: str, graph: GraphFile, found: int) -> None:
    if found < graph.quantised:
        raise BudgetError(
            f"{name}: {graph.path} asks for 8 bits in {graph.quantised} convolutions, and ONNX Runtime would run "
            f"{graph.quantised - found} of them in floating point; quantise in the form 'onnxruntime'."
        )


def _demand_available(onnxruntime: Any, name: str, provider: Provider) -> None:
    if provider.name not in onnxruntime.get_available_providers():
        raise MissingRuntimeError(
            f'{name}: this onnxruntime has no {provider.name}; pip install -e ".[{provider.extra}]", in an '
            "environment without the other build of onnxruntime."
        )


def _providers(provider: Provider, options: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    return [(provider.name, options)]


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
