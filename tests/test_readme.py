"""The README and the runbooks: every command runs, every link leads somewhere, every number is its report's."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from unblur.cli import app
from unblur.core.errors import MissingRuntimeError
from unblur.engines.tensorrt.product import open_product
from unblur.images.files import write_picture

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(first: str) -> list[list[str]]:
    """Arguments of the README's command lines that begin with this word."""
    lines = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    return [words[1:] for words in lines if words[0] == first]


@pytest.fixture
def project(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as the README assumes one, with a tiny network and two frames; the working directory."""
    from unblur.images.files import Picture
    from unblur.images.synthetic import synthetic_pair

    for name in ("pipeline.toml", "training"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(tiny_path, tmp_path / "checkpoints" / "banet-nano.safetensors")
    for k in (0, 1):  # named as those that `make run` leaves
        for folder, frame in zip(("blurred", "sharp"), synthetic_pair(k + 1, 32, 48), strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_picture(tmp_path / folder / f"{k:03}.png", Picture(frame), frame)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_readmes_commands_run_in_their_order(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        open_product()
        without_compiler = False
    except MissingRuntimeError:
        without_compiler = True
    typed = commands("unblur")
    assert {arguments[0] for arguments in typed} == set(app.VERBS) - {"run", "init"}
    for arguments in typed:
        code = app.main(arguments)
        expected = 4 if without_compiler and arguments[0] in ("build", "xray") else 0
        assert code == expected, f"unblur {shlex.join(arguments)}\n{capsys.readouterr().err}"
        for flag, value in itertools.pairwise(arguments):
            if flag in ("--output", "--html") and code == 0:
                assert (project / value).exists(), shlex.join(arguments)
    assert sorted(path.name for path in (project / "restored").glob("*.png")) == ["000.png", "001.png"]
    assert (project / "restored.png").exists()


def test_the_readmes_python_runs(project: Path) -> None:
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["network"], nn.Module)
    assert not names["network"].training


def test_the_readmes_make_targets_are_there_and_make_lists_them() -> None:
    typed = {words[0] for words in commands("make")} | set(re.findall(r"`make ([a-z-]+)", README))
    assert {"run", "test", "setup", "test-gpu"} <= typed
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert typed <= set(re.findall(r"^  make ([a-z-]+) ", listed, re.MULTILINE))


def test_the_readmes_setting_and_extras_are_known() -> None:
    from unblur.pipeline.resolve import load_pipeline_config

    assignments = re.findall(r"--set (\S+?)`", README)
    assert assignments
    load_pipeline_config(ROOT / "pipeline.toml", tuple(assignments))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert table == set(extras)
    (installed,) = [words[2] for words in commands("pip")]
    assert set(re.findall(r"\w+", installed)) == set(extras) - {"gpu", "pycuda"}


def test_torch_without_cuda_is_named_alike_wherever_it_is_named() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (version,) = re.findall(r"^TORCH_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert f"torch=={version}+cpu" in README
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (minor,) = [line.partition(">=")[2].partition(",")[0] for line in lines if line.startswith("torch>")]
    assert version.startswith(f"{minor}.")


@pytest.mark.parametrize(
    ("verb", "usage"), [("export", "to_onnx.py --checkpoint"), ("build", "build_engine.py (--onnx")]
)
def test_the_export_runbook_names_every_flag_and_no_other(
    verb: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module(f"unblur.cli.{app.VERBS[verb][0]}").main(["--help"])
    flag = re.compile(r"--[a-z][a-z0-9-]*")
    known = set(flag.findall(capsys.readouterr().out.partition("options:")[0])) - {"--json"}  # which every verb has
    text = (ROOT / "export" / "README.md").read_text()
    assert set(flag.findall(text.partition(usage)[2].partition("\n\n")[0])) | set(flag.findall(usage)) == known
    typed = [set(flag.findall(line)) for line in re.findall(rf"`unblur {verb} (.+?)`", text)]
    assert len(typed) >= 3
    assert all(flags <= known for flags in typed)


PAGES = sorted(page for page in ROOT.rglob("*.md") if not {".venv", "artifacts"} & set(page.relative_to(ROOT).parts))


def dead_links(page: Path) -> list[str]:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", page.read_text())
    return [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("[this](a.md) [that](b.md#part) [there](https://example.org/c.md)")
    assert dead_links(page) == ["b.md"]


def test_the_pages_words_are_the_glossarys() -> None:
    from unblur.compare.tell.sentences import WORDS

    glossary = (ROOT / "docs" / "glossary.md").read_text()
    for word, meaning in WORDS.items():
        assert f"| {word} | {meaning} |\n" in glossary


def test_the_front_page_has_a_picture_first_and_no_empty_place() -> None:
    first = README.partition("\n## ")[0]
    (picture,) = re.findall(r"!\[[^]]+\]\((docs/images/[^)]+)\)", first)
    assert (ROOT / picture).stat().st_size < 200_000
    assert "not measured" not in re.sub(r"`[^`]*`", "", README)
    assert "No report is committed yet" not in README
    assert "not measured" in (ROOT / "docs" / "numerics.md").read_text(), "every row is in the docs"


def test_the_readmes_picture_is_what_its_script_draws(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    from unblur.metrics.quality import psnr_db

    module = script("draw_before_after")
    assert module.main(["--output", str(tmp_path / "drawn.jpg")]) == 0
    drawn, committed = (
        np.asarray(Image.open(path)) for path in (tmp_path / "drawn.jpg", ROOT / "docs/images/before-after.jpg")
    )
    assert psnr_db(drawn, committed, peak=255) > 40


def script(name: str) -> Any:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_numbers(*arguments: str) -> int:
    code: int = script("write_numbers").main(list(arguments))
    return code


def test_numbers_in_the_documents_are_those_of_the_committed_reports() -> None:
    assert "<!-- numbers: " in README
    assert write_numbers("--check") == 0, "make numbers"


def test_a_number_that_is_not_its_reports_is_found_and_written(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "card.json").write_text((ROOT / "checkpoints" / "banet-nano.json").read_text())
    page = tmp_path / "README.md"
    page.write_text("a\n<!-- numbers: card.json -->\nthe best of all\n<!-- end -->\nz\n")
    assert write_numbers("--check", "--root", str(tmp_path)) == 1
    assert "the best of all" in page.read_text()
    assert write_numbers("--root", str(tmp_path)) == 0
    assert "held-out synthetic scenes" in page.read_text()
    assert write_numbers("--check", "--root", str(tmp_path)) == 0
    page.write_text(re.sub(r"\+\d", "+9", page.read_text(), count=1))
    assert write_numbers("--check", "--root", str(tmp_path)) == 1
