"""The artefact store: content-addressed files and folders, whole or not there.

A key is the digest of a stage's name, its specification, the digests of its parents and the toolchain. The
toolchain is everything installed that results can depend on, and unblur's own source; a stage may only leave
out runtimes, and only by naming those it uses.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import unblur
from unblur.core.artefacts import atomic_folder, atomic_path, file_digest, value_digest, write_json
from unblur.core.console import SILENT
from unblur.core.errors import InputError
from unblur.core.exclusive import exclusive, forget
from unblur.core.provenance import machine, package_versions
from unblur.core.reading import read_json
from unblur.engines.catalogue import CATALOGUE

ALWAYS = frozenset({"torch"})
"""Packages of engines that count for every stage: every graph is traced with it."""

RUNTIMES = frozenset[str]().union(*(engine.packages for engine in CATALOGUE.values())) - ALWAYS
"""Packages that a stage depends on only if it says so; every other package counts for every stage."""

LEFT_BY_RUNNING = frozenset({".runtime-cache"})
"""Suffixes of files that appear beside an engine when it runs: kernels that TensorRT for RTX made for the GPU."""


@dataclass(frozen=True)
class Recipe:
    """All that an artefact depends on. `machine_bound`: the result is a measurement of this machine."""

    stage: str
    spec: Mapping[str, Any]
    parents: Mapping[str, str]
    runtimes: frozenset[str] = frozenset()
    machine_bound: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "spec": dict(self.spec),
            "parents": dict(self.parents),
            "toolchain": toolchain(self.runtimes),
            "machine": machine() if self.machine_bound else None,
        }

    @property
    def key(self) -> str:
        return value_digest(self.to_json())


@dataclass(frozen=True)
class Artefact:
    """A finished file or folder of the store. `fresh`: it was made now."""

    path: Path
    digest: str
    fresh: bool


class Store:
    """Artefacts below one folder, `<root>/<stage>/<label>-<key>`, each with a JSON sidecar that tells its recipe."""

    def __init__(self, root: Path, say: Callable[[str], None] = SILENT.note) -> None:
        """`say`: where the sentence goes that another process is making what is asked for."""
        self.root = root
        self._say = say

    def make(
        self, recipe: Recipe, label: str, write: Callable[[Path], None], whole: Callable[[], bool] = lambda: True
    ) -> Artefact:
        """The artefact of a recipe: found whole, or made by `write`, which fills the path it is given.

        `label` is readable and may end in a suffix; without one the artefact is a folder. Of two processes that ask
        for one artefact the second waits, and takes what the first has made. What `write` raises passes through, and
        nothing is left under the final name. `whole` is asked after writing: False leaves the artefact without its
        sidecar, so that it is good for this run, and the next one makes it again.
        """
        name, dot, suffix = label.partition(".")
        asked = recipe.to_json()  # once: a library may set a switch of its own while `write` works
        path = self.root / recipe.stage / f"{name}-{value_digest(asked)[:16]}{dot}{suffix}"
        sidecar = path.with_name(path.name + ".recipe.json")
        if found := _find(path, sidecar, asked):
            forget(path)
            return found
        with exclusive(path, self._say):
            if found := _find(path, sidecar, asked):
                return found
            with (atomic_path if dot else atomic_folder)(path) as temporary:
                write(temporary)
                digest = digest_of(temporary)
                # From here to the last line what stands there, if anything, is of no recipe.
                sidecar.unlink(missing_ok=True)
            if whole():
                write_json(sidecar, _statement(asked, digest))
        return Artefact(path, digest, fresh=True)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents, but for what running an engine leaves there."""
    if path.is_file():
        return file_digest(path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix not in LEFT_BY_RUNNING)
    return value_digest({p.relative_to(path).as_posix(): file_digest(p) for p in files})


def toolchain(runtimes: frozenset[str]) -> dict[str, str]:
    """Versions of all packages that count, and digests of the source of unblur and of networks that were registered."""
    versions = {name: text for name, text in package_versions().items() if name not in RUNTIMES - runtimes}
    others = installed(runtimes - versions.keys())  # of engines that this list does not know
    return {**versions, **others, **_guests(), "unblur_source": _source_digest()}


def _guests() -> dict[str, str]:
    """Where the registry was never imported, which brings PyTorch, nobody can have registered a network."""
    registry = sys.modules.get("unblur.networks.registry")
    return {f"network {name}": code for name, code in registry.code_of_guests().items()} if registry else {}


def installed(packages: frozenset[str]) -> dict[str, str]:
    """Versions of those of these distributions that are installed."""
    found = {}
    for name in sorted(packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@cache
def _source_digest() -> str:
    root = Path(unblur.__file__).parent
    total = hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.jinja")]):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def _find(path: Path, sidecar: Path, asked: dict[str, Any]) -> Artefact | None:
    """The artefact if it is whole and the recipe's; None when it, or any part of its sidecar, is missing or damaged."""
    digest = _stated(sidecar, asked)
    try:
        whole = digest is not None and path.exists() and digest_of(path) == digest
    except OSError:  # it is then made again
        return None
    return Artefact(path, digest, fresh=False) if whole and digest is not None else None


def _statement(asked: dict[str, Any], digest: str) -> dict[str, Any]:
    """What a sidecar says."""
    return {"key": value_digest(asked), "sha256": digest, "recipe": asked}


def _stated(sidecar: Path, asked: dict[str, Any]) -> str | None:
    """The digest a sidecar states; None when it is missing, another recipe's, or damaged in any of its fields."""
    try:
        stated = read_json(sidecar)
    except InputError:  # the artefact is then made again
        return None
    digest = stated.get("sha256") if isinstance(stated, dict) else None
    if not isinstance(digest, str) or value_digest(stated) != value_digest(_statement(asked, digest)):
        return None
    return digest
