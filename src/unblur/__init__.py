"""unblur: from a trained deblurring network to an engine that someone can ship."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unblur.engines.runner import restore_frame as restore_frame
    from unblur.pipeline.open_engine import open_engine as open_engine

__version__ = "0.1.0"

_WHERE = {
    "open_engine": "unblur.pipeline.open_engine",
    "restore_frame": "unblur.engines.runner",
}
"""The Python interface: name -> the module that has it, imported when it is asked for."""


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'unblur' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
