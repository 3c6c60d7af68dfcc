"""What a door says, and where: --quiet, --verbose, --json."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from unblur.cli.door import Arguments, door
from unblur.cli.output import Output
from unblur.core.errors import BudgetError, InputError


@door
def main(argv: Sequence[str] | None = None) -> int:
    """A door with a result, a note and a budget."""
    parser = Arguments("unblur odd", "An odd door.", "unblur odd --broken", json=True)
    parser.add_argument("--broken", action="store_true", help="break the budget")
    arguments = parser.parse_args(argv)
    out = Output(arguments)
    out.progress.note("on the way")
    out.say("made \x1b[2J.onnx")
    out.figures({"graph": Path("a.onnx"), "sizes": (1, 2), "proofs": [{"file": Path("b")}]})
    if arguments.broken:
        raise BudgetError("too few decibels")
    return 0


RESULT = {"graph": "a.onnx", "sizes": [1, 2], "proofs": [{"file": "b"}]}
SAID = "made \\x1b[2J.onnx\n"


@pytest.mark.parametrize(
    ("flags", "out", "err"),
    [
        ([], SAID, "on the way\n"),
        (["-q"], SAID, ""),
        (["--json"], RESULT, "on the way\n" + SAID),
        (["--json", "--quiet"], RESULT, ""),
        (["--json", "--broken"], RESULT, "on the way\n" + SAID + "unblur: too few decibels\n"),
        (["--quiet", "--broken"], SAID, "unblur: too few decibels\n"),
    ],
)
def test_where_everything_goes(flags: list[str], out: object, err: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags) == (3 if "--broken" in flags else 0)
    said = capsys.readouterr()
    assert (json.loads(said.out) if "--json" in flags else said.out) == out
    assert said.err == err


def test_verbose_lines_begin_with_the_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-v"]) == 0
    assert re.fullmatch(r" +\d+\.\d s  on the way\n", capsys.readouterr().err)


def test_quiet_and_verbose_exclude_each_other() -> None:
    with pytest.raises(InputError, match="not allowed with"):
        Arguments("t", "t").parse_args(["-q", "-v"])


def test_help_tells_defaults_that_are_some_and_keeps_the_lines_of_examples() -> None:
    parser = Arguments("t", "d", "t --size 1x2", "t --many " + "x" * 100)
    parser.add_argument("--none", help="no default")
    parser.add_argument("--flag", action="store_true", help="a flag")
    parser.add_argument("--list", action="append", default=[], help="a list")
    parser.add_argument("--size", default=(256, 128), help="a size")
    parser.add_argument("--count", default=3, help="a count")
    parser.add_argument("--told", default=3, help="a count (default: three)")
    text = parser.format_help()
    assert re.findall(r"\(default: .*?\)", text) == ["(default: 256x128)", "(default: 3)", "(default: three)"]
    assert text.endswith(f"examples:\n  t --size 1x2\n  t --many {'x' * 100}\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_table_into_a_closed_pipe_is_141() -> None:
    """rich by itself leaves with 1 there."""
    code = (
        "import sys\nfrom unblur.cli.door import door\nfrom unblur.core.console import PlainConsole\n@door\n"
        "def main(argv=None):\n    for _ in range(200):\n        PlainConsole().print('x' * 70)\n    return 0\n"
        "sys.exit(main())"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    err = child.stderr.read()
    assert (child.wait(timeout=60), err) == (141, b"")
    child.stderr.close()
