"""What is printed cannot steer the terminal."""

from __future__ import annotations

import pytest

from unblur.cli.door import door
from unblur.core.console import ConsoleProgress, printable
from unblur.core.errors import InputError

HOSTILE = "a\x1b[2Jb\udcfc\u202ec"
ESCAPED = r"a\x1b[2Jb\udcfc\u202ec"


def test_what_is_not_visible_is_escaped() -> None:
    assert printable(HOSTILE) == ESCAPED
    assert printable("grüße, 模糊 äö\n\t") == r"grüße, 模糊 äö\n\t"
    assert printable("one\ntwo\r", keep="\n") == "one\ntwo\\r"


def test_errors_and_notes_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    @door
    def main(argv=None) -> int:
        ConsoleProgress().note(HOSTILE)
        raise InputError(f"{HOSTILE}\nsecond line")

    assert main([]) == 2
    assert capsys.readouterr().err == f"{ESCAPED}\nunblur: {ESCAPED}\nsecond line\n"
