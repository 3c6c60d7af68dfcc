"""What a person sees while work goes on: live lines on a terminal, plain lines in a log.

Rooms below cli/ get a `Progress` handed to them and never print; `SILENT` is the default.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

T = TypeVar("T")


def printable(name: object, keep: str = "") -> str:
    """A name for a terminal, a log or a page: a character that could act on it (control, direction, line ends) or that
    no encoding has (a byte of a file name that is no UTF-8) as an escape, such as `\\x1b`; all others, and those in
    `keep`, as they are.
    """
    return "".join(one if one.isprintable() or one in keep else _escaped(one) for one in str(name))


def _escaped(one: str) -> str:
    if "\udc80" <= one <= "\udcff":  # how Python keeps a byte that it cannot decode (PEP 383)
        return f"\\x{ord(one) - 0xDC00:02x}"
    return one.encode("unicode_escape").decode()


class Progress(Protocol):
    """Where long work reports to."""

    def note(self, text: str) -> None:
        """Say one line."""

    def track(self, items: Iterable[T], text: str, total: int) -> Iterator[T]:
        """Yield the items, showing how many of `total` are done."""

    def stage(self, text: str) -> AbstractContextManager[None]:
        """Show, while the context is open, that `text` goes on and for how long. Any thread may; stages may nest."""


class Silent:
    """Progress that nobody watches."""

    def note(self, text: str) -> None:
        del text

    def track(self, items: Iterable[T], text: str, total: int) -> Iterator[T]:
        del text, total
        yield from items

    def stage(self, text: str) -> AbstractContextManager[None]:
        del text
        return contextlib.nullcontext()


SILENT: Progress = Silent()


class PlainConsole(Console):
    """rich's console, whose closed pipe is an error like that of any other write: rich itself would leave with code 1.

    `live`: whether lines may be drawn over, which neither a log nor TERM=dumb takes. FORCE_COLOR colours a log and
    moves no cursor in it. NO_COLOR is rich's own.
    """

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    @property
    def live(self) -> bool:
        return self.file.isatty() and self.is_interactive


class ConsoleProgress:
    """Progress on stderr, so that stdout stays clean for results; at most one log line every `every_s` seconds.

    `verbose`: each line begins with the seconds since the beginning.
    """

    def __init__(self, every_s: float = 10.0, *, verbose: bool = False) -> None:
        self._console = PlainConsole(stderr=True, highlight=False)
        self._live = _LiveLines(self._console) if self._console.live else None
        self._every_s = every_s
        self._verbose = verbose
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        since = f"{time.monotonic() - self._began:8.1f} s  " if self._verbose else ""
        try:
            self._console.print(since + printable(text, keep="\n\t"), markup=False, soft_wrap=True)
        except BrokenPipeError:
            raise
        except OSError:  # a full disk under a log must not end the work that it tells of
            return

    def track(self, items: Iterable[T], text: str, total: int) -> Iterator[T]:
        began = last = time.monotonic()
        if self._live:
            with self._live.line(text, total) as advance:
                for item in items:
                    yield item
                    advance()
            self._note_end(text, began, 1)
            return
        first = began
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            first = now if done == 1 else first
            if done == total or now - last >= self._every_s:
                left = seconds_left(now - first, done, total)
                self.note(f"{text}: {done}/{total}" + (f", {duration(left)} left" if left >= 1 else ""))
                last = now

    @contextlib.contextmanager
    def stage(self, text: str) -> Iterator[None]:
        began = time.monotonic()
        if self._live:
            with self._live.line(text, None):
                yield
        else:
            self.note(text)
            yield
        self._note_end(text, began, 1 if self._live else self._every_s)

    def _note_end(self, text: str, began: float, worth_s: float) -> None:
        """What was live is gone from the terminal; a log wants to know only what took long."""
        took_s = time.monotonic() - began
        if took_s >= worth_s:
            self.note(f"{text}: {duration(took_s)}")


def seconds_left(since_first: float, done: int, total: int) -> float:
    """By the items after the first one, which opens and warms up what the others find ready; 0 where there is none."""
    return since_first / (done - 1) * (total - done) if done > 1 else 0.0


def duration(seconds: float) -> str:
    """For people: "41.3 s", "2 min 5 s"."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60} s"


class _LiveLines:
    """The live lines of one terminal, of all threads: shown from when the first begins until the last has ended."""

    def __init__(self, console: Console) -> None:
        counted = [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        self._lines = RichProgress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(),
            *(_OfCounted(column) for column in counted), console=console, transient=True, redirect_stdout=False,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._count = 0

    @contextlib.contextmanager
    def line(self, text: str, total: int | None) -> Iterator[Callable[[], None]]:
        """A bar, or without a total a spinner; yields what moves it on by one."""
        task = self._lines.add_task(printable(text), total=total)
        try:
            self._hold(1)
            yield lambda: self._lines.advance(task)
        finally:
            self._lines.remove_task(task)
            self._hold(-1)

    def _hold(self, change: int) -> None:
        with self._lock:
            before, self._count = self._count, self._count + change
            if not before:
                self._lines.start()
            elif not self._count:
                self._lines.stop()


class _OfCounted(ProgressColumn):
    """A column that says something only where it is known how much there is to do."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> RenderableType:
        return "" if task.total is None else self._column(task)
