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


def printable(text: str, keep: str = "") -> str:
    """`text` with what is neither a visible character nor a space nor in `keep` as an escape, such as "\\x1b".

    Names of tensors and files come from others: printed raw, they could steer the terminal, or fail to be encoded.
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


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
        self._console.print(printable(text, keep="\n\t"), markup=False, soft_wrap=True)

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
