"""The graph cache, the choice of engine, and where things lie."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import unblur.pipeline.open_runner as module
from unblur.core.errors import InputError
from unblur.engines.catalogue import CATALOGUE
from unblur.images.contract import PixelContract
from unblur.pipeline import places
from unblur.pipeline.engine_choice import BACKENDS, choose_engine
from unblur.pipeline.open_runner import dynamic_graph


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replace the exporter; -> the paths it was asked for."""
    asked: list[Path] = []

    def export(checkpoint: Any, output: Path, **options: Any) -> Any:
        assert options["dynamic"]
        asked.append(output)
        data = f"graph of {checkpoint.digest}".encode()
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(data)
        return SimpleNamespace(digest=hashlib.sha256(data).hexdigest())

    monkeypatch.setattr(module, "export_graph", export)
    return asked


def checkpoint(digest: str = "a" * 64, contract: PixelContract | None = None) -> Any:
    return SimpleNamespace(path=Path("w.pth"), digest=digest, name="banet-1x4", contract=contract or PixelContract())


def test_exported_once(tmp_path: Path, exports: list[Path]) -> None:
    first = dynamic_graph(checkpoint(), tmp_path)
    assert dynamic_graph(checkpoint(), tmp_path) == first
    assert len(exports) == 1


@pytest.mark.parametrize(
    "other", [checkpoint("b" * 64), checkpoint(contract=PixelContract(channel_order="rgb")), "version", "opset"]
)
def test_another_parent_is_another_graph(
    tmp_path: Path, exports: list[Path], monkeypatch: pytest.MonkeyPatch, other: Any
) -> None:
    first = dynamic_graph(checkpoint(), tmp_path)
    if other == "version":
        monkeypatch.setattr(module, "package_versions", lambda: {"torch": "0.0"})
    elif other == "opset":
        monkeypatch.setattr(module, "OPSET", 19)
    second = dynamic_graph(checkpoint() if isinstance(other, str) else other, tmp_path)
    assert second != first
    assert len(exports) == 2
    assert dynamic_graph(checkpoint(), tmp_path) == first or isinstance(other, str)


@pytest.mark.parametrize("damage", ["truncated graph", "no graph", "no record", "damaged record", "foreign record"])
def test_a_damaged_graph_is_never_a_hit(tmp_path: Path, exports: list[Path], damage: str) -> None:
    path = dynamic_graph(checkpoint(), tmp_path)
    record, whole = path.with_suffix(".json"), path.read_bytes()
    match damage:
        case "truncated graph":
            path.write_bytes(whole[:-3])
        case "no graph":
            path.unlink()
        case "no record":
            record.unlink()
        case "damaged record":
            record.write_text("{")
        case _:
            record.write_text(json.dumps({**json.loads(record.read_text()), "key": "another"}))
    assert dynamic_graph(checkpoint(), tmp_path).read_bytes() == whole
    assert len(exports) == 2


@pytest.mark.parametrize(
    ("installed", "precision", "expected"),
    [
        ({"openvino", "onnxruntime", "torch"}, "f32", "openvino"),
        ({"onnxruntime", "torch"}, "f32", "onnxruntime"),
        ({"torch"}, "f32", "torch"),
        ({"openvino", "onnxruntime", "torch"}, "bf16", "openvino-bf16"),
        ({"onnxruntime", "torch"}, "bf16", "torch-bf16"),
    ],
)
def test_auto_takes_the_fastest_installed(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], precision: str, expected: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in installed else None)
    assert choose_engine("auto", precision) == expected


def test_a_named_engine_is_taken_by_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert choose_engine("openvino", "f32") == "openvino", "not installed is for the engine to say, exit code 4"
    with pytest.raises(InputError, match="onnxruntime has no bf16"):
        choose_engine("onnxruntime", "bf16")


def test_every_choice_is_in_the_catalogue() -> None:
    for precision, backends in BACKENDS.items():
        assert {choose_engine(backend, precision) for backend in backends} <= set(CATALOGUE)


def test_places_inside_and_outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project/deep").mkdir(parents=True)
    (tmp_path / "project/pipeline.toml").touch()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "project/deep")
    assert places.artefact_folder() == tmp_path / "project/artifacts"
    monkeypatch.chdir(tmp_path)
    assert places.artefact_folder() == tmp_path / "cache/unblur"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert places.artefact_folder() == tmp_path / "home/.cache/unblur"


def test_the_projects_own_bundled_checkpoint_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/banet-nano.safetensors").touch()
    (tmp_path / "pipeline.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert places.bundled_checkpoint() == tmp_path / "checkpoints/banet-nano.safetensors"
