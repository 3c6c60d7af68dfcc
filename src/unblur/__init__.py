"""unblur: from a trained deblurring network to an engine that someone can ship.

The Python interface, one function a stage: `export_graph`, `calibrate`, `build_engine`, `open_engine`, `compare`, and
`load_network`, `restore_frame` for what is loaded and opened. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unblur.engines.runner import restore_frame as restore_frame
    from unblur.networks import load_network as load_network
    from unblur.pipeline.interface import build_engine as build_engine
    from unblur.pipeline.interface import calibrate as calibrate
    from unblur.pipeline.interface import compare as compare
    from unblur.pipeline.interface import export_graph as export_graph
    from unblur.pipeline.open_engine import open_engine as open_engine

__version__ = "0.1.0"

_WHERE = {
    "build_engine": "unblur.pipeline.interface",
    "calibrate": "unblur.pipeline.interface",
    "export_graph": "unblur.pipeline.interface",
    "load_network": "unblur.networks",
    "open_engine": "unblur.pipeline.open_engine",
    "restore_frame": "unblur.engines.runner",
}
"""Name -> the module that has it, imported when it is asked for. `unblur.compare` is a room that can be called."""


def __getattr__(name: str) -> Any:
    if name == "compare":
        return importlib.import_module("unblur.compare")
    if name not in _WHERE:
        raise AttributeError(f"module 'unblur' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE, "compare"})
