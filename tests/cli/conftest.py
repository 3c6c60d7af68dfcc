"""Doors are run where there is no project, unless a test makes one."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def nowhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path_factory.mktemp("nowhere"))
