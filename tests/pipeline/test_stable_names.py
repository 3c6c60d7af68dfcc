"""Names beside the store's keyed ones: always of one generation, never over what is the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unblur.core.console import Silent
from unblur.pipeline.stable_names import copy_to, publish_engine, publish_folder, publish_graph
from unblur.pipeline.store import Store


@pytest.fixture(params=["links", "copies"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Where the system has links, and where it has none."""
    if request.param == "copies":

        def refused(*_: Any) -> None:
            raise OSError("A required privilege is not held by the client")

        monkeypatch.setattr(Path, "symlink_to", refused)
    return Store(tmp_path / "artifacts")


def keyed(store: Store, stage: str, name: str, text: str) -> Path:
    path = store.root / stage / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def engine(store: Store, key: str) -> Path:
    path = keyed(store, f"engines/{key}", "e.engine", key)
    for suffix in (".onnx", ".json"):
        path.with_name(path.name + suffix).write_text(key + suffix)
    return path


class Said(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_the_newest_stands_under_the_name_and_an_open_reader_keeps_the_old(store: Store) -> None:
    first, second = (keyed(store, "onnx", f"g-{k}.onnx", f"graph {k}") for k in (1, 2))
    name = publish_graph(store, first, "g.onnx")
    assert (name, name.read_text()) == (store.root / "g.onnx", "graph 1")
    with name.open() as reading:
        assert publish_graph(store, second, "g.onnx") == name
        assert reading.read() == "graph 1"
    assert name.read_text() == "graph 2"
    assert (first.read_text(), second.read_text()) == ("graph 1", "graph 2")
    before = name.lstat().st_ino
    publish_graph(store, second, "g.onnx")
    assert name.lstat().st_ino == before, "what stands there already is not touched"


def test_what_is_the_users_stays_and_the_stores_path_is_told(store: Store) -> None:
    graph = keyed(store, "onnx", "g-1.onnx", "graph 1")
    (store.root / "g.onnx").write_text("mine")
    said = Said()
    assert publish_graph(store, graph, "g.onnx", said) == graph
    assert (store.root / "g.onnx").read_text() == "mine"
    assert any("stays" in note for note in said.notes)
    (store.root / "g.onnx").unlink()
    assert publish_graph(store, graph, "g.onnx") == store.root / "g.onnx"
    (store.root / "g.onnx").unlink()
    (store.root / "g.onnx").write_text("mine again")
    assert publish_graph(store, graph, "g.onnx") == graph


def test_a_name_over_which_a_graph_was_written_by_command_is_unblurs(store: Store, fixed_graph: Path) -> None:
    graph = keyed(store, "onnx", "g-1.onnx", "graph 1")
    copy_to(store.root / "g.onnx", fixed_graph)
    assert publish_graph(store, graph, "g.onnx") == store.root / "g.onnx"
    assert (store.root / "g.onnx").read_text() == "graph 1"
    copy_to(store.root / "g.onnx", fixed_graph)
    assert graph.read_text() == "graph 1", "the command's file took the place of the link, not of what it led to"


def test_an_engine_never_stands_beside_the_manifest_of_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    name = publish_engine(store, engine(store, "one"), "e.engine")
    assert [name.with_name(name.name + s).read_text() for s in ("", ".onnx", ".json")] == [
        "one",
        "one.onnx",
        "one.json",
    ]
    real, calls = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        publish_engine(store, engine(store, "two"), "e.engine")
    assert not name.with_name("e.engine.json").exists()
    monkeypatch.setattr(Path, "replace", real)
    publish_engine(store, engine(store, "two"), "e.engine")
    assert [name.with_name(name.name + s).read_text() for s in ("", ".onnx", ".json")] == [
        "two",
        "two.onnx",
        "two.json",
    ]


def test_a_folder_changes_whole_keeps_the_users_files_and_cannot_reach_the_store(store: Store) -> None:
    for key, names in (("a", ("0.png", "deep/1.png")), ("b", ("0.png",))):
        for file in names:
            keyed(store, f"pictures/{key}", file, f"{key} {file}")
    folder = publish_folder(store, store.root / "pictures/a", "restored")
    assert (folder / "deep/1.png").read_text() == "a deep/1.png"
    (folder / "notes.txt").write_text("mine")
    publish_folder(store, store.root / "pictures/b", "restored")
    assert (folder / "0.png").read_text() == "b 0.png"
    assert not (folder / "deep/1.png").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    copy_to(folder / "0.png", folder / "notes.txt")
    assert (store.root / "pictures/b/0.png").read_text() == "b 0.png"
