"""An exported graph that all workers of a test run share: PyTorch takes half a minute to trace a dynamic one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from unblur.core.exclusive import exclusive
from unblur.networks.checkpoints import Checkpoint


def exported_once(checkpoint: Checkpoint, factory: pytest.TempPathFactory, name: str, **size: Any) -> Path:
    from unblur.export.graph import export_graph

    # Workers have their own folder in that of the run.
    shared = factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.getbasetemp()
    path = shared / name
    with exclusive(path, lambda _: None):
        if not path.exists():
            export_graph(checkpoint, path, **size)
    return path
