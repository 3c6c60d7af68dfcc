"""A Python without what unblur needs: every door says what to type, and shows no traceback."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from unblur import cli

OUTSIDE = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
ROOT = Path(__file__).parents[2]
DOORS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/*.py") if '"""Door: ' in path.read_text())


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with no package in it."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return next(path for path in (folder / "bin/python", folder / "Scripts/python.exe") if path.exists())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project as it is after a clone: no environment in it."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "Makefile", root)
    for door in DOORS:
        (root / door).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / door, root / door)
    return root


def test_the_doors_are_found() -> None:
    assert {"export/to_onnx.py", "export/build_engine.py", "engines/deblur_images.py"} <= set(DOORS)


@pytest.mark.parametrize("door", [*DOORS, "-m unblur"])
def test_a_door_without_the_environment_says_how_to_make_it(
    door: str, bare: Path, checkout: Path, tmp_path: Path
) -> None:
    words, where = (door.split(), checkout / "src") if door.startswith("-m") else ([str(checkout / door)], tmp_path)
    done = subprocess.run([bare, *words, "--help"], cwd=where, capture_output=True, text=True, env=OUTSIDE)
    assert (done.returncode, done.stdout) == (4, "")
    assert re.fullmatch(
        rf"unblur: .*/bare\d/.* lacks packages that unblur needs: torch, numpy, onnx and \d+ more\. Make the "
        rf"environment with `make setup` in {re.escape(str(checkout))} .*: pip install -e \"\.\[cpu\]\"\.\n",
        done.stderr.replace("\\", "/"),
    )


def test_one_package_that_is_missing_is_named(bare: Path, checkout: Path, tmp_path: Path) -> None:
    for module in cli.NEEDED:
        if module != "pydantic":
            (tmp_path / module.replace(".", "/")).mkdir(parents=True)
            (tmp_path / module.replace(".", "/") / "__init__.py").touch()
    done = subprocess.run([bare, checkout / "export/to_onnx.py"], capture_output=True, text=True,
                          env=OUTSIDE | {"PYTHONPATH": str(tmp_path)})  # fmt: skip
    assert done.returncode == 4
    assert "needs: pydantic. Make" in done.stderr


def test_an_environment_that_is_there_is_named(bare: Path, checkout: Path) -> None:
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    try:
        done = subprocess.run([bare, checkout / "export/to_onnx.py"], capture_output=True, text=True, env=OUTSIDE)
    finally:
        shutil.rmtree(checkout / ".venv")
    assert done.returncode == 4
    assert done.stderr.endswith(f" and {len(cli.NEEDED) - 3} more. Type {python} in its place.\n")


def test_an_old_python_is_told_its_version() -> None:
    assert "is Python 3.9, unblur needs 3.11 or later." in cli.what_to_type((3, 9), [])
    assert cli.what_to_type((3, 11), []) == ""


def test_what_is_needed_is_what_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    modules = {"pillow": "PIL", "scikit-image": "skimage", "protobuf": "google.protobuf"}
    names = [re.split(r"[>=<]", line)[0] for line in project["dependencies"]]
    assert tuple(modules.get(name, name.replace("-", "_")) for name in names) == cli.NEEDED
    assert project["requires-python"].startswith(f">={cli.OLDEST[0]}.{cli.OLDEST[1]},")


CORE = ("src/unblur/__init__.py", "src/unblur/__main__.py", "src/unblur/cli/__init__.py")


@pytest.mark.parametrize("file", [*CORE, *DOORS])
def test_old_pythons_can_read_what_tells_them(file: str) -> None:
    ast.parse((ROOT / file).read_text(), file, feature_version=(3, 6))
