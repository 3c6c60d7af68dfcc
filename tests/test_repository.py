"""What holds for the repository as a whole: order of imports, sizes, names, declared packages, no machine's paths."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "unblur"
LONGEST = 320
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

WITHOUT_AN_IMPORT = {
    "onnxscript": "torch.onnx.export writes through it",
    "onnxruntime-gpu": "the module of onnxruntime",
    "pytest-xdist": "pytest -n",
    "ruff": "a command",
    "mypy": "a command",
    "import-linter": "a command",
    "polygraphy": "a command",
}


def tracked() -> list[Path]:
    """Files of the repository: git's list, or without git every file outside of what git ignores."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0 and done.stdout:
        files = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        folders = ("src", "tests", "docs", "export", "engines", "compare", "training", "checkpoints", ".ci")
        files = [*ROOT.glob("*"), *(file for folder in folders for file in (ROOT / folder).rglob("*"))]
    return [file for file in files if file.is_file() and "__pycache__" not in file.parts]


def texts() -> Iterator[tuple[str, str]]:
    """(name relative to the root, content) of the tracked text files."""
    for file in tracked():
        try:
            yield file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # weights and pictures
            continue


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the package below folder/src."""
    code = (
        f"import sys; sys.path.insert(0, {str(folder / 'src')!r})\n"
        "from importlinter.cli import lint_imports\n"
        f"sys.exit(lint_imports({str(ROOT / 'pyproject.toml')!r}, no_cache=True))"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def test_rooms_import_one_way() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


AGAINST_THE_ORDER = {
    "core/errors.py": "import unblur.images.files",
    "metrics/quality.py": "import unblur.engines.runner",
    "engines/base.py": "import unblur.networks.banet",
    "graphs/file.py": "import unblur.engines.runner",
    "building/engine.py": "import unblur.export.graph",
    "export/graph.py": "def later() -> None:\n    import unblur.compare.report",
    "training/loop.py": "import unblur.pipeline.store",
}


def test_imports_against_the_order_are_found(tmp_path: Path) -> None:
    """All at once: each is named, which one alone would have to be too."""
    shutil.copytree(SOURCE, tmp_path / "src" / "unblur", ignore=shutil.ignore_patterns("__pycache__"))
    for module, line in AGAINST_THE_ORDER.items():
        file = tmp_path / "src" / "unblur" / module
        file.write_text(f"{file.read_text()}\n\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    for module, line in AGAINST_THE_ORDER.items():
        importer = "unblur." + module.removesuffix(".py").replace("/", ".")
        assert f"{importer} -> {line.split()[-1]}" in done.stdout


def test_source_files_are_short() -> None:
    long = {p.name: n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > LONGEST}
    assert long == {}


NOT_IN_A_FILE = {
    "cli/init.py": "strings of TOML",
    "pipeline/checkup.py": "from a process to its parent",
    "core/artefacts.py": "the writer itself, which refuses NaN and infinity",
    "calibration/manifest.py": "TOML",
    "calibration/search/search.py": "keys in memory",
    "engines/tensorrt/file.py": "from one reader to another",
    "engines/rehearsal.py": "from a process to its parent",
    "images/contract.py": "fields that its constructor has checked",
    "pipeline/search_precision.py": "lists for tuples",
}
"""Modules that call json.dumps themselves, and what they make of it."""


def test_json_reaches_files_through_the_one_strict_writer() -> None:
    writes = re.compile(r"json\.dumps?\(")
    found = {file.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py") if writes.search(file.read_text())}
    assert found == set(NOT_IN_A_FILE)


FLOORS = ("export", "engines", "calibration", "compare", "training")
VERBS_ALONE = {
    "app": "the program that finds the others",
    "doctor": "of the installation, not of a stage",
    "init": "of a project that has no folders yet",
    "inspect_checkpoint": "of a file, not of a stage",
    "list_networks": "of the installation, not of a stage",
    "run_pipeline": "all stages: `make run` and the program's own verb",
}
"""Doors without a script in a folder of the workshop, and why."""


def test_doors_hide_no_module_and_are_not_imported() -> None:
    doors = [path for folder in FLOORS for path in (ROOT / folder).glob("*.py")]
    verbs = {path.stem for path in (SOURCE / "cli").glob("*.py") if "\n@door\ndef main(" in path.read_text()}
    assert {door.stem for door in doors} == verbs - set(VERBS_ALONE)
    assert len(doors) == len({door.stem for door in doors})
    taken = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions()}
    assert {door.stem for door in doors} & taken == set()
    for door in doors:
        assert f"from unblur.cli.{door.stem} import main" in door.read_text()
        assert len(door.read_text().splitlines()) <= 12


def imported(folder: Path) -> set[str]:
    """Top-level names of every import below a folder, `import_module("name")` and importorskip included."""
    names = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in ("import_module", "importorskip"):
                    names.add(str(node.args[0].value))
    return {name.partition(".")[0] for name in names}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """Names of the dependencies and of those of the extras."""
    return names_of(PROJECT["dependencies"]).union(*(names_of(PROJECT["optional-dependencies"][e]) for e in extras))


def names_of(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[<>=;\[ ]", line)[0]) for line in requirements}


def distributions(names: set[str]) -> dict[str, set[str]]:
    """Module -> the installed distributions that have it; the standard library, ourselves and test helpers left out."""
    own = {"unblur", *(path.stem for folder in ("tests", "docs") for path in (ROOT / folder).rglob("*.py"))}
    known = importlib.metadata.packages_distributions()
    known |= {"tensorrt_rtx": ["tensorrt-rtx-cu13"], "onnxruntime": ["onnxruntime"]}  # whichever build is here
    known |= {"cv2": ["opencv-python-headless"]}  # in an extra that a developer may leave out
    foreign = names - set(sys.stdlib_module_names) - own
    return {name: {normal(found) for found in known.get(name, [name])} for name in foreign}


def test_everything_imported_is_declared_and_the_reverse() -> None:
    of_source = distributions(imported(SOURCE))
    users = declared("cpu", "pycuda", "tensorrt", "train", "realblur")
    assert {name for name, found in of_source.items() if not found & users} == set()
    of_tests = distributions(imported(ROOT / "tests"))
    assert {name for name, found in of_tests.items() if not found & (users | declared("dev"))} == set()
    used = set().union(*of_source.values(), *of_tests.values())
    unused = declared("cpu", "gpu", "pycuda", "tensorrt", "train", "realblur", "dev") - used
    assert unused == set(WITHOUT_AN_IMPORT)


def test_every_package_is_bounded_and_one_onnxruntime_is_in_each_extra() -> None:
    extras = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]:
        assert re.match(r"[\w.-]+>=[\d.]+,<[\d.]+", line), line
    assert names_of(extras["cpu"]) == {"onnxruntime", "openvino"}
    assert names_of(extras["gpu"]) == {"onnxruntime-gpu"}


# Written in halves, so that this file does not find itself.
FORBIDDEN = [
    *("/wo" + "rk/", "/tm" + "p/", "/ro" + "ot/", "/ho" + "me/", "/op" + "t/"),
    *(
        "bash_" + "jobs",
        "find-" + "links",
        "pypi" + ".org",
        "file" + "://",
        "file" + "s.pythonhosted",
        "../sha" + "red",
    ),
]
REAL_PHOTOGRAPHS = "../sha" + "red/data"  # may lie beside a checkout: tests look there and skip without it


def test_no_file_names_a_machines_paths_or_a_registry() -> None:
    found = []
    for name, text in texts():
        for number, line in enumerate(text.splitlines(), 1):
            if name.startswith("tests/"):
                line = line.replace(REAL_PHOTOGRAPHS, "")
            found += [f"{name}:{number}: {word}" for word in FORBIDDEN if word in line]
    assert found == []


def test_no_file_leaves_work_for_later() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
    assert [name for name, text in texts() if marks.search(text)] == []


def test_folders_that_git_must_ignore_hold_no_tracked_file() -> None:
    names = {file.relative_to(ROOT).parts[0] for file in tracked()}
    assert names & {"artifacts", ".venv", "build", "dist"} == set()
    assert {"README.md", "LICENSE", "NOTICE.md", "CHANGELOG.md", "Makefile", "pipeline.toml"} <= names


PAPERS = ("BANet", "BA-Net", "BAM", "BAG", "SAPHN", "SGENet")
BUNDLED = {"src/unblur/pipeline/places.py"}
"""Where the bundled checkpoint lies, and nothing else, is known by its name."""


def test_nothing_outside_networks_knows_a_papers_name() -> None:
    """A new family is one folder and one line in the registry."""
    word = re.compile(rf"(?<![a-z])({'|'.join(PAPERS)})(?![a-z])", re.IGNORECASE)
    names = {name for name, text in texts() if name.startswith("src/") and word.search(text)}
    inside = {name for name in names if name.startswith("src/unblur/networks/")}
    assert "src/unblur/networks/registry.py" in inside
    assert names - inside == BUNDLED
    for name in BUNDLED:
        text = re.sub(r"banet-nano\.safetensors", "", (ROOT / name).read_text())
        assert not word.search(text), name
