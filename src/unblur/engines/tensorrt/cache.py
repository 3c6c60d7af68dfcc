"""The timing cache of the data-centre product, kept beside the engines: what a tactic took on this very GPU.

TensorRT for RTX times nothing when it compiles. Its counterpart is the runtime cache, which holds the kernels made at
first execution; whoever runs the engine owns that file, and the manifest names it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from unblur.core.artefacts import write_bytes
from unblur.core.console import Progress
from unblur.core.errors import UnblurError
from unblur.core.exclusive import exclusive
from unblur.engines.tensorrt.product import Device, Product


def timing_cache_path(folder: Path, product: Product, device: Device) -> Path:
    """One file for a release and a GPU: a cache of another is refused by TensorRT, or worse, believed."""
    return folder / f"{product.name}-{product.version}-{_words(device.name)}-{device.target}.timing"


def runtime_cache_path(engine: Path, device: Device, driver: str) -> Path:
    """Where a runner of TensorRT for RTX keeps the kernels it made for this engine: one file for a GPU and a driver, so
    that machines which share a folder, or two cards in one, do not take turns in replacing it.
    """
    return engine.with_name(f"{engine.name}.{_words(f'{device.name} {device.target} {driver}')}.runtime-cache")


def _words(text: str) -> str:
    return re.sub(r"\W+", "-", text).strip("-").lower()


def use_timing_cache(config: Any, path: Path, progress: Progress) -> None:
    """Give a build what earlier builds measured. A file that TensorRT does not take is left out, and said so."""
    data = path.read_bytes() if path.exists() else b""
    cache = config.create_timing_cache(data) if data else None
    if cache is not None and config.set_timing_cache(cache, False):
        return
    if data:
        progress.note(f"{path} is damaged or of another TensorRT or GPU; this build times everything anew")
    if not config.set_timing_cache(config.create_timing_cache(b""), False):
        raise UnblurError("TensorRT refuses an empty timing cache; it should not happen: please report it.")


def keep_timing_cache(config: Any, path: Path, progress: Progress) -> None:
    """Write what this build measured, joined with what other builds have written in the meantime.

    Raises InputError when the folder cannot be written to.
    """
    cache = config.get_timing_cache()
    with exclusive(path, progress.note):
        data = path.read_bytes() if path.exists() else b""
        other = config.create_timing_cache(data) if data else None
        if data and (other is None or not cache.combine(other, False)):
            progress.note(f"{path} is damaged or of another TensorRT or GPU; it is replaced")
        write_bytes(path, bytes(cache.serialize()))
