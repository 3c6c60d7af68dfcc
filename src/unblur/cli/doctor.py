"""`unblur doctor`: what is installed, what runs here, and what would bring the rest."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unblur import __version__
from unblur.cli.door import Arguments, door
from unblur.cli.output import Output

if TYPE_CHECKING:
    from unblur.pipeline.checkup import Checkup

WIDEST, INDENT = 100, 14


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Print it; always 0, for a machine that lacks something is no fault."""
    parser = Arguments(
        "unblur doctor",
        "What is installed, what of it runs on this machine, and for each engine that does not what it lacks. Every "
        "engine is opened once: seconds.",
        "unblur doctor",
        "unblur doctor --json",
    )
    out = Output(parser.parse_args(argv))
    # After the arguments: --help needs no engine.
    from unblur.core.provenance import cpu_features, default_threads, machine, package_versions
    from unblur.engines.catalogue import CATALOGUE
    from unblur.pipeline.checkup import check_up

    with out.progress.stage("opening every engine once"):
        found = check_up(tuple(CATALOGUE))
    here, features, packages = machine(), cpu_features(), package_versions()
    has = [name for name, is_there in features.items() if is_there]
    lacks = [name for name, is_there in features.items() if not is_there]
    told = f"{', '.join(has) or 'none of note'}{'; not ' if lacks else ''}{', '.join(lacks)}"
    out.say(f"unblur {__version__}, Python {here['python']} ({sys.executable})")
    _section(out, "machine", {
        "processor": f"{here['cpu']}, {here['usable_cores']} usable core(s), {here['memory_gib']} GiB of memory",
        "instructions": told if features else "not told by this system",
        "threads": f"{default_threads()} for each engine, unless --threads says otherwise",
        "GPU": "; ".join(_gpu(gpu) for gpu in found.gpus) or found.no_gpu,
        **({"driver": f"speaks CUDA {found.cuda}"} if found.cuda else {}),
        "compiler": f"{found.compiler}, for `unblur build`" if found.compiler else found.no_compiler,
    })  # fmt: skip
    _section(out, "packages", packages)
    runs = {name: CATALOGUE[name].text for name, missing in found.engines.items() if not missing}
    _section(out, f"engines that run here ({len(runs)} of {len(found.engines)})", runs)
    out.say("\nengines that do not, and why" if len(runs) < len(found.engines) else "")
    for reason, names in _by_reason(found).items():
        out.say(_wrapped(reason, "  ", "  "))
        out.say(_wrapped(", ".join(names), "      ", "      "))
    out.figures({
        "unblur": __version__, "machine": here, "instructions": features, "threads": default_threads(),
        "packages": packages, "gpus": found.gpus, "no_gpu": found.no_gpu, "cuda": found.cuda,
        "compiler": found.compiler, "no_compiler": found.no_compiler,
        "engines": {name: {"runs": not missing, "missing": missing} for name, missing in found.engines.items()},
    })  # fmt: skip
    return 0


def _by_reason(found: Checkup) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in found.engines.items():
        if reason:
            reasons.setdefault(reason, []).append(name)
    return reasons


def _gpu(gpu: Mapping[str, Any]) -> str:
    return f"{gpu['name']} ({gpu['target']}), {gpu['memory_bytes'] / 2**30:.1f} GiB"


def _section(out: Output, heading: str, rows: Mapping[str, str]) -> None:
    out.say(f"\n{heading}")
    wide = max((len(name) for name in rows), default=0) + 2
    for name, text in rows.items():
        out.say(_wrapped(text, f"  {name:<{max(wide, INDENT)}}", " " * (2 + max(wide, INDENT))))


def _wrapped(text: str, first: str, others: str) -> str:
    width = min(shutil.get_terminal_size().columns, WIDEST)
    lines: Iterable[str] = textwrap.wrap(text, width, initial_indent=first, subsequent_indent=others,
                                         break_long_words=False, break_on_hyphens=False)  # fmt: skip
    return "\n".join(lines)
