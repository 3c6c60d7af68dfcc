"""Pictures in, deblurred pictures out: each output whole, or not there; what is finished is not done again."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unblur.core.artefacts import value_digest
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.engines.runner import Runner, restore_frame
from unblur.images.files import decode_picture, encode_picture, write_encoded
from unblur.pipeline.deblur_tasks import Plan, Task
from unblur.pipeline.finished import Finished
from unblur.pipeline.store import RUNTIMES, toolchain

SHOWN = 5
"""How many paths an error lists of each kind."""


@dataclass(frozen=True)
class Outcome:
    """How many pictures were deblurred now, how many were finished before, and why others were not."""

    done: int
    skipped: int
    failed: tuple[str, ...]


def task_key(
    picture: bytes,
    checkpoint_digest: str,
    engine: str,
    calibration: Mapping[str, Any] | None = None,
    channel_order: str | None = None,
) -> str:
    """SHA-256 of all that an output depends on: the input's bytes, the weights and the order of channels that they are
    said to be trained with, the engine, how it was calibrated, and the toolchain.
    """
    backend = "tensorrt-rtx" if engine.startswith("tensorrt-rtx") else engine.split("-")[0]
    return value_digest({
        "input": hashlib.sha256(picture).hexdigest(),
        "checkpoint": checkpoint_digest,
        "channel_order": channel_order,
        "engine": engine,
        "calibration": calibration,
        # onnxruntime-gpu installs the module that onnxruntime is, and tensorrt_rtx has two packages
        "toolchain": toolchain(frozenset(backend + suffix for suffix in ("", "-gpu", "-cu12", "-cu13")) & RUNTIMES),
        "pillow": importlib.metadata.version("pillow"),
    })  # fmt: skip


def deblur_pictures(
    plan: Plan,
    key: Callable[[bytes], str],
    open_engine: Callable[[], Runner],
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Outcome:
    """Deblur what is not finished. `key` gives an input's key from its bytes; `open_engine` is called at most once,
    when the first picture is ready for it.

    A picture that cannot be read or restored is noted in the outcome, and the others go on. Raises InputError
    before any work when an output exists that unblur did not write (unless `overwrite`), and when an output
    cannot be written: what was finished before stays.
    """
    record = Finished(plan.folder)
    todo, failed = _unfinished(plan, record, key, overwrite)
    skipped = len(plan.tasks) - len(todo) - len(failed)
    done = 0
    runner: Runner | None = None
    try:
        for task in progress.track(todo, "deblurring", total=len(todo)):
            try:
                data = _read(task.source)
                picture = decode_picture(data, task.source)
            except InputError as error:
                failed.append(_fail(error, progress))
                continue
            if runner is None:
                record.save()  # a folder that cannot be written to shows before the engine is built
                runner = open_engine()
            try:
                encoded = encode_picture(task.output, picture, restore_frame(runner, picture.frame))
            except InputError as error:
                failed.append(_fail(InputError(f"{task.source}: {error}"), progress))
                continue
            this = key(data)
            if record.state(task.label, task.output, this) == "foreign" and not overwrite:
                raise _foreign([task])
            record.promise(task.label, task.output, this, hashlib.sha256(encoded).hexdigest())
            write_encoded(task.output, encoded)
            done += 1
    finally:
        if runner is not None:
            runner.close()
    return Outcome(done, skipped, tuple(failed))


def _unfinished(
    plan: Plan, record: Finished, key: Callable[[bytes], str], overwrite: bool
) -> tuple[list[Task], list[str]]:
    todo, failed, foreign = [], [], []
    for task in plan.tasks:
        try:
            data = _read(task.source)
        except InputError as error:
            failed.append(str(error))
            continue
        state = record.state(task.label, task.output, key(data))
        if state == "foreign" and not overwrite:
            foreign.append(task)
        elif state != "finished":
            todo.append(task)
    if foreign:
        raise _foreign(foreign)
    return todo, failed


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}; check its permissions.") from error


def _fail(error: InputError, progress: Progress) -> str:
    progress.note(f"left out: {error}")
    return str(error)


def _foreign(tasks: list[Task]) -> InputError:
    names = ", ".join(str(task.output) for task in tasks[:SHOWN])
    more = f" and {len(tasks) - SHOWN} more" if len(tasks) > SHOWN else ""
    return InputError(
        f"{names}{more} exists and is not what unblur wrote there; choose another output folder, or replace it "
        "with --overwrite."
    )
