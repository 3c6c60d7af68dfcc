"""The processes that train together: one, or as many as torchrun started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from unblur.core.errors import InputError, MissingRuntimeError


@dataclass(frozen=True)
class Team:
    """This process's place: `rank` of `size`, on `device`."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Rank 0 writes files and reports."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """Samples of each batch that fall to one process. Raises InputError when they do not come out even."""
        if batch % self.size:
            raise InputError(f"A batch of {batch} cannot be shared by {self.size} processes; make it a multiple.")
        return batch // self.size

    def mean(self, value: float) -> float:
        """The mean of every process's `value`; all of them must ask."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total) / self.size

    def wait(self) -> None:
        """Until every process has come this far."""
        if self.size > 1:
            dist.barrier()


@contextlib.contextmanager
def assemble(device: str) -> Iterator[Team]:
    """Join the processes torchrun started (NCCL between GPUs, Gloo between CPUs), or be a team of one.

    `device` is "auto", "cpu" or "cuda". Raises MissingRuntimeError when CUDA is asked for and missing.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingRuntimeError('device = "cuda", but torch finds no CUDA device; use "auto" or "cpu".')
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(0, 1, torch.device(kind))
        return
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device("cpu")
    if own.type == "cuda":
        torch.cuda.set_device(own)
    # The others wait while the first draws the scenes, which may take longer than torch's ten minutes.
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=timedelta(hours=6))
    try:
        yield Team(dist.get_rank(), size, own)
    finally:
        dist.destroy_process_group()
