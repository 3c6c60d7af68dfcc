"""What a person sees while work goes on: a live bar on a terminal, plain lines in a log.

Rooms below cli/ get a `Progress` handed to them and never print; `SILENT` is the default.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
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


class Silent:
    """Progress that nobody watches."""

    def note(self, text: str) -> None:
        del text

    def track(self, items: Iterable[T], text: str, total: int) -> Iterator[T]:
        del text, total
        yield from items


SILENT: Progress = Silent()


class ConsoleProgress:
    """Progress on stderr, so that stdout stays clean for results; at most one log line every `every_s` seconds."""

    def __init__(self, every_s: float = 10.0) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._every_s = every_s

    def note(self, text: str) -> None:
        try:
            self._console.print(printable(text, keep="\n\t"), markup=False, soft_wrap=True)
        except BrokenPipeError:
            raise
        except OSError:  # a full disk under a log must not end the work that it tells of
            return

    def track(self, items: Iterable[T], text: str, total: int) -> Iterator[T]:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            with RichProgress(*columns, console=self._console) as bar:
                yield from bar.track(items, total=total, description=text)
            return
        last = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if done == total or now - last >= self._every_s:
                self.note(f"{text}: {done}/{total}")
                last = now
