"""What a door says, and where: its result on stdout, how it is getting on on stderr."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from unblur.core.artefacts import json_text
from unblur.core.console import SILENT, ConsoleProgress, Progress, printable

STDOUT = Path("-")


class Output:
    """Where the lines and figures of a door go, as --quiet, --verbose and --json say.

    progress: to hand on. json: whether stdout is for one JSON document alone; lines for people then go to stderr.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        """`arguments`: what `Arguments` parsed. A door whose --json may name a file has its value; "-" is stdout."""
        self.json = getattr(arguments, "json", False) in (True, STDOUT)
        self.progress: Progress = SILENT if arguments.quiet else ConsoleProgress(verbose=arguments.verbose)
        self._quiet = bool(arguments.quiet)

    @property
    def people(self) -> TextIO:
        """Where lines for people go."""
        return sys.stderr if self.json else sys.stdout

    def say(self, text: str) -> None:
        """Print lines of the result for people; names in them that others chose do nothing to a terminal."""
        if not (self.json and self._quiet):
            print(printable(text, keep="\n"), file=self.people)

    def figures(self, result: Mapping[str, Any]) -> None:
        """The result for programs, once: printed with --json, else not. Paths become text.

        Call it before what raises BudgetError: the code of a broken budget comes with its figures.
        """
        if self.json:
            print(json_text(_plain(result)))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
