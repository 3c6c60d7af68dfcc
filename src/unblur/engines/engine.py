"""What an engine is: one record. Names, choices, keys of results and lists in help texts are derived from it.

Light to import: whatever a backend needs, `Engine.open` imports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from unblur.core.errors import InputError

if TYPE_CHECKING:
    from unblur.engines.runner import Runner
    from unblur.engines.source import Weights
    from unblur.engines.tensorrt.file import EngineFile
    from unblur.engines.tensorrt.product import Device
    from unblur.graphs.file import GraphFile

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8", "fp8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

HANG_SECONDS = 600.0
"""Until a call to an engine in a process of its own is taken for one that never ends. The slowest honest ones are first
frames of torch.compile, which take minutes on two cores of 2024."""


@dataclass(frozen=True)
class Opening:
    """What `Engine.open` gets: the engine's name, the file it runs and the checkpoint, as far as there are any, threads
    of the CPU and the number of the GPU.
    """

    name: str
    weights: Weights | None
    file: GraphFile | EngineFile | None
    threads: int
    gpu: int = 0

    @property
    def checkpoint(self) -> Weights:
        """Raises InputError where there is none."""
        if self.weights is None:
            raise InputError(f"{self.name} runs a checkpoint, and there is none here, only graphs; leave it out.")
        return self.weights

    @property
    def graph(self) -> GraphFile:
        """Of an engine that runs graphs."""
        from unblur.graphs.file import GraphFile

        assert isinstance(self.file, GraphFile)
        return self.file

    @property
    def engine(self) -> EngineFile:
        """Of an engine that runs engine files."""
        from unblur.engines.tensorrt.file import EngineFile

        assert isinstance(self.file, EngineFile)
        return self.file


def _any_gpu(_: Device) -> bool:
    return True


@dataclass(frozen=True)
class Engine:
    """An engine: what it is, what it needs and how it is opened.

    `backend` groups engines that `--precision` chooses from; its first is called as it is. `runs`: the checkpoint
    itself, an exported graph, or an engine file. `packages`: distributions that can be the runtime's, all of which go
    into the key of whatever it made or measured; `module` is what they install. `form`: how the 8-bit graph that it
    runs is written (unblur.graphs.rewrites.forms), "" where none is demanded. `fixed`: it needs a graph of one size.
    `realised`: the convolutions of an 8-bit graph file that it computes in integers. `supports`: whether it runs on a
    GPU, as far as that shows without opening it.
    """

    name: str
    backend: str
    precision: Precision
    runs: Literal["checkpoint", "graph", "engine"]
    device: Literal["cpu", "cuda"]
    packages: frozenset[str]
    module: str
    open: Callable[[Opening], Runner] = field(repr=False)
    text: str = ""
    form: str = ""
    fixed: bool = False
    realised: Callable[[Path], frozenset[str]] | None = field(default=None, repr=False)
    supports: Callable[[Device], bool] = field(default=_any_gpu, repr=False)

    @property
    def calibrated(self) -> bool:
        """Whether what it runs is calibrated on frames."""
        return self.precision in ("int8", "fp8")
