"""Scores of single frames, kept: a comparison that was killed goes on where it was, and one more engine costs only
its own runs.

One file of JSON lines for each engine, appended to frame by frame. A line that a kill cut short tells nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import ValidationError

from unblur.compare.measure.frames import FrameFile
from unblur.compare.report import FrameResult, Quality
from unblur.core.artefacts import disk_errors, json_text, value_digest


@dataclass(frozen=True)
class Kept:
    """Where scores are kept, and for each engine, the reference too, the digest of all that its results depend on
    besides the frame: an engine without one is scored each time."""

    folder: Path
    keys: Mapping[str, str]


@dataclass
class Scores:
    """The scores of one comparison, whose engines are held against `reference` and opened for one `how`. Any thread may
    ask and add once `load` is done."""

    kept: Kept | None
    reference: str
    how: Any
    found: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    _writing: Lock = field(default_factory=Lock)

    def load(self, engines: Iterable[str]) -> None:
        """Read what is there, before several threads ask for it."""
        for engine in engines:
            self._lines(engine)

    def find(self, engine: str, frame: FrameFile) -> FrameResult | None:
        """What the engine scored on this very frame before, under the name it has now."""
        values = self._lines(engine).get(_key(frame))
        return None if values is None else _result(values, frame)

    def blurred(self, frame: FrameFile) -> Quality | None:
        """Quality of the blurred input, which is kept with the reference."""
        values = self._lines(self.reference).get(_key(frame), {}).get("blurred")
        return None if values is None else Quality.model_validate(values)

    def keep(self, engine: str, frame: FrameFile, result: FrameResult, blurred: Quality | None) -> None:
        """Add a line. Raises InputError where the disk does not take it."""
        path, key = self._file(engine), _key(frame)
        if path is None or not key:
            return
        values = {"result": result.model_dump(mode="json", exclude={"frame"}), "blurred": blurred and _json(blurred)}
        line = json_text({"frame": key} | values, indent=None).encode() + b"\n"
        lines = self._lines(engine)
        with self._writing, disk_errors(path):
            if key not in lines:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as file:
                    file.write(line)
                lines[key] = values

    def _lines(self, engine: str) -> dict[str, dict[str, Any]]:
        if engine not in self.found:
            path = self._file(engine)
            self.found[engine] = {} if path is None else _read(path)
        return self.found[engine]

    def _file(self, engine: str) -> Path | None:
        if self.kept is None or not {engine, self.reference} <= self.kept.keys.keys():
            return None
        keys = self.kept.keys
        return self.kept.folder / f"{value_digest([keys[engine], keys[self.reference], self.how])[:32]}.jsonl"


def _key(frame: FrameFile) -> str:
    """By the bytes of both pictures, whatever they are called; "" for frames that are not pinned."""
    return value_digest([*frame.digests, frame.aligned]) if frame.digests else ""


def _json(quality: Quality) -> dict[str, Any]:
    values: dict[str, Any] = quality.model_dump(mode="json")
    return values


def _result(values: dict[str, Any], frame: FrameFile) -> FrameResult:
    return FrameResult.model_validate({**values["result"], "frame": frame.name})


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Whole lines; where the last one is not, it is ended, so that the next begins a line of its own."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    if data and not data.endswith(b"\n"):
        with disk_errors(path), path.open("ab") as file:
            file.write(b"\n")
    lines = {}
    for line in data.splitlines():
        try:
            values = json.loads(line)
            FrameResult.model_validate({**values["result"], "frame": ""})
            if values["blurred"] is not None:
                Quality.model_validate(values["blurred"])
            lines[str(values.pop("frame"))] = values
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError):
            continue
    return lines
