"""`unblur reproduce`, `python engines/reproduce_engine.py`: what times an engine with other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door
from unblur.cli.output import Output


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder and name what is in it."""
    parser = Arguments(
        "unblur reproduce", "Write command lines and a C++ program that time an engine with other tools.",
        "unblur reproduce my.engine",
    )  # fmt: skip
    parser.add_argument("engine", type=Path, help="an engine that unblur built")
    parser.add_argument("--output", type=Path, help="the folder to write (default: ENGINE.reproduce)")
    arguments = parser.parse_args(argv)

    from unblur.engines.tensorrt.reproduce import write_reproduction

    engine: Path = arguments.engine
    folder = write_reproduction(engine, arguments.output or Path(f"{engine}.reproduce"))
    files = sorted(path.name for path in folder.iterdir())
    out = Output(arguments)
    out.say(f"{folder}: {', '.join(files)}")
    out.figures({"folder": folder, "files": files})
    return 0
