"""`unblur` itself: verbs, exit codes, and how little it imports."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from unblur import __version__
from unblur.cli import app
from unblur.cli.door import Arguments, door, positive
from unblur.core.errors import BudgetError, InputError, MissingRuntimeError

HEAVY = {"torch", "onnx", "onnxscript", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "skimage", "matplotlib"}
ROOT = Path(__file__).parents[2]


def imported(code: str) -> set[str]:
    """Top-level packages in sys.modules after the code ran in a fresh interpreter."""
    tail = "\nimport sys, json; print('MODULES', json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.split("MODULES")[1]))


@pytest.mark.parametrize(
    "code",
    [
        "import unblur.cli.app",
        "from unblur.cli.app import main; assert main(['--help']) == 0",
        "from unblur.cli.app import main; assert main(['dblur']) == 2",
    ],
)
def test_the_front_door_imports_no_runtime(code: str) -> None:
    modules = imported(code)
    assert "unblur" in modules
    assert modules & HEAVY == set()


def test_a_verbs_help_imports_no_runtime() -> None:
    code = (
        f"from unblur.cli.app import main\nfor verb in {list(app.VERBS)}:\n"
        "    try: main([verb, '--help'])\n    except SystemExit as done: assert done.code == 0\n    else: assert False"
    )
    assert imported(code) & HEAVY == set()


def test_planning_and_resuming_deblurring_imports_no_runtime() -> None:
    """A folder that is finished must not cost the seconds that a runtime takes to load."""
    modules = (
        "from unblur.pipeline.deblur import folder as deblur_folder, tasks as deblur_tasks; "
        "from unblur.engines import catalogue, named; "
        "from unblur.pipeline.dependence import depends_on; "
        "from unblur.pipeline import places"
    )
    planned = "depends_on([named.name_engine(catalogue.choose_engine('auto', 'fp32', 'cpu'))])"
    assert imported(f"{modules}; {planned}") & HEAVY == set()


def test_help_version_and_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {verb} " in listed for verb in ("run", "export", "build", "deblur", "compare", "train"))
    assert app.main(["--version"]) == 0
    assert capsys.readouterr().out == f"unblur {__version__}\n"
    assert app.main([]) == 2
    assert "usage: unblur VERB" in capsys.readouterr().out


@pytest.mark.parametrize(("typed", "meant"), [("dblur", "deblur"), ("exprot", "export"), ("--hepl", ""), ("x", "")])
def test_an_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str], typed: str, meant: str) -> None:
    assert app.main([typed]) == 2
    err = capsys.readouterr().err
    assert f"Unknown verb {typed!r}" in err
    assert ("did you mean" in err) == bool(meant)
    assert f"did you mean {meant!r}?" in err or not meant
    assert "usage:" in err


def test_an_unknown_flag_of_a_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["deblur", "in", "out", "--checkpiont=w.pth"]) == 2
    err = capsys.readouterr().err
    assert "--checkpiont" in err
    assert "did you mean --checkpoint?" in err


def test_flags_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["deblur", "in", "out", "--over"]) == 2, "a script must not break when a second --over... comes"
    assert "unrecognized arguments: --over" in capsys.readouterr().err


@pytest.mark.parametrize("verb", app.VERBS)
def test_every_verb_has_its_door(verb: str) -> None:
    module = app.VERBS[verb][0]
    assert (ROOT / "src/unblur/cli" / f"{module}.py").is_file()


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("a"), 2), (BudgetError("b"), 3), (MissingRuntimeError("c"), 4)]
)
def test_exit_codes(capsys: pytest.CaptureFixture[str], error: Exception, code: int) -> None:
    @door
    def main(argv: Sequence[str] | None = None) -> int:
        raise error

    assert main() == code
    assert capsys.readouterr().err == f"unblur: {error}\n"


def test_a_bug_keeps_its_traceback() -> None:
    @door
    def main(argv: Sequence[str] | None = None) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main()


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    @door
    def main(argv: Sequence[str] | None = None) -> int:
        raise KeyboardInterrupt

    assert main() == 130
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_closed_pipe_is_141_without_a_word() -> None:
    """As in `unblur --help | head -0`, with more to say than a pipe holds."""
    code = (
        "import sys\nfrom unblur.cli.door import door\n@door\ndef main(argv=None):\n"
        "    print('x' * 10_000_000)\n    return 0\nsys.exit(main())"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    err = child.stderr.read()
    assert (child.wait(timeout=60), err) == (141, b"")
    child.stderr.close()


STRIKES = """
import contextlib, os, signal, sys
from unblur.cli.door import door
from unblur.core.errors import InputError

def chained():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        raise ZeroDivisionError from error

def hidden():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise InputError("the graph is none") from None

def lost():
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    raise ZeroDivisionError

@door
def main(argv=None):
    globals()[sys.argv[1]]()
    return 0

code = main()
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
sys.exit(code)
"""


@pytest.mark.parametrize("strike", ["chained", "hidden", "lost"])
def test_ctrl_c_is_130_whatever_a_library_makes_of_it(strike: str) -> None:
    """As torch._dynamo and TorchScript do while they trace. In a process of its own: a signal here is the worker's."""
    done = subprocess.run([sys.executable, "-c", STRIKES, strike], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr


ODD = """
import os, sys
from unblur.cli.door import door
from unblur.core.errors import InputError
__name__ = "unblur.cli.odd"
@door
def main(argv=None):
    print(*(["x" * 100_000] if "long" in sys.argv else ["gr\\u00fc\\u00dfe \\u2192", os.fsdecode(b"gr\\xfc")]))
    if "fail" in sys.argv:
        raise InputError("\\x1b[2J" + os.fsdecode(b"gr\\xfc"))
    return 0
sys.exit(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="streams as POSIX has them")
@pytest.mark.parametrize(
    ("streams", "code", "shown"),
    [
        ("", 0, "grüße →"),
        ("PYTHONIOENCODING=ascii", 0, r"gr\xfc\xdfe \u2192"),
        ("LC_ALL=C PYTHONUTF8=0", 0, "gr"),
        ("fail", 2, r"\x1b[2Jgr\xfc"),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        ("fail >&- 2>&-", 2, ""),
        (">/dev/full", 2, "Cannot write to stdout: the disk is full"),
        ("long >/dev/full", 2, "Cannot write to stdout: the disk is full"),
        ("long >/dev/full 2>/dev/full", 2, ""),
        ("fail 2>/dev/full", 2, ""),
    ],
)
def test_no_stream_and_no_encoding_costs_a_report(streams: str, code: int, shown: str) -> None:
    words = streams.split()
    before, after = [word for word in words if "=" in word], [word for word in words if "=" not in word]
    line = f"{' '.join(before)} {shlex.quote(sys.executable)} -c {shlex.quote(ODD)} {' '.join(after)}"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(["sh", "-c", line], capture_output=True, env=environment, timeout=60)
    told = (done.stdout + done.stderr).decode()
    assert (done.returncode, "Traceback" in told, "Exception ignored" in told) == (code, False, False), told
    assert shown in told


def test_closed_streams_do_not_become_files(tmp_path: Path) -> None:
    """With stdout closed, the first file that is opened would be it."""
    code = (
        f"from pathlib import Path\nfrom unblur.cli.door import door\n@door\ndef main(argv=None):\n"
        f"    with Path({str(tmp_path / 'graph')!r}).open('wb') as file:\n        assert file.fileno() > 2\n"
        "    return 0\nraise SystemExit(main())"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} >&- 2>&- <&-"
    assert subprocess.run(["sh", "-c", command], timeout=60).returncode == 0


def test_a_full_disk_anywhere_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for number, words in ((errno.ENOSPC, "the disk is full"), (errno.EFBIG, "ulimit -f")):

        @door
        def main(argv: Sequence[str] | None = None, number: int = number) -> int:
            raise OSError(number, os.strerror(number), "/somewhere/file")

        assert main() == 2
        error = capsys.readouterr().err
        assert "/somewhere/file" in error
        assert words in error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "x.pth"), "Cannot use x.pth: File name too long; name"),
        (PermissionError(errno.EACCES, "Permission denied", b"x.pth"), "Cannot use x.pth: Permission denied; name"),
        (OSError(errno.EMFILE, "Too many open files", "x.pth"), "Cannot open x.pth: Too many open files; raise"),
        (MemoryError("Unable to allocate 112. GiB"), r"not hold this (Unable to allocate 112. GiB); free some"),
        (MemoryError(), "Memory does not hold this; free some"),
    ],
)
def test_what_the_machine_refuses_is_a_sentence(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @door
    def main(argv: Sequence[str] | None = None) -> int:
        raise error

    assert main() == 2
    assert words in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="Windows removes no folder that somebody is in")
def test_a_working_folder_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    try:
        assert app.main(["export"]) == 2
    finally:
        tmp_path.mkdir()
    assert "does not exist any more; cd to one" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["xray"], ["reproduce"]])
@pytest.mark.parametrize("path", ["", "/"])
def test_an_engine_without_a_name(verb: list[str], path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main([*verb, path]) == 2
    assert "is a directory" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="limits as POSIX has them")
def test_no_room_for_temporary_files_is_a_sentence() -> None:
    code = (
        "import tempfile\nfrom unblur.cli.door import door\n@door\ndef main(argv=None):\n"
        "    import resource\n    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "    tempfile.mkdtemp()\n    return 0\nraise SystemExit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "TMPDIR" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "two", ""])
def test_positive_refuses(text: str) -> None:
    parser = Arguments("t", "t")
    parser.add_argument("--n", type=positive)
    with pytest.raises(InputError, match="not a whole number of at least 1"):
        parser.parse_args([f"--n={text}"])
    assert parser.parse_args(["--n=7"]).n == 7


@pytest.mark.parametrize("script", sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("e*/*.py")))
def test_the_scripts_run_from_any_folder(tmp_path: Path, script: str) -> None:
    done = subprocess.run([sys.executable, ROOT / script, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize("verb", ["deblur", "compare", "calibrate", "speed", "search"])
@pytest.mark.parametrize("threads", ["0", "1000000000", "9" * 5000, "two"])
def test_threads_that_nobody_means(verb: str, threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main([verb, "--threads", threads]) == 2
    assert "argument --threads" in capsys.readouterr().err


class ParsedError(Exception):
    """Instead of the work."""


@pytest.mark.parametrize("verb", app.VERBS)
def test_a_verbs_help_is_honest(verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No default that is none; every verb's voice; examples that parse."""
    with pytest.raises(SystemExit):
        app.main(["help", verb])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: unblur {verb} ")
    assert not re.search(r"\(default: (None|False|\[\]|\()", text)
    assert {"--quiet", "--verbose", "--json"} <= set(re.findall(r"--[a-z-]+", text))
    _, found, tail = text.partition("example")
    examples = re.findall(r"^  unblur (.*)$", tail, re.MULTILINE)
    assert found
    assert examples
    parse = Arguments.parse_args

    def parse_only(self: Arguments, *arguments: Any) -> Any:
        parse(self, *arguments)
        raise ParsedError

    monkeypatch.setattr(Arguments, "parse_args", parse_only)
    for example in examples:
        assert shlex.split(example)[0] == verb
        with pytest.raises(ParsedError):
            app.main(shlex.split(example))


def test_help_names_the_nearest_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["help"]) == 0
    assert "usage: unblur VERB" in capsys.readouterr().out
    assert app.main(["help", "exprot"]) == 2
    assert "did you mean 'export'?" in capsys.readouterr().err
