"""Names on a terminal do nothing there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from unblur.cli.door import door
from unblur.core.console import ConsoleProgress, duration, printable, seconds_left
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


WORK = """
import sys, threading, time
from unblur.core.console import ConsoleProgress
progress = ConsoleProgress(every_s=0.2)
def inner(name):
    with progress.stage(f"proving [{name}]"):
        for _ in progress.track(range(3), "frames", 3):
            time.sleep(0.1)
with progress.stage("tracing \\x1b[2J"):
    threads = [threading.Thread(target=inner, args=(k,)) for k in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    time.sleep(0 if "short" in sys.argv else 0.8)
    progress.note("a note")
if "break" in sys.argv:
    with progress.stage("interrupted"):
        raise KeyboardInterrupt
print("the result")
"""


def on_a_terminal(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """(exit code, stdout, what the terminal got on stderr) of WORK, whose stderr is a terminal."""
    import pty  # POSIX

    ours, theirs = pty.openpty()
    known = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    child = subprocess.Popen(
        [sys.executable, "-c", WORK, *arguments], stdout=subprocess.PIPE, stderr=theirs, text=True,
        env={**known, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that nobody holds the other end any more
            break
        if not part:
            break
        shown += part
    out, _ = child.communicate(timeout=60)
    os.close(ours)
    return child.returncode, out, shown.decode()


HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"
"""The cursor, while lines are live."""


@pytest.mark.skipif(os.name != "posix", reason="terminals as POSIX has them")
@pytest.mark.parametrize("arguments", [(), ("break",)])
def test_a_stage_is_a_live_line_on_a_terminal_and_leaves_it_as_it_was(arguments: tuple[str, ...]) -> None:
    code, out, shown = on_a_terminal(*arguments)
    assert (code, out) == ((-signal.SIGINT, "") if arguments else (0, "the result\n"))
    assert "proving [3]" in shown
    assert "tracing \\x1b[2J: 1." in shown, "with what it took, once it is over"
    assert "0:00:01" in shown, "the time goes on meanwhile"
    assert "a note" in shown
    assert shown.count(HIDDEN) == shown.count(SHOWN) == 1 + len(arguments)
    assert shown.rindex(SHOWN) > shown.rindex(HIDDEN)


@pytest.mark.skipif(os.name != "posix", reason="terminals as POSIX has them")
def test_no_color_and_dumb_terminals() -> None:
    colours = r"\x1b\[[0-9;]*[0-9]m"
    assert re.search(colours, on_a_terminal("short")[2])
    assert not re.search(colours, on_a_terminal("short", NO_COLOR="1")[2])
    assert "\x1b" not in on_a_terminal("short", TERM="dumb")[2]


def test_a_log_gets_plain_lines_whatever_colours_are_forced() -> None:
    for forced in ({}, {"FORCE_COLOR": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", WORK, "short"], capture_output=True, text=True, env={**os.environ, **forced}
        )
        lines = done.stderr.splitlines()
        assert lines[0] == "tracing \\x1b[2J"
        assert {"proving [0]", "frames: 3/3", "a note"} <= set(lines)
        assert re.fullmatch(r"tracing \\x1b\[2J: \d\.\d s", lines[-1]), "what took long is told again, with its time"
        assert "\x1b" not in done.stderr


def test_the_first_item_tells_nothing_of_the_time_left() -> None:
    """It opens the engine and warms it up: 60 s of it would be taken for 60 s each."""
    assert seconds_left(0.0, 1, 100) == 0.0
    assert seconds_left(2.0, 3, 100) == 97.0


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.04, 59.9, 60, 125)] == ["0.0 s", "59.9 s", "1 min 0 s", "2 min 5 s"]
