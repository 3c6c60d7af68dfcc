"""What is free: the least of the system, the container and the limit of the process."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from unblur.core import memory


def test_the_system_sets_a_bound() -> None:
    assert 0 < memory.available_bytes() <= psutil.virtual_memory().total


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux")
def test_a_container_and_a_limit_of_the_process_bind_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("max", "900000"), ("current", "700000"), ("stat", "anon 1\ninactive_file 50000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    group = (str(tmp_path / "memory.max"), str(tmp_path / "memory.current"), "inactive_file")
    monkeypatch.setattr(memory, "_GROUPS", (("/nowhere/a", "/nowhere/b", "x"), group))
    assert memory.available_bytes() == 250_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes() > 250_000
    import resource

    used = psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, "getrlimit", lambda _: (used, used))
    assert memory.available_bytes() < 2**24


def test_gigabytes_are_powers_of_ten() -> None:
    assert memory.gigabytes(5_460_000_000) == "5.5 GB"
