"""What every door shares: errors become one sentence and an exit code, Ctrl-C leaves cleanly."""

from __future__ import annotations

import argparse
import difflib
import functools
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol

from unblur.core.console import printable
from unblur.core.errors import InputError, UnblurError


class Main(Protocol):
    """A door: arguments (None: those of the process) in, exit code out."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def door(main: Main) -> Main:
    """Wrap a door's main: an UnblurError is printed as a sentence and returned as its exit code.

    Anything else is a bug and keeps its traceback (exit code 1). Ctrl-C gives 130, a closed pipe 141.
    """

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        try:
            code = main(argv)
            sys.stdout.flush()
            return code
        except UnblurError as error:
            print("unblur:", printable(str(error), keep="\n\t"), file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print("unblur: interrupted; finished work is kept, run the same command again to go on.", file=sys.stderr)
            return 130
        except BrokenPipeError:  # `unblur ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141

    return guarded


class Arguments(argparse.ArgumentParser):
    """argparse whose errors are InputError (exit code 2) and name the nearest flag."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False,
                         formatter_class=argparse.ArgumentDefaultsHelpFormatter)  # fmt: skip

    def error(self, message: str) -> NoReturn:
        hint = ""
        if message.startswith("unrecognized arguments:"):
            flag = message.split(":", 1)[1].split()[0].split("=")[0]
            close = difflib.get_close_matches(flag, list(self._option_string_actions), n=1)
            hint = f", did you mean {close[0]}?" if close else ""
        raise InputError(f"{message}{hint}\n{self.format_usage().rstrip()}")


def positive(text: str) -> int:
    """Argument type: an integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value
