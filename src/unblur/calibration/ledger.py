"""Results that cost minutes, one JSON line each, so that a search that is killed goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unblur.core.artefacts import json_text


class Ledger:
    """Values by key in a file of lines; None for a ledger in memory alone.

    A line cut off by a crash is dropped; whoever asks for its key computes it again. The caller names the file after
    everything the values depend on.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._values: dict[str, Any] = {}
        if path is not None and path.exists():
            whole = path.read_text("utf-8").rpartition("\n")[0]
            for line in whole.splitlines():
                entry = json.loads(line)
                self._values[entry["key"]] = entry["value"]
            # What follows the last whole line would run together with the next entry.
            with path.open("r+", encoding="utf-8") as file:
                file.truncate(len(whole.encode()) + 1 if whole else 0)

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """The value of `key`, computed and written first where it is missing. Values are what strict JSON holds."""
        if key not in self._values:
            value = compute()
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json_text({"key": key, "value": value}, indent=None) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            self._values[key] = value
        return self._values[key]
