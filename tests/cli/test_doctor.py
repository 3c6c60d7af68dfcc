"""`unblur doctor` opens every engine, says why not, outlives a broken runtime, and fits 80 columns."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from unblur.core.provenance import CPU_FEATURES, cpu_features
from unblur.engines.catalogue import CATALOGUE
from unblur.pipeline.checkup import check_up

BROKEN = {
    "openvino": "import os\nos.abort()\n",  # as a wheel for another processor does
    "onnxruntime": "raise RuntimeError('a library of another release')\n",
}


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, object]]:
    """(lines for people, the JSON) of a machine whose openvino ends the process and whose onnxruntime is damaged."""
    folder = tmp_path_factory.mktemp("broken")
    for name, text in BROKEN.items():
        (folder / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(folder), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "unblur", "doctor", "--json"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "80"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr, json.loads(done.stdout)


def test_every_engine_is_told_of_and_the_reference_runs(examined: tuple[str, dict[str, object]]) -> None:
    said, figures = examined
    engines = figures["engines"]
    assert isinstance(engines, dict)
    assert set(engines) == set(CATALOGUE)
    assert engines["torch"] == {"runs": True, "missing": ""}
    assert all(one["runs"] == (not one["missing"]) for one in engines.values())
    assert all(name in said for name in CATALOGUE)


def test_a_runtime_that_ends_the_process_or_raises_what_nobody_expects_costs_its_own_engines_alone(
    examined: tuple[str, dict[str, object]],
) -> None:
    engines = examined[1]["engines"]
    assert isinstance(engines, dict)
    assert "ends the process that opens it (SIGABRT)" in engines["openvino"]["missing"]
    assert "RuntimeError: a library of another release" in engines["onnxruntime"]["missing"]


def test_it_fits_80_columns_and_tells_of_the_machine(examined: tuple[str, dict[str, object]]) -> None:
    said, figures = examined
    paths = (sys.executable, "opening every")
    assert [line for line in said.splitlines() if len(line) > 80 and not any(path in line for path in paths)] == []
    assert set(figures["packages"]) >= {"torch", "numpy"}  # type: ignore[call-overload]
    assert figures["instructions"] == cpu_features()
    assert set(cpu_features()) in (set(), set(CPU_FEATURES))


def test_nothing_is_left_out_where_nothing_is_asked() -> None:
    told: list[str] = []
    found = check_up((), told.append)
    assert (found.engines, told) == ({}, ["driver", "compiler"])
    assert bool(found.gpus) != bool(found.no_gpu)
    assert bool(found.compiler) != bool(found.no_compiler)
