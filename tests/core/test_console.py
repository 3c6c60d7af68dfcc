"""Names on a terminal do nothing there."""

from __future__ import annotations

import os

import pytest

from unblur.cli.door import door
from unblur.core.console import ConsoleProgress, printable
from unblur.core.errors import InputError


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("größe 1.png", "größe 1.png"),
        ("模糊", "模糊"),
        ("\x1b[2Ja\r\n\x07\x9b", r"\x1b[2Ja\r\n\x07\x9b"),
        ("a\u202egnp.exe\u2028", r"a\u202egnp.exe\u2028"),
        (os.fsdecode(b"gr\xfc\xdfe"), r"gr\xfc\xdfe"),
        ("\ud800", r"\ud800"),
    ],
)
def test_only_what_acts_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(name).isprintable()
    printable(name).encode()


def test_progress_escapes_what_it_notes(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleProgress().note("left out: \x1b]0;title\x07.png")
    assert capsys.readouterr().err == r"left out: \x1b]0;title\x07.png" + "\n"


def test_errors_are_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    @door
    def main(argv=None) -> int:
        raise InputError("a\x1b[2Jb\nsecond line")

    assert main([]) == 2
    assert capsys.readouterr().err == r"unblur: a\x1b[2Jb" + "\nsecond line\n"
