"""What every door shares: errors become one sentence and an exit code, Ctrl-C leaves cleanly."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import functools
import io
import math
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from unblur.core.artefacts import FULL
from unblur.core.bounds import THREADS_MAX
from unblur.core.console import printable
from unblur.core.errors import InputError, UnblurError


class Main(Protocol):
    """A door: arguments (None: those of the process) in, exit code out."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


INTERRUPTED = "interrupted; finished work is kept, run the same command again to go on."


def door(main: Main) -> Main:
    """Wrap a door's main: an UnblurError is printed as a sentence and returned as its exit code.

    Anything else is a bug and keeps its traceback (exit code 1), but for what the machine refuses (2): a write that
    failed (the disk is full, a file-size limit, also of what stdout is sent to), a path that no file can have or that
    may not be used, memory that ran out. Ctrl-C gives 130, wherever it struck; a closed pipe 141.
    """

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        _prepare_streams()
        with _noting_interrupts() as interrupts:
            try:
                _demand_folder()
                code = main(argv)
                if sys.stdout:
                    sys.stdout.flush()
                return code
            except BrokenPipeError:  # `unblur ... | head`
                _discard_stdout()
                return 141
            # Not only KeyboardInterrupt: libraries turn it into errors of their own when it strikes inside them.
            except BaseException as error:
                if interrupts or _is_interrupt(error):
                    return _tell(INTERRUPTED, 130)
                if isinstance(error, UnblurError):
                    return _tell(str(error), error.exit_code)
                if sentence := _refused(error):
                    return _tell(sentence, InputError.exit_code)
                raise

    return guarded


def _prepare_streams() -> None:
    """No name of a file, however odd, may cost the report of finished work."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed by who started us: the next file to be opened would take its number, and its output
            os.open(os.devnull, os.O_RDWR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _demand_folder() -> None:
    """Names are relative to a folder, and libraries fail without one in words that tell nothing."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise InputError("The folder that this was started in does not exist any more; cd to one that does.") from error


@contextlib.contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """Yield a list that is empty until Ctrl-C is pressed; it interrupts as ever."""
    struck: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        struck.append(number)
        signal.default_int_handler(number, frame)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield struck
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield struck
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether an error is Ctrl-C, or came of it."""
    if error is None or isinstance(error, KeyboardInterrupt):
        return error is not None
    return _is_interrupt(error.__cause__) or _is_interrupt(error.__context__)


_BARRED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE)
"""Of a path that somebody named, never of a slip in the code."""


def _refused(error: BaseException) -> str:
    """The sentence for what the machine refuses, wherever it was asked for; "" for another error."""
    if isinstance(error, MemoryError):
        what = f" ({error})" if str(error) else ""
        return f"Memory does not hold this{what}; free some, or ask for fewer or smaller frames."
    if not isinstance(error, OSError):
        return ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"Cannot open {error.filename or 'another file'}: {error.strerror}; raise the limit (ulimit -n)."
    if error.errno in _BARRED and error.filename is not None:
        return f"Cannot use {os.fsdecode(error.filename)}: {error.strerror}; name another path, or mend that one."
    return _not_written(error)


def _not_written(error: OSError) -> str:
    """The sentence for a write that failed; "" for another error."""
    if "No usable temporary directory" in str(error):  # tempfile tries each by writing a few bytes
        return f"{error.strerror}: make room, or name one with TMPDIR."
    if error.errno not in FULL:
        return ""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    by = last.tb_frame.f_globals.get("__name__", "") if last is not None else ""
    if error.filename is None and by.startswith(("unblur.cli.", "rich.")):
        _discard_stdout()  # doors write nothing else themselves
        return f"Cannot write to stdout: {FULL[error.errno]}. What was finished is kept."
    where = error.filename or f"a temporary file in {tempfile.gettempdir()}"
    return f"Cannot write {where}: {FULL[error.errno]}. Make room and run the same command again."


def _discard_stdout() -> None:
    """What is left in its buffer would fail once more when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(text: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody to tell; the code remains
        print("unblur:", printable(text, keep="\n\t"), file=sys.stderr)
    return code


class Arguments(argparse.ArgumentParser):
    """argparse whose errors are InputError (exit code 2) and name the nearest flag.

    `examples`: whole command lines, which its help ends with. Every door gets --quiet, --verbose and (unless it has
    its own, `json`) --json: `unblur.cli.output.Output` does what they say.
    """

    def __init__(self, prog: str, description: str, *examples: str, json: bool = True) -> None:
        epilog = "\n  ".join([f"example{'s' * (len(examples) > 1)}:", *examples]) if examples else None
        super().__init__(prog=prog, description=description, epilog=epilog, allow_abbrev=False, formatter_class=_Help)
        said = self.add_argument_group("what is said")
        how = said.add_mutually_exclusive_group()
        how.add_argument("-q", "--quiet", action="store_true", help="the result alone, and errors")
        how.add_argument("-v", "--verbose", action="store_true", help="with the seconds since the beginning")
        if json:
            said.add_argument("--json", action="store_true", help="the result as one JSON document on stdout; all else "
                              "goes to stderr")  # fmt: skip

    def error(self, message: str) -> NoReturn:
        hint = ""
        if message.startswith("unrecognized arguments:"):
            flag = message.split(":", 1)[1].split()[0].split("=")[0]
            close = difflib.get_close_matches(flag, list(self._option_string_actions), n=1)
            hint = f", did you mean {close[0]}?" if close else ""
        raise InputError(f"{message}{hint}\n{self.format_usage().rstrip()}")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults are told where there is one, as a person would type it; lines of examples are not joined."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if default is None or default is False or default == [] or "(default" in (action.help or ""):
            return action.help
        if isinstance(default, tuple):
            return f"{action.help} (default: {'x'.join(map(str, default))})"
        return super()._get_help_string(action)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(indent + line for line in text.splitlines())
        return super()._fill_text(text, width, indent)


def inputs_of(arguments: argparse.Namespace, *outputs: str) -> list[Path]:
    """Every path among a door's arguments but its `outputs`, so that no door forgets an input when it grows a flag.

    Text counts too where it may hold a path, as in `gopro:FOLDER` and `onnxruntime:A.onnx,torch`.
    """
    return [path for name, value in vars(arguments).items() if name not in outputs for path in _paths(value)]


def _paths(value: object) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, str):
        for part in value.split(","):
            yield from (Path(text) for text in {part, part.partition(":")[2]} if text and "\0" not in text)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _paths(one)


def finite(text: str) -> float:
    """Argument type: a number that a budget can be; NaN would keep every budget, or none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def threads(text: str) -> int:
    """Argument type: a number of threads."""
    if not 1 <= (value := positive(text)) <= THREADS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads from 1 to {THREADS_MAX}")
    return value


def positive(text: str) -> int:
    """Argument type: an integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value
