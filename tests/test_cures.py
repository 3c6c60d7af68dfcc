"""What a message or a page tells people to type exists: verbs, extras, packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args, get_type_hints

from unblur.cli import app
from unblur.graphs.sessions import Provider

ROOT = Path(__file__).parents[1]
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
PACKAGES = {"tensorrt,", "tensorrt", "-U tensorrt"}
"""That no extra brings, because most machines have no use for them."""

PAGES = [path for pattern in ("*.md", "*/*.md") for path in ROOT.glob(pattern) if path.name != "lab-log.md"]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def typed(pattern: str) -> dict[str, set[str]]:
    """What the pattern's group finds, and where; a string that goes on in the next line is one."""
    found: dict[str, set[str]] = {}
    for path in [*SOURCES, *PAGES]:
        text = re.sub(r"""["']\n\s*f?["']""", "", path.read_text()) if path.suffix == ".py" else path.read_text()
        for what in re.findall(pattern, text):
            found.setdefault(what, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_verbs_that_are_named_exist() -> None:
    found = typed(r"`unblur ([a-z]+)")
    assert "src/unblur/graphs/metadata.py" in found["export"], "or the pattern finds nothing"
    assert {verb: where for verb, where in found.items() if verb not in {*app.VERBS, "help"}} == {}


def test_packages_are_installed_from_where_they_are() -> None:
    """unblur is on no index: its extras come from its folder."""
    found = typed(r"""pip install ((?:--?[a-zA-Z-]+ )*(?:"[^"\n]*"|[\w\[\],-]+))""")
    assert "src/unblur/graphs/sessions.py" in found['-e ".[{extra}]"'], "or the pattern finds nothing"
    for command, where in found.items():
        extras = re.fullmatch(r"(?:--force-reinstall )?-e \"\.\[(.+)\]\"", command)
        if extras is None:
            assert command in PACKAGES, (command, where)
        elif not extras[1].startswith("{"):
            assert set(extras[1].split(",")) <= EXTRAS, (command, where)


def test_extras_that_messages_fill_in_exist() -> None:
    assert set(get_args(get_type_hints(Provider)["extra"])) <= EXTRAS
