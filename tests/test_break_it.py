"""A few seconds of docs/lab/break_it.py: kills, processes side by side, damage, files that may not grow."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "docs/lab/break_it.py"


@pytest.fixture(scope="module")
def lab() -> ModuleType:
    spec = importlib.util.spec_from_file_location("break_it", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_nothing_is_lost_and_nothing_is_left(lab: ModuleType, tmp_path: Path) -> None:
    counts = list(lab.all_small(lab.new_places(tmp_path), seed=1, rounds=6, each=1))
    assert [(what, tried) for what, survived, tried in counts if survived != tried] == []
    assert [tried > 0 for _, _, tried in counts] == [True] * 5
    assert counts[0][2] > 50
