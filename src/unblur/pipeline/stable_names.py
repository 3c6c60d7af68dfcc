"""Names that people can type beside the store's keyed ones: `artifacts/NETWORK-256x256.onnx` is the newest of it.

A name is a relative symbolic link to the store's file, replaced by one rename: whoever has the old one open reads on,
and a kill leaves the old or the new. Where a system has no links it is a copy, and a ledger beside tells copies from
files of the user's. What stands under a name and is neither is the user's: it stays, and the store's path is told.
Folders are folders of such names, never links: what a command writes into `artifacts/report` replaces a link there
and cannot reach into the store.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from unblur.core.artefacts import Recognise, atomic_paths, disk_errors, file_digest, write_json
from unblur.core.console import SILENT, Progress
from unblur.core.exclusive import exclusive
from unblur.core.leftovers import temporary_name
from unblur.engines.tensorrt.manifest import companions, outputs_of
from unblur.graphs.file import is_exported
from unblur.pipeline.store import Store

LEDGER = ".stable-names.json"
Copies = dict[str, list[str]]
"""Name -> SHA-256 of the last copies that were put there."""


def publish_graph(store: Store, graph: Path, name: str, progress: Progress = SILENT) -> Path:
    """Give a graph of the store the name `<artifacts>/<name>`; the path to tell: of the name, or of what is behind it
    where something of the user's stands there."""
    path = store.root / name
    return path if _publish(store.root, {path: graph}, {path: is_exported}, progress) else graph


def publish_engine(store: Store, engine: Path, name: str, progress: Progress = SILENT) -> Path:
    """The same for an engine with its graph and its manifest, which vouches for both and so is taken away first."""
    path = store.root / name
    names = (path, *companions(path))
    files = dict(zip(names, (engine, *companions(engine)), strict=True))
    return path if _publish(store.root, files, outputs_of(path), progress) else engine


def publish_folder(store: Store, folder: Path, name: str, progress: Progress = SILENT) -> Path:
    """The same for every file of a folder; names there that led to another one's files are taken away."""
    path = store.root / name
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    named = {path / file.relative_to(folder): file for file in files}
    done = [_publish(store.root, {link: file}, {}, progress) for link, file in named.items()]
    for left in sorted(path.rglob("*")):
        if left not in named and not left.is_dir() and _is_ours(left, store.root, _read(store.root)):
            left.unlink(missing_ok=True)
    return path if all(done) else folder


def copy_to(output: Path, *files: Path) -> None:
    """Copy a graph, or an engine with its graph and manifest, to a name of the user's. Raises as `atomic_paths`."""
    outputs = (output, *companions(output))[: len(files)]
    with atomic_paths(*outputs) as temporaries:
        for file, temporary in zip(files, temporaries, strict=True):
            shutil.copyfile(file, temporary)


def _publish(root: Path, files: Mapping[Path, Path], kinds: Mapping[Path, Recognise], progress: Progress) -> bool:
    """Let each name (the last vouches for the others) stand for a file; whether it does.

    `kinds`: what unblur writes under a name itself, when it is told to, may be replaced too.
    """
    root.mkdir(parents=True, exist_ok=True)
    with exclusive(root / LEDGER, progress.note), disk_errors(*files):
        copies = _read(root)
        if all(_stands_for(name, file, copies, root) for name, file in files.items()):
            return True
        for name in files:
            own = name in kinds and name.is_file() and not name.is_symlink() and kinds[name](name)
            if os.path.lexists(name) and not own and not _is_ours(name, root, copies):
                progress.note(f"{name} is not one of unblur's names and stays; move it away to have the newest there")
                return False
        *others, last = files
        if others:
            last.unlink(missing_ok=True)
        for name, file in files.items():
            name.parent.mkdir(parents=True, exist_ok=True)
            temporary = name.with_name(temporary_name() + name.suffix)
            try:
                temporary.symlink_to(os.path.relpath(file.resolve(), name.parent.resolve()))
                copies.pop(_key(name, root), None)
            except OSError:  # Windows without the privilege, a file system without links
                shutil.copyfile(file, temporary)
                # Before the name changes; the old one's too: of a kill between the two either may stand there.
                copies[_key(name, root)] = [*copies.get(_key(name, root), [])[-1:], file_digest(temporary)]
                write_json(root / LEDGER, copies)
            temporary.replace(name)
    return True


def _stands_for(name: Path, file: Path, copies: Copies, root: Path) -> bool:
    if name.is_symlink():
        return name.resolve() == file.resolve()
    return name.is_file() and file_digest(name) in copies.get(_key(name, root), []) and _same(name, file)


def _is_ours(name: Path, root: Path, copies: Copies) -> bool:
    """A link into the store, also to what is there no more, or a copy that nobody changed."""
    if name.is_symlink():
        return name.resolve().is_relative_to(root.resolve())
    return name.is_file() and file_digest(name) in copies.get(_key(name, root), [])


def _same(one: Path, other: Path) -> bool:
    return file_digest(one) == file_digest(other)


def _key(name: Path, root: Path) -> str:
    return name.relative_to(root).as_posix()


def _read(root: Path) -> Copies:
    try:
        copies = json.loads((root / LEDGER).read_bytes())
    except (OSError, ValueError):  # none, or damaged: what it told of is then taken for the user's
        return {}
    return copies if isinstance(copies, dict) else {}
