"""Results that cost minutes, one JSON line each, so that a search that is killed goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unblur.core.artefacts import disk_errors, json_text, value_digest, write_bytes


class Ledger:
    """Values by key in a file of lines; None for a ledger in memory alone.

    Each line has a checksum. A line that was damaged or cut off by a crash is dropped; whoever asks for its key
    computes it again. The caller names the file after everything the values depend on.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._values: dict[str, Any] = {}
        if path is not None and path.exists():
            found = path.read_bytes()
            entries = {line: entry for line in found.splitlines(keepends=True) if (entry := _entry(line))}
            self._values = dict(entries.values())
            whole = b"".join(entries)
            if whole != found:  # what is left of a line would run together with the next entry
                write_bytes(path, whole)

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """The value of `key`, computed and written first where it is missing. Values are what strict JSON holds."""
        if key not in self._values:
            value = compute()
            if self._path is not None:
                entry = {"key": key, "value": value, "sha256": value_digest([key, value])}
                with disk_errors(self._path):
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    with self._path.open("ab") as file:
                        file.write((json_text(entry, indent=None) + "\n").encode())
                        file.flush()
                        os.fsync(file.fileno())
            self._values[key] = value
        return self._values[key]


def _entry(line: bytes) -> tuple[str, Any] | None:
    """Key and value of a whole line; None where its checksum is missing or another's."""
    try:
        entry = json.loads(line)
        key, value, stated = entry["key"], entry["value"], entry["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (key, value) if line.endswith(b"\n") and value_digest([key, value]) == stated else None
