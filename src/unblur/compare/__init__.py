"""Fidelity, quality, latency, verdict and report of engines."""

import importlib
import sys
from types import ModuleType
from typing import Any

from unblur.compare.load import load_report
from unblur.compare.tell.results import load_results

__all__ = ["load_report", "load_results"]


class _Room(ModuleType):
    """The room of comparisons, which is also the stage: `unblur.compare(frames, engines)`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """As `unblur.pipeline.interface.compare`, which wires this room and so lies above it."""
        return importlib.import_module("unblur.pipeline.interface").compare(*arguments, **options)


sys.modules[__name__].__class__ = _Room
