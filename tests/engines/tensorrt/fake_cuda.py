"""A fake GPU: memory, streams, events and graphs whose work is done late and in an order drawn from a seed.

Every address is a real one of this process: a copy moves bytes, and a wrong address is caught (`GpuFaultError`). Work
waits in its stream. Whatever touches the GPU lets a random number of pieces of random streams go on, each after what it
must wait for, and only synchronising guarantees that a piece is done: a missing synchronisation or a buffer used again
too early gives wrong bytes for some seed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 256
COPY_MS, ENGINE_MS = 3.0, 7.0
"""What a copy and a frame of an engine take by the GPU's own clock; anything else takes no time."""


class GpuFaultError(Exception):
    """What a real GPU would answer with an illegal access, or with nothing at all."""


class OutOfMemoryError(Exception):
    """An allocation that does not fit."""


@dataclass(eq=False)
class Event:
    """A point of a stream: done when all work before it is, at `at_ms` of the GPU's clock where it keeps the time. What
    is recorded during a capture is part of the graph, and never done by itself.
    """

    done: bool = True
    timing: bool = False
    at_ms: float | None = None
    captured: bool = False


@dataclass(eq=False)
class Stream:
    """Work in order. While `graph` is a list, work is recorded there instead of being queued."""

    handle: int
    work: deque[Callable[[], bool]] = field(default_factory=deque)
    graph: list[tuple[Callable[[], None], float]] | None = None


class FakeGpu:
    """One GPU with `memory_bytes` of memory. `seed` None: nothing is done before somebody waits for it."""

    name = "Fake GPU"
    driver = "580.65.06"
    now_ms = 0.0
    """Its own clock, which only its work moves."""

    def __init__(self, memory_bytes: int = 1 << 30, seed: int | None = None) -> None:
        self.memory_bytes = memory_bytes
        self._random = random.Random(seed) if seed is not None else None
        self._blocks: dict[int, NDArray[np.uint8]] = {}
        self.streams: dict[int, Stream] = {}
        self.device_of: dict[int, int] = {}
        """Addresses of memory that belongs to another device than this one."""
        self._next = 0x1000

    @property
    def free_bytes(self) -> int:
        return self.memory_bytes - sum(block.nbytes for block in self._blocks.values())

    def allocate(self, nbytes: int) -> int:
        """The address of new memory, aligned as CUDA aligns it and full of rubbish."""
        if nbytes > self.free_bytes:
            raise OutOfMemoryError(f"{nbytes} bytes asked, {self.free_bytes} free")
        block = np.full(nbytes + ALIGNMENT, 0xA5, np.uint8)
        first = -block.ctypes.data % ALIGNMENT
        block = block[first : first + nbytes]
        self._blocks[block.ctypes.data] = block
        return int(block.ctypes.data)

    def release(self, address: int) -> None:
        """Give memory back. Work that still uses it faults, as on a GPU at its worst."""
        if address not in self._blocks:
            raise GpuFaultError(f"{address:#x} is freed twice, or was never allocated")
        self._blocks.pop(address)

    def lives(self, address: int) -> bool:
        """Whether an allocation begins there."""
        return address in self._blocks

    def bytes_at(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """The memory itself. Raises GpuFaultError unless it lies inside one living allocation."""
        for start, block in self._blocks.items():
            if start <= address and address + nbytes <= start + block.nbytes:
                return block[address - start : address - start + nbytes]
        raise GpuFaultError(f"illegal access: {nbytes} bytes at {address:#x}")

    def stream(self) -> Stream:
        self._next += 0x10
        self.streams[self._next] = Stream(self._next)
        return self.streams[self._next]

    def submit(self, handle: int, work: Callable[[], Any], ms: float = 0.0) -> None:
        """Queue work that takes so long on a stream, or record it in the graph that the stream is capturing."""
        stream = self.find(handle)
        if stream.graph is not None:
            stream.graph.append((work, ms))
            return

        def piece() -> bool:
            work()
            self.now_ms += ms
            return True

        stream.work.append(piece)
        self._let_go_on()

    def find(self, handle: int) -> Stream:
        if handle not in self.streams:
            raise GpuFaultError(f"{handle:#x} is no stream")
        return self.streams[handle]

    def begin_capture(self, handle: int) -> None:
        stream = self.find(handle)
        if stream.graph is not None:
            raise GpuFaultError("the stream captures already")
        stream.graph = []

    def end_capture(self, handle: int) -> list[tuple[Callable[[], None], float]]:
        stream = self.find(handle)
        if stream.graph is None:
            raise GpuFaultError("the stream captures nothing")
        graph, stream.graph = stream.graph, None
        return graph

    def record(self, handle: int, timing: bool = False) -> Event:
        event = Event(done=False, timing=timing)

        def reached() -> bool:
            event.done, event.at_ms = True, self.now_ms
            return True

        stream = self.find(handle)
        event.captured = stream.graph is not None
        if not event.captured:
            stream.work.append(reached)
        return event

    def wait(self, handle: int, event: Event) -> None:
        """Work queued later on this stream starts only when the event is done."""
        self._refuse_capture(handle)
        self.find(handle).work.append(lambda: event.done)
        self._let_go_on()

    def synchronize(self, what: int | Event | None = None) -> None:
        """Until a stream (its handle) is empty, an event done, or (None) everything."""
        while not self._is_done(what):
            busy = [stream for stream in self.streams.values() if stream.work]
            if not any(self._step(stream) for stream in busy):
                raise GpuFaultError("everything waits for an event that nobody records")

    def _refuse_capture(self, handle: int) -> None:
        if self.find(handle).graph is not None:
            raise GpuFaultError("not permitted while the stream captures")

    def _is_done(self, what: int | Event | None) -> bool:
        if isinstance(what, Event):
            return what.done
        streams = self.streams.values() if what is None else [self.find(what)]
        if any(stream.graph is not None for stream in streams):
            raise GpuFaultError("synchronised while a stream captures")
        return not any(stream.work for stream in streams)

    def _step(self, stream: Stream) -> bool:
        """Do the stream's next piece. False: it waits."""
        if not stream.work or not stream.work[0]():
            return False
        stream.work.popleft()
        return True

    def _let_go_on(self) -> None:
        if self._random is None:
            return
        for _ in range(self._random.randrange(4)):
            self._step(self._random.choice(list(self.streams.values())))


def host_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """A contiguous array's memory as bytes, without a copy."""
    return array.reshape(-1).view(np.uint8)
