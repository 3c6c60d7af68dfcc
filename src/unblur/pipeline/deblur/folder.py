"""Pictures in, deblurred pictures out: each output whole, or not there; what is finished is not done again."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unblur.core.artefacts import value_digest
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.core.exclusive import exclusive
from unblur.core.memory import available_bytes, gigabytes
from unblur.core.overlap import ahead
from unblur.engines.runner import Runner, restore_frame
from unblur.images.alpha import fill_hidden, put_back_hidden
from unblur.images.contract import Frame
from unblur.images.files import Picture, decode_picture, encode_picture, read_bytes, write_encoded
from unblur.images.sizes import picture_size
from unblur.metrics.detectors.detect import Finding, detect
from unblur.pipeline.deblur.finished import Finished
from unblur.pipeline.deblur.frame_memory import FrameMemory
from unblur.pipeline.deblur.tasks import Plan, Task
from unblur.pipeline.dependence import Dependence
from unblur.pipeline.store import toolchain

SHOWN = 5
"""How many paths an error lists of each kind."""

SAID = 1e8
"""Bytes of memory below which nobody needs to be told."""

_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Failures to write that the next picture would meet too, after minutes of work."""


@dataclass(frozen=True)
class Outcome:
    """How many pictures were deblurred now, how many were finished before, and why others were not. `suspects`: of
    those done, in how many detectors found something; each was told, and an outcome is no other for it.
    """

    done: int
    skipped: int
    failed: tuple[str, ...]
    suspects: int = field(default=0, compare=False)


def task_key(
    picture: bytes,
    checkpoint_digest: str,
    engine: Dependence,
    calibration: Mapping[str, Any] | None = None,
    channel_order: str | None = None,
) -> str:
    """SHA-256 of all that an output depends on: the input's bytes, the weights and the order of channels that they are
    said to be trained with, the engine, how it was calibrated, and the toolchain.
    """
    return value_digest({
        "input": hashlib.sha256(picture).hexdigest(),
        "checkpoint": checkpoint_digest,
        "channel_order": channel_order,
        **engine.spec,
        "calibration": calibration,
        "toolchain": toolchain(engine.packages),
    })  # fmt: skip


@dataclass(frozen=True)
class Opened:
    """A runner, and what its frames take of memory where that is known."""

    runner: Runner
    memory: FrameMemory | None = None


def deblur_pictures(
    plan: Plan,
    key: Callable[[bytes], str],
    open_engine: Callable[[], Opened],
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Outcome:
    """Deblur what is not finished. `key` gives an input's key from its bytes; `open_engine` is called at most once,
    when the first picture is ready for it. One process at a time writes into a folder: another waits.

    A picture that cannot be read, restored or written is noted in the outcome, like what the plan passed over, and the
    others go on. Raises InputError before any work when an output exists that unblur did not write (unless
    `overwrite`), and when nothing can be written any more (a full or read-only disk, no record): what was finished
    before stays.
    """
    failed = [_fail(sentence, progress) for sentence in plan.passed_over]
    todo, foreign, unread = _unfinished(plan, Finished(plan.record), key)
    failed += [_fail(error, progress) for error in unread]
    done, suspects, skipped = 0, 0, len(plan.tasks) - len(todo) - len(unread)
    if not todo:
        return Outcome(done, skipped, tuple(failed))
    with contextlib.ExitStack() as stack:
        record = None
        if foreign:  # judged again: without the lock, another process may have written between two looks
            record = stack.enter_context(_hold(plan.record, progress))
            foreign = [task for task in foreign if record.state(task.label, task.output, "") == "foreign"]
            if foreign and not overwrite:
                raise _foreign(foreign)
        bench = _Bench(plan, key, open_engine, overwrite, stack, progress, todo, record)
        with ahead(todo, bench.read) as read, ahead(map(bench.run, read), bench.write) as written:
            for one in progress.track(written, "deblurring", total=len(todo)):
                if one.error is not None:
                    failed.append(_fail(one.error, progress))
                done += one.done
                for finding in one.findings:
                    progress.note(f"WARNING: {one.task.label}: {finding.text}; look at {one.task.output}")
                suspects += bool(one.findings)
                skipped += one.skipped
    return Outcome(done, skipped, tuple(failed), suspects)


@contextlib.contextmanager
def _hold(path: Path, progress: Progress) -> Iterator[Finished]:
    """The record, while no other process writes it."""
    with exclusive(path, progress.note):
        record = Finished(path)
        try:
            yield record
        finally:
            record.close()


@dataclass(frozen=True)
class _Step:
    """A picture on its way: read, restored, written. What has an `error`, or was `skipped`, only goes along."""

    task: Task
    key: str = ""
    picture: Picture | None = None
    restored: Frame | None = None
    error: InputError | None = None
    skipped: bool = False
    done: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def over(self) -> bool:
        return self.error is not None or self.skipped


@dataclass
class _Bench:
    """The three steps of a picture. `run` is the caller's thread's; reading goes on before it, encoding and writing
    behind it, each in a thread of its own: one picture is decoded, one restored and one encoded at a time."""

    plan: Plan
    key: Callable[[bytes], str]
    open_engine: Callable[[], Opened]
    overwrite: bool
    stack: contextlib.ExitStack
    progress: Progress
    todo: Sequence[Task]
    record: Finished | None
    opened: Opened | None = None

    def read(self, task: Task) -> _Step:
        try:
            data = read_bytes(task.source)
            return _Step(task, self.key(data), decode_picture(data, task.source))
        except InputError as error:
            return _Step(task, error=error)

    def run(self, one: _Step) -> _Step:
        if one.over or one.picture is None:
            return one
        self.record = self.record or self.stack.enter_context(_hold(self.plan.record, self.progress))
        state = self.record.state(one.task.label, one.task.output, one.key)
        if state == "finished":  # by another process, meanwhile
            return replace(one, skipped=True)
        if state == "foreign" and not self.overwrite:
            return replace(one, error=_foreign([one.task]))
        if self.opened is None:
            self.record.save()  # a folder that cannot be written to shows before the engine is built
            self.opened = self.open_engine()
            self.stack.callback(self.opened.runner.close)
            _tell_largest(self.todo, self.opened, self.progress)
        with _named(one) as failed:
            if self.opened.memory is not None:
                self.opened.memory.refuse(*one.picture.frame.shape[:2])
            blurred = fill_hidden(one.picture.frame, one.picture.alpha)
            return replace(one, restored=restore_frame(self.opened.runner, blurred))
        return replace(one, error=failed[0])

    def write(self, one: _Step) -> _Step:
        """Encode, promise, write. Raises InputError where nothing can be written any more."""
        if one.over or one.picture is None or one.restored is None or self.record is None:
            return one
        task = one.task
        with _named(one) as failed:
            shown = put_back_hidden(one.restored, one.picture.frame, one.picture.alpha)
            encoded = encode_picture(task.output, one.picture, shown)
            findings = detect(fill_hidden(one.picture.frame, one.picture.alpha), one.restored)
        if failed:
            return replace(one, error=failed[0])
        if self.record.state(task.label, task.output, one.key) == "foreign" and not self.overwrite:
            return replace(one, error=_foreign([task]))
        self.record.promise(task.label, task.output, one.key, hashlib.sha256(encoded).hexdigest())
        try:
            write_encoded(task.output, encoded)
        except InputError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _HOPELESS:
                raise
            return replace(one, error=error)
        return _Step(task, done=True, findings=findings)


@contextlib.contextmanager
def _named(one: _Step) -> Iterator[list[InputError]]:
    """Hold back what is wrong with this one picture, in a sentence that names it."""
    failed: list[InputError] = []
    try:
        yield failed
    except MemoryError:
        height, width = one.picture.frame.shape[:2] if one.picture else (0, 0)
        failed.append(InputError(
            f"{one.task.source}: memory does not hold this picture of {height}x{width}; free some, or split it into "
            "parts."
        ))  # fmt: skip
    except InputError as error:
        failed.append(InputError(f"{one.task.source}: {error}"))


def _tell_largest(todo: Sequence[Task], opened: Opened, progress: Progress) -> None:
    """Before the work, not after minutes of it."""
    if opened.memory is None:
        return
    sizes = []
    for task in todo:
        with contextlib.suppress(InputError):  # told when its turn comes
            sizes.append(picture_size(task.source))
    height, width = max(sizes, key=math.prod, default=(0, 0))
    needed = opened.memory.bytes(height, width)
    if needed is not None and needed >= SAID:
        progress.note(
            f"memory: about {gigabytes(needed)} for the largest picture ({height}x{width}), "
            f"{gigabytes(available_bytes())} are free"
        )


def _unfinished(
    plan: Plan, record: Finished, key: Callable[[bytes], str]
) -> tuple[list[Task], list[Task], list[InputError]]:
    """What is to be done, what of it is foreign, and why inputs cannot be read."""
    todo, foreign, failed = [], [], []
    for task in plan.tasks:
        try:
            data = read_bytes(task.source)
        except InputError as error:
            failed.append(error)
            continue
        state = record.state(task.label, task.output, key(data))
        if state == "foreign":
            foreign.append(task)
        if state != "finished":
            todo.append(task)
    return todo, foreign, failed


def _fail(error: InputError | str, progress: Progress) -> str:
    progress.note(f"left out: {error}")
    return str(error)


def _foreign(tasks: list[Task]) -> InputError:
    names = ", ".join(str(task.output) for task in tasks[:SHOWN])
    more = f" and {len(tasks) - SHOWN} more" if len(tasks) > SHOWN else ""
    return InputError(
        f"{names}{more} exists and is not what unblur wrote there; choose another output folder, or replace it "
        "with --overwrite."
    )
