"""TensorRT on an NVIDIA GPU: the data-centre product and TensorRT for RTX behind one runner.

Three streams: up, compute, down. Each size has one or two slots of pinned and device memory, with events between the
streams, so that while one frame is computed the next is on its way up and the last on its way down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from math import sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unblur.core.bounds import Size
from unblur.core.errors import CrashError, InputError, UnblurError
from unblur.engines.base import BaseRunner
from unblur.engines.tensorrt.cache import runtime_cache_path
from unblur.engines.tensorrt.cuda_driver import Stream, StreamEvents
from unblur.engines.tensorrt.cuda_memory import DeviceBlock, DeviceMemoryError, events_on, open_memory
from unblur.engines.tensorrt.device_array import describe
from unblur.engines.tensorrt.execution import Execution
from unblur.engines.tensorrt.file import EngineFile
from unblur.engines.tensorrt.manifest import check_manifest
from unblur.engines.tensorrt.plan import Plan
from unblur.engines.tensorrt.product import driver_version, find_device, open_product
from unblur.engines.tensorrt.slot import Slot
from unblur.engines.tensorrt.targets import demand_supported
from unblur.images.signature import Signature

SIZES_MAX = 8
"""So many sizes keep their memory and graphs; then the one unused for longest makes room."""

SLOTS = 2


class TensorRtRunner(BaseRunner):
    """An engine file on one GPU. Beside `run`: `run_many` for folders and video, `run_on_device` without copies.

    One thread at a time.
    """

    def __init__(
        self,
        name: str,
        file: EngineFile,
        *,
        memory: Literal["auto", "torch", "pycuda"] = "auto",
        cuda_graph: bool = True,
        gpu: int = 0,
    ) -> None:
        """Raises MissingRuntimeError without the product, a driver, a GPU or a memory library; InputError for an
        engine that cannot run here: damaged, of another version or GPU, or too large for the free memory.
        """
        product = open_product(file.product)
        device = find_device(gpu, product)
        demand_supported(product, device)
        check_manifest(file.manifest, file.path, product, device)
        self._memory = open_memory(name, memory, gpu)
        self._cuda_graph = cuda_graph
        self._slots: dict[Size, list[Slot]] = {}
        self._bound: dict[Size, Execution] = {}
        self._fresh = False
        try:
            with self._memory.active():
                kept = runtime_cache_path(file.path, device, driver_version())
                self._plan = Plan(product, file, kept, cuda_graph)
                try:
                    self._scratch: DeviceBlock | None = self._allocate_scratch()
                    self._up, self._compute, self._down = (Stream(self._memory.driver) for _ in range(3))
                except BaseException:
                    self._plan.close()  # while the context that it lives in is there
                    raise
        except BaseException:
            self._memory.close()
            raise
        profiles, found, suboptimal = self._plan.profiles, self._plan.found, self._plan.suboptimal
        only = profiles[0].most if len(profiles) == 1 and profiles[0].is_fixed else (None, None)
        super().__init__(
            Signature(file.contract, *only),
            {
                "backend": product.name,
                "version": product.version,
                "device": device.name,
                "threads": "1",
                "precision": "f32" if file.precision == "fp32" else file.precision,  # as the other backends say
                "mode": "CUDA graph requested" if cuda_graph else "no CUDA graph",
                "memory": self._memory.name,
                "engine": file.digest,
                **({"kernels": found} if found else {}),
                **({"engine fits": "runs here, built for another GPU; build it for this one"} if suboptimal else {}),
            },
        )

    @property
    def description(self) -> dict[str, str]:
        """As every runner's. `mode` says "CUDA graph" once frames were replayed from one, and why not where refused."""
        told = super().description
        executions = [slot.execution for slots in self._slots.values() for slot in slots] + [*self._bound.values()]
        refused = [execution.refused for execution in executions if execution.refused]
        if refused:
            told["mode"] = f"no CUDA graph: {refused[0]}"
        elif executions:
            with suppress(UnblurError), self._memory.active():  # TensorRT for RTX asks the stream, of this GPU
                told["mode"] = "CUDA graph" if any(one.replays for one in executions) else told["mode"]
        return told

    def run_many(self, tensors: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Results in order, one behind: reading the next tensor and using the last result cost no GPU time.

        Raises as `run`, when it comes to that tensor. Sizes may change on the way.
        """
        waiting: deque[Slot] = deque()
        try:
            for tensor in tensors:
                # Another size may have to make room, and must not take the memory of frames on their way.
                while len(waiting) == SLOTS or (waiting and waiting[0].input.shape != tensor.shape):
                    yield self._collect(waiting.popleft())
                self._check(tensor)
                waiting.append(self._submit(tensor))
            while waiting:
                yield self._collect(waiting.popleft())
        finally:
            while waiting and self._open:
                self._collect(waiting.popleft())

    def run_on_device(self, source: Any, target: Any, *, stream: int | None = None) -> None:
        """From one array on the device to another of the same shape and type, without a copy; done when it returns.

        Both are PyTorch CUDA tensors, or anything with `__cuda_array_interface__`: whole, contiguous and aligned to
        256 bytes, in the contract's layout. The same pair again costs least. `stream` is the handle of the stream
        that filled `source`; None asks the array. Raises InputError for arrays that do not fit.
        """
        given, wanted = describe(source), describe(target)
        self._check(given)
        if (given.shape, given.dtype) != (wanted.shape, wanted.dtype):
            raise InputError(f"The output is {wanted.shape} {wanted.dtype}, the input {given.shape} {given.dtype}.")
        with self._memory.active():
            size = self._plan.size(given.shape)
            if size not in self._bound:
                self._make_room(self._bound)
                self._bound[size] = self._new_execution(size)
            for array in (given, wanted):
                here, there = self._memory.driver.number, self._memory.driver.device_of(array.address)
                if there != here:
                    raise InputError(f"The array is on cuda:{there}, the engine on cuda:{here}; copy it there.")
            # What fills the input, and whoever still reads the last result out of the output.
            self._memory.driver.synchronize(given.stream if stream is None else stream)
            self._memory.driver.synchronize(wanted.stream)
            self._bound[size].point(given.address, wanted.address)
            self._bound[size].enqueue()
            self._compute.synchronize()
            self._keep_kernels()

    @contextmanager
    def resident(self, shape: tuple[int, ...]) -> Iterator[Callable[[], None]]:
        """The work of one frame of `shape` on what lies in the engine's own memory there, no copies; each call queues
        it and does not wait. Raises InputError for a size that the engine does not take.
        """
        with self._memory.active():
            enqueue = self._free_slot(self._plan.size(shape)).execution.enqueue
            try:
                yield enqueue
            finally:  # the slot's memory is the next frame's
                self._compute.synchronize()

    def wait(self) -> None:
        """Return when all that was queued is done."""
        with self._memory.active():
            self._compute.synchronize()

    def events(self) -> AbstractContextManager[StreamEvents]:
        """On the stream of the engine's work."""
        return events_on(self._memory, self._compute)

    def _check(self, tensor: Any) -> None:
        if not self._open:
            raise RuntimeError(f"This {self._description['backend']} runner is closed; open the engine again.")
        self._signature.check(tensor)

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        return self._collect(self._submit(tensor))

    def _submit(self, tensor: NDArray[Any]) -> Slot:
        """Send a frame on its way."""
        with self._memory.active():
            slot = self._free_slot(self._plan.size(tensor.shape))
            np.copyto(slot.input, tensor)
            slot.busy = True  # from here the GPU may read its memory, also where a later step fails
            try:
                self._up.upload(slot.source.address, slot.sent_at, slot.source.nbytes)
                self._up.record(slot.uploaded)
                self._compute.wait(slot.uploaded)
                slot.execution.enqueue()
                self._compute.record(slot.computed)
                self._down.wait(slot.computed)
                self._down.download(slot.received_at, slot.target.address, slot.target.nbytes)
                self._down.record(slot.downloaded)
            except UnblurError:
                with suppress(UnblurError):  # a sticky error stands in the way of this too, and the slot stays busy
                    for stream in (self._up, self._compute, self._down):
                        stream.synchronize()
                    slot.busy = False
                raise
            return slot

    def _collect(self, slot: Slot) -> NDArray[Any]:
        """Wait for a frame. Then its slot is free: all of its work is done, for each step waited for the last."""
        with self._memory.active():
            slot.downloaded.synchronize()
            self._keep_kernels()
        slot.busy = False
        return slot.output.copy()

    def _free_slot(self, size: Size) -> Slot:
        slots = self._slots.pop(size, [])
        if not slots:
            self._make_room(self._slots)
        self._slots[size] = slots  # the latest is the last
        for slot in slots:
            if not slot.busy:
                return slot
        if len(slots) == SLOTS:
            raise RuntimeError("Two frames of this size are on their way already; take a result of run_many first.")
        slots.append(self._new_slot(size))
        return slots[-1]

    def _new_slot(self, size: Size) -> Slot:
        execution = self._new_execution(size)
        dtype, nbytes = self._signature.contract.dtype, self._plan.tensor_bytes(size)
        try:
            return Slot(execution, self._memory, nbytes, self._plan.shape(size), dtype)
        except DeviceMemoryError as error:
            raise self._too_large(2 * nbytes, size) from error

    def _new_execution(self, size: Size) -> Execution:
        assert self._scratch is not None
        self._fresh = True
        return Execution(self._plan, size, self._scratch, self._compute, self._cuda_graph)

    def _keep_kernels(self) -> None:
        """After the first frame of a size: they took minutes to make, and a process may not come to its close."""
        if self._fresh:
            self._fresh = False
            self._plan.keep_kernels()

    def _make_room(self, sizes: dict[Size, Any]) -> None:
        """Give up the size unused for longest, when there are too many."""
        if len(sizes) < SIZES_MAX:
            return
        for size, opened in sizes.items():
            opened = opened if isinstance(opened, list) else [opened]
            if not any(getattr(one, "busy", False) for one in opened):
                for one in opened:
                    for step in one.closing() if isinstance(one, Slot) else [one.close]:
                        step()
                del sizes[size]
                return

    def _allocate_scratch(self) -> DeviceBlock:
        needed = self._plan.scratch_bytes
        try:
            return self._memory.device_block(max(needed, 1))
        except DeviceMemoryError as error:
            largest = max((profile.most for profile in self._plan.profiles), key=lambda size: size[0] * size[1])
            raise self._too_large(needed, largest) from error

    def _too_large(self, needed: int, size: Size) -> InputError:
        """Memory grows with the pixels, which gives the size that would fit."""
        free = self._memory.free_bytes()
        scale, step = sqrt(min(1.0, free / needed)), self._plan.multiple
        height, width = (int(side * scale) // step * step for side in size)
        fits = f"about {height}x{width} would fit" if min(height, width) > 0 else "no size would fit"
        return InputError(
            f"The engine needs {needed / 2**20:.0f} MiB more of GPU memory for frames of {size[0]}x{size[1]}, and "
            f"{free / 2**20:.0f} MiB are free; {fits}: build it for smaller frames with --shapes, or free some memory."
        )

    def _release(self) -> None:
        streams = (self._up, self._compute, self._down)
        slots = [slot for slots in self._slots.values() for slot in slots]
        steps: list[Callable[[], None]] = [stream.synchronize for stream in streams]
        steps += [step for slot in slots for step in slot.closing()]
        # Contexts, then the engine, then the memory under them.
        steps += [*(execution.close for execution in self._bound.values()), self._plan.close, self._drop_memory]
        steps += [stream.close for stream in streams]
        errors: list[UnblurError] = []

        def attempt(step: Callable[[], None]) -> None:
            # Each by itself: after a sticky error of CUDA every call fails, and the memory must be given back even so.
            try:
                step()
            except UnblurError as error:
                errors.append(error)

        try:
            with self._memory.active():
                for step in steps:
                    attempt(step)
        except UnblurError as error:
            errors.append(error)
        finally:
            slots.clear()
            steps.clear()  # they hold the slots' memory, and a traceback may hold them
            self._drop_memory()
            attempt(self._memory.close)
        if errors:
            raise CrashError(f"{errors[0]} The GPU is unusable for this process; restart it.") from errors[0]

    def _drop_memory(self) -> None:
        self._slots, self._bound, self._scratch = {}, {}, None
