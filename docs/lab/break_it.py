"""Break it on purpose and count what survives: `python docs/lab/break_it.py [SEED] [--real]`, five minutes with --real.

Small stages, which need no network, are made by the store and by the writers that all stages use, and meanwhile: each
system call that changes the disk becomes the last one of its process, processes run side by side, stored files are
damaged, and files may not grow. Whatever happens, the same work done again must end right and leave nothing behind.
--real: the same kills and limits for `unblur run`, and Ctrl-C for `unblur export`, on a network of a few channels.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from unblur.calibration.search.ledger import Ledger
from unblur.cli.door import door
from unblur.core import leftovers
from unblur.core.artefacts import read_sealed, write_sealed, write_together
from unblur.pipeline.store import Recipe, Store, toolchain

DEADLY = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "open", "ftruncate", "write")
DATA = bytes(range(256)) * 8
KILLED = -signal.SIGKILL
Work = Callable[[Path], None]


def work(place: Path) -> None:
    """Each kind of file that is stored: an artefact, a folder made of it, a sealed file, a ledger and a report."""
    # Whoever writes into a folder sweeps it, once; where all is written already, nobody would.
    for written in (place, *(one for one in place.glob("store/*") if one.is_dir())):
        leftovers.sweep(written)
    store = Store(place / "store")
    file = store.make(Recipe("file", {}, {}), "a.bin", lambda path: path.write_bytes(DATA))

    def fill(folder: Path) -> None:
        for name in ("b", "c"):
            (folder / name).write_bytes(file.path.read_bytes() + name.encode())

    folder = store.make(Recipe("folder", {}, {"file": file.digest}), "d", fill)
    sealed = place / "sealed.png"
    if read_sealed(sealed) is None:
        write_sealed(sealed, DATA)
    ledger = Ledger(place / "ledger.jsonl")
    values = [ledger.get(str(k), lambda k=k: [k, k / 3]) for k in range(3)]  # type: ignore[misc]
    report = {"report.md": DATA, "report.json": json.dumps(values).encode()}
    write_together({place / "report" / name: data for name, data in report.items()})
    # What a reader sees is right, in every process, at once.
    assert file.path.read_bytes() == DATA
    assert [(folder.path / name).read_bytes() for name in ("b", "c")] == [DATA + b"b", DATA + b"c"]
    assert read_sealed(sealed) == DATA
    assert values == [[k, k / 3] for k in range(3)]


def whole(place: Path) -> bool:
    """Done again the work ends right, with every file that belongs there and none besides."""
    if run(lambda: done(work, place)) != 0:
        return False
    found = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    names = ["ledger.jsonl", "report/report.json", "report/report.md", "sealed.png"]
    return len(found) == 9 and [name for name in found if not name.startswith("store/")] == names


def done(work: Work, place: Path) -> int:
    """The exit code that a door gives this work."""

    @door
    def main(argv: Sequence[str] | None = None) -> int:
        del argv
        work(place)
        return 0

    return main([])


def start(act: Callable[[], int], log: Path | None = None) -> int:
    """Act in a child of this process; gives its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        leftovers._swept.clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background work with it ignored
        os.fsync = lambda _: None  # a kill loses nothing that the kernel has; only lost power does
        output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(k, "wb", closefd=False)) for k in (1, 2))
        code = act()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        if code == 1:
            with contextlib.suppress(Exception):
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        os._exit(code)


def end(child: int) -> int:
    """The exit code of a child, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(act: Callable[[], int], log: Path | None = None) -> int:
    return end(start(act, log))


def dying_at(count: int, act: Callable[[], int]) -> Callable[[], int]:
    """`act` that is killed before its `count`-th call that changes the disk."""

    def dying() -> int:
        left = count

        def deadly(real: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **kwargs: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        for name in DEADLY:
            setattr(os, name, deadly(getattr(os, name)))
        return act()

    return dying


def kills(places: Iterator[Path]) -> tuple[int, int]:
    """Before each call in turn, until the work comes to its end."""
    survived = tried = 0
    while True:
        place = next(places)
        code = run(dying_at(tried + 1, lambda place=place: done(work, place)))  # type: ignore[misc]
        if code == 0:
            return survived, tried
        tried += 1
        survived += code == KILLED and whole(place)


def side_by_side(places: Iterator[Path], processes: int, rounds: int, chance: random.Random) -> tuple[int, int]:
    """At once; in every second round the first of them is killed somewhere."""
    survived = 0
    for number in range(rounds):
        place = next(places)
        act = lambda place=place: done(work, place)  # type: ignore[misc] # noqa: E731
        victim = [start(dying_at(chance.randrange(1, 60), act))] if number % 2 else []
        others = [start(act) for _ in range(processes - len(victim))]
        for child in victim:
            end(child)
        survived += all([end(child) == 0 for child in others]) and whole(place)  # noqa: C419 every one is waited for
    return survived, rounds


def damage(places: Iterator[Path], each: int, chance: random.Random) -> tuple[int, int]:
    """A flipped bit, a cut, nothing, another's bytes, too much: of every file that the work reads again."""
    survived = tried = 0
    place = next(places)
    assert whole(place)
    files = sorted(path for path in place.rglob("*") if path.is_file())
    for file in files:
        good = file.read_bytes()
        for _ in range(each):
            flipped = bytearray(good)
            flipped[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
            for bad in (bytes(flipped), good[: chance.randrange(len(good))], b"", b"{}", good + good, b"[" * 100_000):
                file.write_bytes(bad)
                tried += 1
                survived += whole(place)
    return survived, tried


def limits(places: Iterator[Path], sizes: Sequence[int]) -> tuple[int, int]:
    """No file may grow beyond so many bytes: exit code 2, and the work done again without the limit is right."""
    survived = 0
    for size in sizes:
        place = next(places)
        code = run(lambda place=place, size=size: limited(size, lambda: done(work, place)))  # type: ignore[misc]
        survived += code == 2 and whole(place)
    return survived, len(sizes)


def limited(size: int, act: Callable[[], int]) -> int:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return act()


TOML = """
[network]
checkpoint = "tiny.safetensors"
[frames]
generated = 1
[graph]
height = 32
width = 32
[compare]
engines = ["onnxruntime"]
rounds = 1
threads = 1
[build]
enabled = false
"""


def real(places: Iterator[Path], moments: int) -> Iterator[tuple[str, int, int]]:
    """`unblur run` under kills and limits, `unblur export` under Ctrl-C."""
    import torch

    from unblur.cli import app
    from unblur.networks.banet.network import BANet, BANetSpec
    from unblur.networks.checkpoints import save_checkpoint
    from unblur.pipeline import run as _imported_before_the_forks  # noqa: F401

    torch.set_num_threads(1)
    toolchain(frozenset())  # read once: the sources may be worked on meanwhile
    first = next(places)
    torch.manual_seed(0)
    save_checkpoint(BANet(BANetSpec(depth=2, stem_width=8, width=16, fuse_width=8)), first / "tiny.safetensors")
    (first / "pipeline.toml").write_text(TOML)

    def fresh() -> Path:
        place = next(places)
        shutil.copytree(first, place, dirs_exist_ok=True)
        return place

    def pipeline(place: Path) -> Callable[[], int]:
        return lambda: app.main(["run", "--config", str(place / "pipeline.toml")])

    def sound(place: Path) -> bool:
        log = place / "log"
        codes = [run(pipeline(place), log) for _ in range(2)]
        left = [path for path in place.rglob(".*") if "part" in path.name or path.name.endswith("lock")]
        return codes == [0, 0] and "Nothing had changed" in log.read_text() and not left

    began = time.monotonic()
    export = ["export", "--checkpoint", str(first / "tiny.safetensors"), "--height", "32", "--width", "32", "--output"]
    assert run(lambda: app.main([*export, str(first / "g.onnx")])) == 0
    took = time.monotonic() - began
    survived = 0
    for k in range(moments):
        place = next(places)
        child = start(lambda place=place: app.main([*export, str(place / "g.onnx")]), place / "log")  # type: ignore[misc]
        time.sleep(took * (k + 0.5) / moments)
        os.kill(child, signal.SIGINT)
        code = end(child)
        told = (place / "log").read_text()
        written = sorted(path.name for path in place.iterdir())
        ended = code == 0 and written == ["g.onnx", "log"]
        fine = (ended or (code == 130 and written == ["log"])) and "Traceback" not in told
        survived += fine
        if not fine:
            print(f"Ctrl-C after {took * (k + 0.5) / moments:.2f} s: exit code {code}, {written}\n{told}")
    yield f"unblur export, Ctrl-C at {moments} moments of {took:.1f} s", survived, moments

    sizes = [0, 100, 1000, 3000, 10_000, 30_000]
    codes = [run(lambda p=p, s=s: limited(s, pipeline(p)), p.parent / "log") for s in sizes if (p := fresh())]  # type: ignore[misc]
    yield "unblur run, files limited to 0 to 30,000 bytes", codes.count(2), len(sizes)

    survived = tried = 0
    step, place = 1, fresh()
    while (code := run(dying_at(step, pipeline(place)), place / "log")) != 0:
        survived, tried, step = survived + (code == KILLED and sound(place)), tried + 1, step + 9
        place = fresh()
    yield "unblur run, killed before every ninth call", survived, tried


def all_small(places: Iterator[Path], seed: int, rounds: int, each: int) -> Iterator[tuple[str, int, int]]:
    """What was tried, how often all was well, how often it was tried."""
    work(next(places))  # reads the sources and the packages' versions once, not in every child
    yield "killed before each call that changes the disk", *kills(places)
    for processes in (2, 4):
        tried = side_by_side(places, processes, rounds, random.Random(seed))
        yield f"{processes} processes side by side, one killed in every second round", *tried
    yield "stored files damaged", *damage(places, each, random.Random(seed))
    yield "files limited to 0 to 2,000 bytes", *limits(places, [0, 1, 6, 100, 500, 2000])


def new_places(root: Path) -> Iterator[Path]:
    """Empty folders."""
    number = 0
    while True:
        place = root / str(number)
        place.mkdir()
        yield place
        number += 1


def main() -> None:
    arguments = [word for word in sys.argv[1:] if word != "--real"]
    seed = int(arguments[0]) if arguments else 0
    with tempfile.TemporaryDirectory() as folder:
        places = new_places(Path(folder))
        small = all_small(places, seed, rounds=40, each=10)
        for what, survived, tried in itertools.chain(small, real(places, 35) if "--real" in sys.argv else ()):
            print(f"{survived:>4} of {tried:<4} {what}", flush=True)


if __name__ == "__main__":
    main()
