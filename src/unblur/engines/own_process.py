"""An engine in a process of its own: what ends it there (a crash, a hang, a full memory) ends nothing else.

Requests and answers go through pipes. What takes time is timed in there (`within`): pipes are outside of every
stopwatch, and `time.perf_counter_ns` is one clock for all processes of a machine.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from numpy.typing import NDArray

from unblur.core.console import printable
from unblur.core.errors import BudgetError, ChangedError, CrashError, InputError, MissingRuntimeError, UnblurError
from unblur.core.interrupts import end_with_parent
from unblur.engines.base import BaseRunner
from unblur.engines.engine import Engine, Opening
from unblur.engines.runner import Runner

R = TypeVar("R")

LEAVING_S = 10.0
"""For a process to end by itself, once it was asked to or has stopped answering."""

PROCESS = "process"
"""In a runner's description: "its own"."""


class _UnknownThereError(UnblurError):
    """The other process has not the code of an engine."""


_ERRORS = {
    e.__name__: e for e in (InputError, ChangedError, BudgetError, MissingRuntimeError, CrashError, _UnknownThereError)
}
_LAST_CALL = re.compile(r'Current thread .*\n\s+File "(?:.*[/\\])?(.+)", line (\d+) in (\S+)')
_WORDS_MAX = 200


def open_in_own_process(engine: Engine, known: bool, opening: Opening, seconds: float) -> Runner:
    """An engine opened in a new process, where no call may take longer than `seconds`.

    `known`: the catalogue of a new process has it; another one goes there by pickle, and where that cannot be (it was
    made by a lambda, or by a module that no new process finds) it is opened in this process, as its description then
    shows. Raises what opening raises, and CrashError.
    """
    try:
        what = pickle.dumps((opening.name if known else engine, opening))
    except (pickle.PicklingError, AttributeError, TypeError):
        return engine.open(opening)
    try:
        return OwnProcessRunner(what, seconds)
    except _UnknownThereError:
        return engine.open(opening)


def within(runner: Runner, build: Callable[..., Callable[..., R]], *arguments: object) -> Callable[..., R]:
    """`build(runner, *arguments)` where the engine is: in its own process, if it has one.

    `build`, a function of a module, its arguments, and those and results of what it gives must bear pickling. Raises as
    `OwnProcessRunner.run`.
    """
    if isinstance(runner, OwnProcessRunner):
        return runner.within(build, *arguments)
    return build(runner, *arguments)


class OwnProcessRunner(BaseRunner):
    """A runner whose engine is elsewhere. Once that process is gone, every call raises the same CrashError."""

    def __init__(self, what: bytes, seconds: float) -> None:
        """`what`: an engine or its name, and its opening, pickled."""
        self._seconds = seconds
        self._crashed = ""
        self._hung = False
        self._turn = threading.Lock()  # a question and its answer belong together
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the process
        # Where this Python finds modules, that one does: unblur may be in the path of a door alone.
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words,
            env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip
        try:
            signature, description = self._ask("opening it", "open", what)
        except BaseException:
            self._end()
            raise
        super().__init__(signature, description)

    @property
    def description(self) -> dict[str, str]:
        """What the engine says of itself now, such as whether a CUDA graph was captured; once it is gone, at last."""
        if self._open and not self._crashed:
            with contextlib.suppress(CrashError):
                self._description = self._ask("describing itself", "describe")
        return self._description | {PROCESS: "its own"}

    def within(self, build: Callable[..., Callable[..., R]], *arguments: object) -> Callable[..., R]:
        """As the function."""
        number = self._ask("preparing", "build", pickle.dumps((build, arguments)))
        return lambda *given: self._ask("a timed frame", "call", number, given)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, UnblurError):  # Ctrl-C may have cut a message in two
            self._process.kill()
        self.close()

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        result: NDArray[Any] = self._ask("a frame", "call", 0, (tensor,))
        return result

    def _release(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(UnblurError):  # all that was asked for is here
                self._description = self._ask("closing", "close")
        self._end()

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(LEAVING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()

    def _ask(self, what: str, *request: object) -> Any:
        """The answer to a request; `what` it is, in words."""
        with self._turn:
            return self._asked(what, request)

    def _asked(self, what: str, request: tuple[object, ...]) -> Any:
        if self._crashed:
            raise CrashError(self._crashed)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        began = time.monotonic()
        watch = threading.Timer(self._seconds, self._take_for_hung)
        watch.daemon = True
        watch.start()
        try:
            pickle.dump(request, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
            error, answer = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as ended:
            self._crashed = self._how_it_ended(what, time.monotonic() - began)
            raise CrashError(self._crashed) from ended
        finally:
            watch.cancel()
        if error == CrashError.__name__:
            self._crashed = answer
        if error is not None:
            raise _ERRORS.get(error, UnblurError)(answer)
        return answer

    def _take_for_hung(self) -> None:
        self._hung = True
        self._process.send_signal(signal.SIGABRT if os.name == "posix" else signal.SIGTERM)  # tells where it is
        try:
            self._process.wait(LEAVING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _how_it_ended(self, what: str, elapsed: float) -> str:
        try:
            status = self._process.wait(LEAVING_S)
        except subprocess.TimeoutExpired:  # it answers no more, and lives
            self._process.kill()
            status = self._process.wait()
        if self._hung:
            text = f"{what} did not end within {self._seconds:g} s (compare.hang_seconds); its process was ended"
        else:
            text = f"its process {ended_text(status)}, {elapsed:.1f} s into {what}"
        self._words.seek(max(0, self._words.seek(0, os.SEEK_END) - 100_000))
        words = self._words.read().decode(errors="replace")
        if call := _LAST_CALL.search(words):
            return f"{text}, in {call[3]} ({call[1]}:{call[2]})"
        last = printable(words.strip().rpartition("\n")[2])[:_WORDS_MAX]
        return f"{text} ({Path(last).name if last.startswith(os.sep) else last})" if last else text


def ended_text(status: int) -> str:
    """How a process ended, by its return code."""
    if status >= 0:
        return f"ended by itself with code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was ended by {name}{', as by a system short of memory' * (name == 'SIGKILL')}"


def serve() -> None:
    """What the other process does."""
    faulthandler.enable()
    end_with_parent()
    _go_first()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    runner: Runner | None = None
    built: list[Callable[..., Any]] = []
    while True:
        try:
            kind, *request = pickle.load(sys.stdin.buffer)
        except EOFError:  # nobody asks any more
            return
        error: str | None = None
        answer: Any = None
        try:
            if kind == "open":
                runner = _open(*request)
                built = [runner.run]
                answer = (runner.signature, runner.description)
            elif kind == "build":
                build, arguments = pickle.loads(request[0])
                built.append(build(runner, *arguments))
                answer = len(built) - 1
            elif kind == "call":
                answer = built[request[0]](*request[1])
            elif runner is not None:
                try:
                    answer = runner.description
                finally:
                    if kind == "close":
                        runner.close()
        except UnblurError as caught:
            error, answer = type(caught).__name__, str(caught)
        except Exception as caught:  # noqa: BLE001  # whatever it is, it is told
            traceback.print_exc()
            error, answer = CrashError.__name__, f"it raised {type(caught).__name__}: {caught}"
        pickle.dump((error, answer), answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _open(what: bytes) -> Runner:
    from unblur.engines.catalogue import find_engine

    try:
        engine, opening = pickle.loads(what)
    except (ImportError, AttributeError) as error:
        raise _UnknownThereError(str(error)) from error
    if not isinstance(engine, Engine):
        engine = find_engine(engine)
    return engine.open(opening)


def _go_first() -> None:
    """A system short of memory shall take the engine, not who asks."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    serve()
