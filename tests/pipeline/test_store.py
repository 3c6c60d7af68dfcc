"""Keys cover everything; nothing damaged, foreign or half-written is ever a hit."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_family import FOREIGN, Foreign

from unblur.core import provenance
from unblur.core.errors import InputError
from unblur.networks.registry import registered
from unblur.pipeline import store as module
from unblur.pipeline.store import RUNTIMES, Artefact, Recipe, Store

RECIPE = Recipe("onnx", {"size": "16x16"}, {"checkpoint": "a" * 64}, frozenset({"onnxruntime"}))
CHANGED: dict[str, Any] = {
    "stage": "engines",
    "spec": {"size": "16x18"},
    "parents": {"checkpoint": "b" * 64},
    "runtimes": frozenset({"onnxruntime", "openvino"}),
    "machine_bound": True,
}


MINE = """
from dataclasses import replace
from foreign_family import FOREIGN, Foreign

class Mine(Foreign):
    pass

FAMILY = replace(FOREIGN, build=Mine)
"""


def counted(root: Path, recipe: Recipe = RECIPE, label: str = "graph.onnx") -> tuple[Artefact, int]:
    """The artefact and how often it had to be written."""
    written = []

    def write(path: Path) -> None:
        written.append(path)
        if "." in label:
            path.write_bytes(b"whole")
        else:
            (path / "inner").mkdir()
            (path / "inner" / "file").write_bytes(b"whole")

    return Store(root).make(recipe, label, write), len(written)


@pytest.mark.parametrize("name", [field.name for field in fields(Recipe)])
def test_every_field_of_a_recipe_is_in_its_key(name: str) -> None:
    assert replace(RECIPE, **{name: CHANGED[name]}).key != RECIPE.key


def test_code_of_a_registered_network_is_in_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph of a network of one's own is another one once its forward was corrected."""
    monkeypatch.syspath_prepend(tmp_path)
    keys = [RECIPE.key]
    for text in (MINE, MINE, MINE.replace("pass", "def forward(self, x): return x + 1")):
        (module := tmp_path / "mine.py").write_text(text)
        monkeypatch.delitem(sys.modules, module.stem, raising=False)
        with registered(importlib.import_module(module.stem).FAMILY):
            keys.append(RECIPE.key)
    assert RECIPE.key == keys[0] != keys[1]
    assert keys[1] == keys[2] != keys[3]


def test_switches_of_libraries_are_in_the_key_of_a_measurement_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = replace(RECIPE, machine_bound=True)
    before = RECIPE.key, measured.key
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert (RECIPE.key, measured.key) == (before[0], measured.key) != before


def test_a_switch_that_a_library_sets_at_work_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path) -> None:
        monkeypatch.setenv("OMP_SET_BY_A_LIBRARY", "1")
        path.write_text("made")

    measured = replace(RECIPE, machine_bound=True)
    store = Store(tmp_path)
    store.make(measured, "a.txt", write)
    monkeypatch.delenv("OMP_SET_BY_A_LIBRARY")
    assert not store.make(measured, "a.txt", write).fresh


def test_a_registered_network_that_needs_memory_is_told_by_name() -> None:
    """Not by a traceback, and not by the network that is at work."""

    def build(_: Foreign) -> Any:
        return torch.linspace(0, 1, 3)[1].item()

    with (
        registered(replace(FOREIGN, build=build)),
        pytest.raises(InputError, match="'foreign' cannot be built on PyTorch's device meta"),
    ):
        assert RECIPE.key


@pytest.mark.parametrize("package", ["pillow", "scipy", "scikit-image", "opencv-python", "ml-dtypes", "onnx-ir"])
def test_packages_that_read_draw_and_score_pictures_and_write_graphs_count(package: str) -> None:
    assert package in provenance.PACKAGES


@pytest.mark.parametrize("package", ["torch", "onnxscript", "onnxruntime", "numpy"])
def test_a_version_that_counts_changes_the_key(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = RECIPE.key
    versions = {**module.package_versions(), package: "0.0"}
    monkeypatch.setattr(module, "package_versions", lambda: versions)
    assert RECIPE.key != before


def test_a_runtime_that_a_stage_does_not_use_does_not_change_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = RECIPE.key
    unused = dict.fromkeys(RUNTIMES - RECIPE.runtimes, "0.0")
    monkeypatch.setattr(module, "package_versions", lambda: {**module_versions, **unused})
    assert RECIPE.key == before


module_versions = dict(module.package_versions())


def test_a_changed_source_file_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = RECIPE.key
    monkeypatch.setattr(module, "_source_digest", lambda: "other")
    assert RECIPE.key != before


@pytest.mark.parametrize("label", ["graph.onnx", "folder"])
def test_made_once_then_found(tmp_path: Path, label: str) -> None:
    first, writes = counted(tmp_path, label=label)
    assert (first.fresh, writes) == (True, 1)
    again, writes = counted(tmp_path, label=label)
    assert (again.fresh, writes) == (False, 0)
    assert again.digest == first.digest


@pytest.mark.parametrize("label", ["graph.onnx", "folder"])
def test_truncated_damaged_or_foreign_is_made_again(tmp_path: Path, label: str) -> None:
    artefact, _ = counted(tmp_path, label=label)
    file = artefact.path if label == "graph.onnx" else artefact.path / "inner" / "file"
    sidecar = artefact.path.with_name(artefact.path.name + ".recipe.json")
    good = sidecar.read_text()

    def truncate() -> None:
        file.write_bytes(b"who")

    def another_key() -> None:
        sidecar.write_text(json.dumps({**json.loads(good), "key": "0" * 64}))

    def half_a_sidecar() -> None:
        sidecar.write_text(good[: len(good) // 2])

    def no_sidecar() -> None:
        sidecar.unlink()

    def another_byte_of_what_only_informs() -> None:
        sidecar.write_text(good.replace('"size": "16x16"', '"size": "16x17"'))

    def nested_too_deep() -> None:
        sidecar.write_text("[" * 100_000 + "]" * 100_000)

    def another_value() -> None:
        sidecar.write_text("7")

    def one_more_field() -> None:
        sidecar.write_text(json.dumps({**json.loads(good), "note": "mine"}))

    harms = (truncate, another_key, half_a_sidecar, no_sidecar, another_byte_of_what_only_informs, nested_too_deep,
             another_value, one_more_field)  # fmt: skip
    for harm in harms:
        harm()
        found, writes = counted(tmp_path, label=label)
        assert writes == 1, harm.__name__
        assert file.read_bytes() == b"whole"
        assert counted(tmp_path, label=label) == (replace(found, fresh=False), 0)


@pytest.mark.parametrize("label", ["graph.onnx", "folder"])
def test_a_stage_that_fails_midway_leaves_nothing(tmp_path: Path, label: str) -> None:
    def write(path: Path) -> None:
        (path if "." in label else path / "file").write_bytes(b"hal")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).make(RECIPE, label, write)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert counted(tmp_path, label=label)[1] == 1


RACE = """
import sys, time
from pathlib import Path
from unblur.pipeline.store import Recipe, Store
root, label = Path(sys.argv[1]), sys.argv[2]
said = []
def write(path):
    for k in range(3):
        time.sleep(0.02)
        (path if "." in label else path / str(k)).write_bytes(b"whole")
    with (root / "written").open("a") as file:
        file.write("x")
print("ready", flush=True)
sys.stdin.readline()
for k in range(5):
    made = Store(root, said.append).make(Recipe("onnx", {"k": k}, {}), label, write)
    files = [made.path] if "." in label else list(made.path.iterdir())
    assert len(files) == (1 if "." in label else 3), files
    assert all(file.read_bytes() == b"whole" for file in files)
print(len(said))
"""


@pytest.mark.parametrize("label", ["graph.onnx", "folder"])
@pytest.mark.parametrize("before", ["nothing", "damaged"])
def test_four_processes_at_once_make_each_once(tmp_path: Path, label: str, before: str) -> None:
    def write(path: Path) -> None:
        (path if "." in label else path / "0").touch()

    if before == "damaged":  # half a folder, as a kill left it under its final name
        for k in range(5):
            made = Store(tmp_path).make(Recipe("onnx", {"k": k}, {}), label, write).path
            (made if "." in label else made / "0").write_bytes(b"wh")
    command = [sys.executable, "-c", RACE, str(tmp_path), label]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    waited = [int(racer.communicate()[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert (tmp_path / "written").read_text() == "x" * 5
    assert sum(waited) > 0
    assert not list(tmp_path.rglob(".*"))


def test_the_recipe_stands_beside_the_artefact(tmp_path: Path) -> None:
    artefact, _ = counted(tmp_path)
    stated = json.loads(artefact.path.with_name(artefact.path.name + ".recipe.json").read_text())
    assert stated["recipe"]["spec"] == {"size": "16x16"}
    assert stated["recipe"]["parents"] == {"checkpoint": "a" * 64}
    assert "torch" in stated["recipe"]["toolchain"]
    assert "openvino" not in stated["recipe"]["toolchain"]


def test_any_flipped_bit_of_a_sidecar_is_noticed(tmp_path: Path) -> None:
    """Every byte once, a bit of it by turns: the artefact is made again unless the JSON says the same."""
    artefact, _ = counted(tmp_path)
    sidecar = artefact.path.with_name(artefact.path.name + ".recipe.json")
    good = sidecar.read_bytes()
    for k in range(0, len(good), 3):
        harmed = bytearray(good)
        harmed[k] ^= 1 << k % 8
        sidecar.write_bytes(harmed)
        again, writes = counted(tmp_path)
        assert writes == 1 or json.loads(harmed) == json.loads(good), harmed[max(0, k - 20) : k + 20]
        assert again.path.read_bytes() == b"whole"
