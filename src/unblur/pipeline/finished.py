"""Which outputs in a folder are ours and finished: one small JSON file, `.unblur.json`.

The promise is written before the output: key and digest of the bytes that are about to get the final name, and the
digest of what they replace. Killed between the two writes, the next run still knows that what it finds is its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from unblur.core.artefacts import file_digest, write_json
from unblur.core.errors import InputError
from unblur.core.reading import parse_json, read_regular

NAME = ".unblur.json"
VERSION = 1

State = Literal["finished", "absent", "stale", "foreign"]


class Finished:
    """The record of one output folder. Labels are paths below it with forward slashes."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError when the folder has a record that is damaged or not unblur's."""
        self.path = folder / NAME
        self._outputs = _load(self.path)

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
        self._outputs[label] = {"key": key, "sha256": sha256, "replaces": self._digest(output)}
        self.save()

    def save(self) -> None:
        """Write the record. Raises InputError when the folder cannot be written to."""
        try:
            write_json(self.path, {"made_by": "unblur", "version": VERSION, "outputs": self._outputs})
        except OSError as error:
            raise InputError(f"Cannot write {self.path}: {error.strerror}; choose another folder.") from error

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


def _load(path: Path) -> dict[str, dict[str, str | None]]:
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


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == {"key", "sha256", "replaces"}
        and all(isinstance(entry[name], str) for name in ("key", "sha256"))
        and isinstance(entry["replaces"], str | None)
    )
