"""One execution of a plan: a context for one size, with addresses that stay, replayed as a CUDA graph."""

from __future__ import annotations

from typing import Any

from unblur.core.errors import CrashError, InputError
from unblur.engines.tensorrt.cuda_driver import Graph, Stream
from unblur.engines.tensorrt.cuda_memory import DeviceBlock
from unblur.engines.tensorrt.plan import Plan
from unblur.engines.tensorrt.profiles import choose_profile

ALIGNMENT = 256
"""Bytes: `IExecutionContext::setTensorAddress` asks for it (NvInferRuntime.h)."""


class Execution:
    """A context of its own for (height, width). Contexts share `scratch`, so all must be enqueued on one stream.

    The data-centre product runs once as it is, which settles what depends on shapes, and is captured the second time
    (TensorRT's own sampleInference.cpp); TensorRT for RTX captures by itself. New addresses begin anew.
    Where a capture is refused it goes on without one, and `refused` says why.
    Raises InputError for a size outside every profile, CrashError where TensorRT refuses.
    """

    def __init__(
        self, plan: Plan, size: tuple[int, int], scratch: DeviceBlock, stream: Stream, cuda_graph: bool
    ) -> None:
        self._plan = plan
        self._stream = stream
        self._asked, self._captures = cuda_graph, cuda_graph and not plan.is_rtx
        self.refused = ""
        self._graph: Graph | None = None
        self._ran = False
        self._addresses = (0, 0)
        profile = choose_profile(plan.profiles, *size)
        self._context: Any = plan.new_context()
        try:
            self._prepare(profile, plan.shape(size), scratch)
        except BaseException:
            self._context = None  # while the GPU's context is there; a traceback may hold all of this for long
            raise

    def _prepare(self, profile: int, shape: tuple[int, ...], scratch: DeviceBlock) -> None:
        plan = self._plan
        if len(plan.profiles) > 1:
            done = self._context.set_optimization_profile_async(profile, self._stream.handle)
            plan.demand(done, "set_optimization_profile_async", str(profile))
            self._stream.synchronize()
        plan.demand(self._context.set_input_shape(plan.source, shape), "set_input_shape", f"{plan.source}, {shape}")
        try:
            missing = self._context.infer_shapes()
        except RuntimeError as error:  # the bindings raise where something else is wrong than a shape that is missing
            raise CrashError(f"TensorRT refuses infer_shapes() for {shape}: {error}{plan.reason()}.") from error
        given = tuple(self._context.get_tensor_shape(plan.target))
        if missing or given != shape:
            raise CrashError(f"TensorRT makes {given} of {shape}, with no shape for {missing}; build the engine again.")
        self._context.set_device_memory(scratch.address, scratch.nbytes)

    def point(self, source: int, target: int) -> None:
        """Read the input from one address of the device and write the output to the other."""
        if (source, target) == self._addresses:
            return
        self._forget()
        for name, address in ((self._plan.source, source), (self._plan.target, target)):
            if address % ALIGNMENT:
                raise InputError(f"{name!r} at {address:#x} is not aligned to {ALIGNMENT} bytes; pass a whole tensor.")
            self._plan.demand(self._context.set_tensor_address(name, address), "set_tensor_address", name)
        self._addresses = (source, target)

    def enqueue(self) -> None:
        """Put the work on the stream; it is not done when this returns."""
        if self._graph is None and self._captures and self._ran:
            try:
                self._graph = self._stream.capture(self._execute)
            except CrashError as error:
                self._captures, self.refused = False, str(error)
        if self._graph is not None:
            self._graph.launch(self._stream)
            return
        self._execute()
        self._ran = True

    @property
    def replays(self) -> bool:
        """Whether the work was captured and is replayed. TensorRT for RTX tells only whether it could be."""
        if self._plan.is_rtx:
            return self._asked and self._ran and bool(self._context.is_stream_capturable(self._stream.handle))
        return self._graph is not None

    def close(self) -> None:
        """Nothing of it may be running."""
        try:
            self._forget()
        finally:
            self._context = None

    def _execute(self) -> None:
        self._plan.demand(self._context.execute_async_v3(self._stream.handle), "execute_async_v3")

    def _forget(self) -> None:
        graph, self._graph, self._ran, self._addresses = self._graph, None, False, (0, 0)
        if graph is not None:
            graph.close()
