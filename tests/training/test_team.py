"""Two processes under torchrun train the network that one process trains."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unblur.core.errors import InputError, MissingRuntimeError
from unblur.training.config import load_config
from unblur.training.loop import train
from unblur.training.team import Team, assemble

DOOR = Path(__file__).parents[2] / "training" / "train_network.py"


def test_two_processes_give_the_weights_of_one(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    path = write_config()
    alone = load_file(train(load_config(path), tmp_path / "alone"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(DOOR),
               "--config", str(path), "--output", str(tmp_path / "both")]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr
    together = load_file(tmp_path / "both" / "banet-nano.safetensors")
    assert run.stdout.count("checkpoint") == 1, "one of the two speaks"
    for key, value in alone.items():
        # Halves of a batch are summed in another order; Adam's first steps turn 1e-7 of a gradient near zero into at
        # most a learning rate of weight. Observed: at most 3e-5 after six iterations at 1e-3 and less.
        assert torch.allclose(value, together[key], atol=1e-3), key
        assert (value - together[key]).abs().mean() < 2e-5, key


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    assert Team(0, 4, torch.device("cpu")).share(8) == 2
    with pytest.raises(InputError, match="A batch of 6 cannot be shared by 4 processes"):
        Team(0, 4, torch.device("cpu")).share(6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the test wants missing")
def test_cuda_asked_for_and_missing_is_a_missing_runtime() -> None:
    with pytest.raises(MissingRuntimeError, match="finds no CUDA device"), assemble("cuda"):
        pass
