"""The folder of a report, checked before the measuring begins: not after an hour of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from unblur.core.artefacts import json_with, protect, text_with
from unblur.core.errors import InputError


def check_output(folder: Path, inputs: Iterable[Path], heading: str, *keys: str, table: str = "") -> Path:
    """Return `folder` if a report can be written there. Creates nothing.

    `heading` and `keys`: how its report.md begins and what its report.json has; `table`: how its results.csv begins,
    "" where none is written. Raises InputError otherwise, and as
    `protect` for what stands under the names of the report.
    """
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise InputError(f"--output {folder}: {existing} is a file; name a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"--output {folder}: {existing} cannot be written to; choose another folder.")
    kinds = {
        ".json": json_with(*keys),
        ".md": text_with(f"# {heading}"),
        ".html": text_with("<title>unblur: "),
        ".xml": text_with('<testsuites name="unblur: '),
    }
    files = {folder / f"report{suffix}": kind for suffix, kind in kinds.items()}
    protect(files | ({folder / "results.csv": text_with(table)} if table else {}), inputs)
    return folder
