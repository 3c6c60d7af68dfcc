"""Where things lie when nobody says: the configuration in force, its artefacts, and the bundled files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import unblur
from unblur.core.config import read_toml
from unblur.core.errors import InputError

BUNDLED = Path("checkpoints", "banet-nano.safetensors")
BUNDLED_MANIFEST = Path("calibration", "manifests", "synthetic-16.toml")


CONFIG = "pipeline.toml"

ARTIFACTS = "UNBLUR_ARTIFACTS"
"""Names the folder for artefacts outside of a project: a checkout may belong to others, or may not be written to."""


def project_root() -> Path | None:
    """The nearest folder, from the working directory upwards, that has a pipeline.toml; None outside a project."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / CONFIG).is_file()), None)


def checkout() -> Path:
    """The folder that the package runs from: a checkout, or, installed, one that holds nothing of ours."""
    return Path(unblur.__file__).resolve().parents[2]


def find_config() -> Path | None:
    """The pipeline.toml in force: the nearest upwards, else that of the checkout; None where there is none."""
    roots = (project_root(), checkout())
    return next((root / CONFIG for root in roots if root is not None and (root / CONFIG).is_file()), None)


def stated_folder() -> Path | None:
    """What UNBLUR_ARTIFACTS names, outside of a project."""
    stated = os.environ.get(ARTIFACTS)
    return Path(stated).absolute() if stated and project_root() is None else None


def artefact_folder() -> Path:
    """Where the configuration in force keeps artefacts; without one, the user's cache folder."""
    if stated := stated_folder():
        return stated
    config = find_config()
    if config is None:
        return cache_folder()
    paths = read_toml(config).get("paths")
    folder = paths.get("artifacts", "artifacts") if isinstance(paths, dict) else "artifacts"
    return config.parent / str(folder)


def cache_folder() -> Path:
    """The platform's folder for files that can be made again. Raises InputError where nothing tells where that is."""
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "unblur"
    # XDG Base Directory Specification: relative values are to be ignored
    stated = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if sys.platform not in ("win32", "darwin") and stated.is_absolute():
        return stated / "unblur"
    try:
        home = Path.home()
    except RuntimeError as error:  # no HOME, and a user id that the system does not know: often in containers
        raise InputError(
            "This user has no home folder to keep artefacts in: set HOME or XDG_CACHE_HOME to a folder that may be "
            "written to, or work in a folder with a pipeline.toml."
        ) from error
    below = {"win32": Path("AppData", "Local"), "darwin": Path("Library", "Caches")}
    return home / below.get(sys.platform, Path(".cache")) / "unblur"


def bundled_checkpoint(root: Path | None = None) -> Path:
    """The demonstration weights of the project at `root` or of the checkout. Raises InputError where there are none."""
    return _bundled(BUNDLED, "checkpoint", "--checkpoint", root)


def bundled_manifest(root: Path | None = None) -> Path:
    """The drawn calibration set, likewise. Raises InputError where there is none."""
    return _bundled(BUNDLED_MANIFEST, "manifest", "--manifest", root)


def _bundled(file: Path, what: str, flag: str, root: Path | None) -> Path:
    """A file of a project (None: the one of the working directory) or of the checkout that the package runs from."""
    for place in (root or project_root(), checkout()):
        if place is not None and (place / file).is_file():
            return place / file
    raise InputError(
        f"No {what} was given and the bundled {file.as_posix()} is neither in this project nor in {checkout()}; "
        f"name one with {flag} FILE."
    )
