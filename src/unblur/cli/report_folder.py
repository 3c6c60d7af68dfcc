"""The folder of a report, checked before the measuring begins: not after an hour of it."""

from __future__ import annotations

import os
from pathlib import Path

from unblur.core.errors import InputError


def check_output(folder: Path) -> Path:
    """Return `folder` if reports can be written there. Raises InputError otherwise; creates nothing."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise InputError(f"--output {folder}: {existing} is a file; name a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"--output {folder}: {existing} cannot be written to; choose another folder.")
    return folder
