"""Names on a terminal do nothing there."""

from __future__ import annotations

import os

import pytest

from unblur.core.console import ConsoleProgress, printable


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
