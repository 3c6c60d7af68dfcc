"""The README and the runbooks: every command runs, every link leads somewhere, every number is its report's."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from unblur.calibration.collect import collect
from unblur.cli import app
from unblur.core.errors import MissingRuntimeError
from unblur.engines.tensorrt.product import open_product
from unblur.networks.checkpoints import Checkpoint

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(first: str) -> list[list[str]]:
    """Arguments of the README's command lines that begin with this word."""
    lines = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    return [words[1:] for words in lines if words[0] == first]


SMALL = {'sizes = ["256x256"]': 'sizes = ["32x48"]', "generated = 4": "generated = 2",
         "rounds = 15": "rounds = 2\nhang_seconds = 0",
         "# fidelity_db = 60.0": "fidelity_db = 15.0", "# psnr_loss_db = 0.05": "psnr_loss_db = 9.0"}  # fmt: skip
"""What pipeline.toml says -> what a test of a tiny network with random weights has time and decibels for. All engines
run in this process, whose imports are paid for: those of their own are tests/compare/test_crashes.py's."""


@pytest.fixture
def project(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as the README assumes one, with a tiny network; the working directory."""
    text = (ROOT / "pipeline.toml").read_text().partition("# Budgets turn")[0]
    for shipped, small in SMALL.items():
        assert shipped in text
        text = text.replace(shipped, small)
    (tmp_path / "pipeline.toml").write_text(text)
    shutil.copytree(ROOT / "training", tmp_path / "training")
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(tiny_path, tmp_path / "checkpoints" / "banet-nano.safetensors")
    collect(["synthetic:0"], 3, (32, 48), tmp_path / "calibration" / "manifests" / "synthetic-16.toml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed() -> list[list[str]]:
    """Command lines of unblur, also those that go through a script: verb and arguments."""
    by_script = {module: verb for verb, (module, *_) in app.VERBS.items()}
    lines = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    found = []
    for words in lines:
        if words[0] == "unblur":
            found.append(words[1:])
        elif words[0] == "python" and (ROOT / words[1]).is_file():
            found.append([by_script[Path(words[1]).stem], *words[2:]])
    return found


def test_the_readmes_commands_and_its_python_run_in_their_order_after_a_run(
    project: Path, tiny: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        open_product()
        without_compiler = False
    except MissingRuntimeError:
        without_compiler = True
    assert app.main(["run"]) == 0, capsys.readouterr().err
    names = {"banet_nano-256x256": f"{tiny.name}-32x48"}
    assert {arguments[0] for arguments in typed()} >= set(app.VERBS) - {"run", "init"}
    for line in typed():
        arguments = [functools.reduce(lambda word, name: word.replace(*name), names.items(), word) for word in line]
        capsys.readouterr()
        code = app.main(arguments)
        printed, errors = capsys.readouterr()
        expected = 4 if without_compiler and arguments[0] in ("build", "xray", "reproduce") else 0
        assert code == expected, f"unblur {shlex.join(arguments)}\n{errors}"
        for flag, value in itertools.pairwise(arguments):
            if flag in ("--output", "--html") and code == 0:
                assert (project / value).exists(), shlex.join(arguments)
        if code == 0 and arguments[0] in ("export", "build", "calibrate", "compare", "search", "speed"):
            assert Path(printed.splitlines()[-1]).exists(), f"{shlex.join(arguments)} ends with the path of its result"
    assert sorted(path.name for path in (project / "restored").glob("*.png")) == ["000.png", "001.png"]
    for word in re.findall(r"`(artifacts/[^`]+)`", README):
        named = functools.reduce(lambda text, name: text.replace(*name), names.items(), word)
        assert (project / named).exists() or (without_compiler and "engine" in named), named
    if not without_compiler:
        (code_block,) = blocks("python")
        found: dict[str, Any] = {}
        exec(code_block, found)
        assert isinstance(found["network"], nn.Module)
        assert found["engine"].manifest["precision"] == "fp16"
        assert found["restored"].shape == (64, 96, 3)


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


OF_EVERY_DOOR = {"--json"}


@pytest.mark.parametrize(
    ("verb", "usage"), [("export", "to_onnx.py [--config"), ("build", "build_engine.py [--config")]
)
def test_the_export_runbook_names_every_flag_and_no_other(
    verb: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module(f"unblur.cli.{app.VERBS[verb][0]}").main(["--help"])
    flag = re.compile(r"--[a-z][a-z0-9-]*")
    known = set(flag.findall(capsys.readouterr().out.partition("options:")[0])) - OF_EVERY_DOOR
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


def test_ratios_of_a_noisy_run_are_withheld_from_the_front_page(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for folder in ("comparison-banet-nano", "speed-banet-256x256"):
        values = json.loads((ROOT / "compare" / "baselines" / folder / "report.json").read_text())
        for load, ratios in ((0.5, True), (15.0, False)):
            values["latency"]["load_before"] = load
            values["latency"]["before"] = None  # whose counts say more than the load does
            (tmp_path / "noisy.json").write_text(json.dumps(values))
            for page in (tmp_path / "README.md", tmp_path / "docs" / "numerics.md"):
                page.write_text("<!-- numbers: noisy.json -->\n<!-- end -->\n")
            assert write_numbers("--root", str(tmp_path)) == 0
            text = (tmp_path / "README.md").read_text()
            rows = [line for line in text.splitlines() if line.startswith("| torch")]
            assert rows
            assert all(("×" in row) == ratios and ("withheld" in row) != ratios for row in rows)
            assert ("noisy (load 15.0 on 2 core(s))" in text) != ratios
            assert "×" in (tmp_path / "docs" / "numerics.md").read_text()  # every number, with its warning


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


def test_the_table_of_networks_has_ratios_reasons_and_the_xray(tmp_path: Path) -> None:
    lab = tmp_path / "docs" / "lab"
    lab.mkdir(parents=True)
    (tmp_path / "README.md").touch()
    page = tmp_path / "docs" / "networks.md"
    page.write_text("<!-- numbers: docs/lab/table.json -->\n<!-- end -->\n")
    assert write_numbers("--root", str(tmp_path)) == 0
    assert "No report is committed yet." in page.read_text()
    measured = {
        "network": "one", "measured_utc": "2026-01-02T03:04:05+00:00", "noise": ["load 9.0 on 2 core(s)"],
        "rows": [
            {"engine": "torch", "median_ms": 1234.5, "times_torch": [1, 1, 1], "fidelity_db": "Infinity"},
            {"engine": "fast", "median_ms": 617.2, "times_torch": [2.0, 1.9, 2.1], "fidelity_db": 41.6},
            {"engine": "absent", "reason": "no such processor"},
        ],
    }  # fmt: skip
    machine = {"cpu": "a CPU", "usable_cores": "2"}
    (lab / "table.json").write_text(json.dumps({"machine": machine, "published": [measured]}))
    xray = {"kernels": 12, "gb_moved": 0.5, "lower_bound_ms": {"slow": 2.0, "quick": 1.5}}
    exports = [{"network": "one", "export": "plain"}, {"network": "one", "export": "rewritten", **xray}]
    (lab / "networks.json").write_text(json.dumps({"exports": exports}))
    assert write_numbers("--root", str(tmp_path)) == 0
    text = page.read_text()
    assert "| one | 1234 | 2.00×, 42 dB | failed | 12 | 0.500 | 1.50 on quick |" in text
    assert "- one, absent: no such processor" in text
    assert "not quiet for one" in text


def test_stated_times_are_held_against_arithmetic(tmp_path: Path) -> None:
    """1000 cores at 1 GHz are 2 TFLOP/s; 10 GMAC are 10 ms there."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").touch()
    row = {"network": "one", "size": [720, 1280], "card": "a card", "ms": 5, "macs": 10**10, "operators": 100}
    cards = {"a card": {"cores": 1000, "boost_ghz": 1.0, "source": "its sheet"}}
    (tmp_path / "papers.json").write_text(json.dumps({"cards": cards, "stated": [row]}))
    page = tmp_path / "docs" / "papers.md"
    page.write_text("<!-- numbers: papers.json -->\n<!-- end -->\n")
    assert write_numbers("--root", str(tmp_path)) == 0
    assert "| one | 720x1280 | a card | 5 | 10 | 2.0 | 10 | 0.50 | 50 of 100 |" in page.read_text()
