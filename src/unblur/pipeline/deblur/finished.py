"""Which outputs in a folder are ours and finished: one small JSON file, `.unblur.json`, and a journal beside it.

The promise is appended to the journal before the output is written: key and digest of the bytes that are about to get
the final name, and the digest of what they replace. Killed between the two writes, the next run still knows that what
it finds is its own. The journal is folded into the JSON file at the beginning and at the end of a run, so that many
small pictures cost one line each. One process at a time: whoever writes holds the lock of the file.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Literal

from unblur.core.artefacts import disk_errors, file_digest, json_text, write_json
from unblur.core.errors import InputError
from unblur.core.reading import parse_json, read_regular

NAME = ".unblur.json"
VERSION = 1

State = Literal["finished", "absent", "stale", "foreign"]
Entry = dict[str, str | None]


class Finished:
    """The record of one output folder. Labels are paths below it with forward slashes."""

    def __init__(self, path: Path) -> None:
        """`path`: the JSON file. Raises InputError when it is damaged or not unblur's."""
        self.path = path
        self._journal = path.with_suffix(".jsonl")
        self._outputs = _load(path) | _load_journal(self._journal)

    def state(self, label: str, output: Path, key: str) -> State:
        """What stands under `output`: "finished" (ours, of this key, whole), "absent", "stale" (ours, of another
        key) or "foreign" (not what unblur wrote, or changed since).

        Raises InputError when it cannot be read.
        """
        digest = self._digest(output)
        if digest is None:
            return "absent"
        entry = self._outputs.get(label)
        if entry is None or digest not in (entry["sha256"], entry["replaces"]):
            return "foreign"
        return "finished" if (digest, key) == (entry["sha256"], entry["key"]) else "stale"

    def promise(self, label: str, output: Path, key: str, sha256: str) -> None:
        """Record that bytes of this digest are about to be renamed to `output`. Raises InputError as `save`."""
        entry: Entry = {"key": key, "sha256": sha256, "replaces": self._digest(output)}
        line = json_text({"output": label} | entry, indent=None) + "\n"
        with self._writing(self._journal), self._journal.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._outputs[label] = entry

    def save(self) -> None:
        """Fold the journal into the record. Raises InputError when the folder cannot be written to."""
        with self._writing(self.path):
            write_json(self.path, {"made_by": "unblur", "version": VERSION, "outputs": self._outputs})
            self._journal.unlink(missing_ok=True)

    def close(self) -> None:
        """Fold the journal where that can be done; where not, it stands beside the record and loses nothing."""
        if self._journal.exists():
            with contextlib.suppress(InputError):
                self.save()

    @staticmethod
    @contextlib.contextmanager
    def _writing(path: Path) -> Any:
        try:
            with disk_errors(path):
                yield
        except OSError as error:
            raise InputError(f"Cannot write {path}: {error.strerror}; choose another folder.") from error

    @staticmethod
    def _digest(output: Path) -> str | None:
        try:
            return file_digest(output)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(
                f"Cannot write {output}: what stands there cannot be read ({error.strerror}); move it away."
            ) from error


def _load(path: Path) -> dict[str, Entry]:
    try:
        content: Any = parse_json(read_regular(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}; choose another output folder.") from error
    except (ValueError, InputError):
        content = None
    outputs = content.get("outputs") if isinstance(content, dict) and content.get("version") == VERSION else None
    if not isinstance(outputs, dict) or not all(_is_entry(entry) for entry in outputs.values()):
        raise InputError(
            f"{path} is damaged or from another version of unblur; delete it and use --overwrite to do its outputs "
            "again, or choose another output folder."
        )
    return outputs


def _load_journal(path: Path) -> dict[str, Entry]:
    """What a killed run left. A line that is damaged, such as one cut short by the kill, tells nothing."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}; choose another output folder.") from error
    outputs = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        label = entry.pop("output", None) if isinstance(entry, dict) else None
        if isinstance(label, str) and _is_entry(entry):
            outputs[label] = entry
    return outputs


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == {"key", "sha256", "replaces"}
        and all(isinstance(entry[name], str) for name in ("key", "sha256"))
        and isinstance(entry["replaces"], str | None)
    )
