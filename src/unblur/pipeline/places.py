"""Where things lie when nobody says: the project's artefacts, or the user's cache, and the bundled checkpoint."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import unblur
from unblur.core.errors import InputError

BUNDLED = Path("checkpoints", "banet-nano.safetensors")
BUNDLED_MANIFEST = Path("calibration", "manifests", "synthetic-16.toml")


def project_root() -> Path | None:
    """The nearest folder, from the working directory upwards, that has a pipeline.toml; None outside a project."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "pipeline.toml").is_file()), None)


def artefact_folder() -> Path:
    """`artifacts/` of the current project; outside one, the user's cache folder."""
    root = project_root()
    return root / "artifacts" if root else cache_folder()


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


def bundled_checkpoint() -> Path:
    """The demonstration weights. Raises InputError where there are none."""
    return _bundled(BUNDLED, "checkpoint", "--checkpoint")


def bundled_manifest() -> Path:
    """The drawn calibration set. Raises InputError where there is none."""
    return _bundled(BUNDLED_MANIFEST, "manifest", "--manifest")


def _bundled(file: Path, what: str, flag: str) -> Path:
    """A file of this project or of the checkout that the package runs from."""
    checkout = Path(unblur.__file__).resolve().parents[2]
    for root in (project_root(), checkout):
        if root is not None and (root / file).is_file():
            return root / file
    raise InputError(
        f"No {what} was given and the bundled {file.as_posix()} is neither in this project nor in {checkout}; "
        f"name one with {flag} FILE."
    )
