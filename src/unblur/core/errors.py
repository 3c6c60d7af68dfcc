"""Errors that a person is meant to read: what happened, the value, the cure.

Each class owns one exit code, so that a shell script or a CI job can tell a typing mistake from a broken
budget. Anything that is not an `UnblurError` is a bug and leaves with exit code 1 and a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnblurError(Exception):
    """Base class; `exit_code` is what the process leaves with."""

    exit_code = 1


class InputError(UnblurError):
    """Usage, configuration or data that cannot be worked with."""

    exit_code = 2


class ChangedError(UnblurError):
    """An input is no longer what the work began with. No InputError: those of one frame are noted and the others go on,
    but a result of changed inputs must not be kept under the key of the old ones.
    """

    exit_code = 2


class BudgetError(UnblurError):
    """A stated budget (decibels, milliseconds, parity tolerance, realised precision) is broken."""

    exit_code = 3


class MissingRuntimeError(UnblurError):
    """A package, driver or device that the request needs is not there."""

    exit_code = 4


class CrashError(UnblurError):
    """An engine crashed, hung, or failed as nobody foresaw; what others finished is kept."""

    exit_code = 4


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ", did you mean 'x'?" for the known word closest to `word`, or "" if none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""
