"""What is compared: an engine, and what it is held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from unblur.compare.measure.waterfall import Graphs
from unblur.core.bounds import Size
from unblur.core.console import printable
from unblur.engines.catalogue import REFERENCE, open_engine
from unblur.engines.engine import HANG_SECONDS
from unblur.engines.runner import Runner
from unblur.images.contract import PixelContract
from unblur.networks.checkpoints import Checkpoint


@dataclass(frozen=True)
class Candidate:
    """An engine to compare. `open` gives a runner for one padded (height, width), or (None) for every size.

    `timed`: False leaves it out of the latency measurement, for what only stands in for another engine. `graphs`: what
    it then runs, for its waterfall; None for what runs no graph. `refits`: opening it for another size compiles
    nothing.
    """

    name: str
    open: Callable[[Size | None], Runner]
    timed: bool = True
    graphs: Callable[[Size | None], Graphs | None] | None = None
    refits: bool = False


@dataclass(frozen=True)
class Reference:
    """What every engine is held against; it is a row of its own.

    `text`: in words. `network`, `source` and `digest`: name, file and SHA-256 of the checkpoint or graph. `contract`:
    its pixels. `apart`: opens it in a process of its own, which sessions of latency that are repeated do.
    """

    engine: Candidate
    text: str
    network: str
    source: str
    digest: str
    contract: PixelContract
    apart: Callable[[], Runner]


def torch_reference(checkpoint: Checkpoint, threads: int | None) -> Reference:
    """The checkpoint's network in eager float32 PyTorch."""
    return Reference(
        engine=Candidate(REFERENCE, lambda _: open_engine(REFERENCE, checkpoint, None, threads)),
        text="eager float32 PyTorch",
        network=checkpoint.name,
        source=printable(checkpoint.path.name),
        digest=checkpoint.digest,
        contract=checkpoint.contract,
        apart=lambda: open_engine(REFERENCE, checkpoint, None, threads, hang_s=HANG_SECONDS),
    )
