"""engines/gpu_kit: every step rehearsed on a CPU, slices that come together again, and reports of what came back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx", reason="the kit's engines need tensorrt-rtx-cu13")

ROOT = Path(__file__).parents[1]
KIT = ROOT / "engines" / "gpu_kit"


def bash(script: Path, *, check: bool = True, **variables: str) -> str:
    environment = os.environ | {"PY": sys.executable, "ROOT": str(ROOT), "PYTHONPATH": str(ROOT / "src")} | variables
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def report(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(KIT / "write_report.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """build/gpu, made for one tiny size and without what the network brings."""
    folder = tmp_path_factory.mktemp("kit")
    bash(KIT / "prepare.sh", OUT=str(folder), WHEELS="no", WITHOUT_INT8="1", SIZES="32x32")
    return folder


@pytest.fixture(scope="module")
def found(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the five steps leave where there is no GPU."""
    keep = tmp_path_factory.mktemp("keep")
    for step in (1, 2, 3, 4, 5):
        bash(kit / "run" / f"step{step}.sh", REHEARSE="1", SIZES="32x32", NETWORK="banet_nano", KEEP=str(keep),
             OUT=str(keep / "out"), FRAMES="3", ROUNDS="3", BUDGET="60")  # fmt: skip
    return keep / "out"


@pytest.mark.slow
def test_kit_has_an_engine_for_every_target_with_its_golden_output(kit: Path) -> None:
    from unblur.engines.tensorrt.targets import PORTABLE, TARGETS

    engines = kit / "run" / "engines"
    plans = {path.stem.removeprefix("tiny-") for path in engines.glob("*.plan")}
    assert plans == {PORTABLE, *TARGETS}
    golden = np.load(engines / "golden.npz")
    (engine,) = engines.glob("*.engine")
    assert set(golden) == {f"{name}.{end}" for name in ("tiny", engine.stem) for end in ("input", "output")}
    assert np.isfinite(golden[f"{engine.stem}.output"]).all()
    assert Path(f"{engine}.json").is_file()


@pytest.mark.slow
def test_every_step_ends_with_what_it_found_on_the_disk(found: Path) -> None:
    log = (found / "steps.log").read_text()
    parts = [line.split()[1:3] for line in log.splitlines() if line.startswith("==== ")]
    names = ("facts", "first-run", "rtx-probe", "speed", "profile", "ort-speed")
    assert parts == [[name, "rc=0"] for name in names], log
    facts = json.loads((found / "facts.json").read_text())
    assert facts["packages"]["torch"]
    assert isinstance(facts["torch"], dict)
    rows = [json.loads(line) for line in (found / "speed.jsonl").read_text().splitlines()]
    assert [(row["engine"], row["size"], "error" in row) for row in rows] == [("torch", "32x32", False)] * 2
    assert json.loads((found / "ort-speed" / "report.json").read_text())["engines"]


@pytest.mark.slow
def test_probe_names_what_the_product_refuses_and_loses_no_answer(found: Path) -> None:
    answers = json.loads((found / "rtx.json").read_text())
    assert {"import", "validity", "build current", "build portable", "verdict"} <= set(answers)
    assert answers["build portable"]["built"]
    assert answers["verdict"].startswith("TensorRT for RTX refuses this GPU")


@pytest.mark.slow
def test_profile_counts_every_convolution_of_the_network(found: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from unblur.networks import build_network

    profile = json.loads((found / "profile.json").read_text())
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build_network("banet_nano")(torch.empty(1, 3, 32, 32))
    assert sum(row["macs"] * row["count"] for row in profile["conv"]) == counter.get_total_flops() / 2
    assert set(profile["kernels"]) == {"fp16-cl", "form-fp16-cl"}
    assert all(frame["sum_ms"] > 0 for frame in profile["kernels"].values())


def test_slices_come_together_and_damage_is_told(tmp_path: Path) -> None:
    run, keep = tmp_path / "kit" / "run", tmp_path / "keep"
    shutil.copytree(KIT / "run", run)
    whole = b"a wheel of some size" * 1000
    name = "big.bin"
    halves = {"part.1": whole[:7000], "part.2": whole[7000:]}
    (run / "slices.txt").write_text("".join(f"{half} {name}\n" for half in halves))
    (run / "SHA256SUMS").write_text(f"{hashlib.sha256(whole).hexdigest()}  {name}\n")

    def send(half: str, data: bytes) -> str:
        folder = run.parent / half.replace(".", "")
        folder.mkdir(exist_ok=True)
        (folder / half).write_bytes(data)
        said = bash(run / "unpack.sh", KEEP=str(keep))
        shutil.rmtree(folder)  # the next step brings another
        return said.strip().splitlines()[-1]

    assert send("part.1", halves["part.1"]) == "waiting for part.2"
    assert send("part.2", halves["part.2"][::-1]).startswith("damaged: ")
    assert send("part.2", halves["part.2"]) == "complete"
    assert (keep / "slices" / name).read_bytes() == whole


FACTS: dict[str, Any] = {"torch": {"available": True, "name": "NVIDIA H100 80GB HBM3"}, "copy_TB_s": 2.900249999}
ROW = {"network": "banet", "engine": "torch-cuda", "size": "64x64", "gpu_ms": {"p50": 1.23456789}, "at_s": 3.0}


def test_what_came_back_becomes_a_report_under_the_cards_name(tmp_path: Path) -> None:
    for step, lines in (("one", [ROW | {"gpu_ms": {"p50": 9.0}}]), ("two", [ROW, {"engine": "x", "error": "refused"}])):
        (tmp_path / step).mkdir()
        (tmp_path / step / "speed.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "one" / "facts.json").write_text(json.dumps(FACTS))
    done = report(str(tmp_path / "one"), str(tmp_path / "two"), "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "gpu-h100"
    assert json.loads((folder / "machine.json").read_text())["copy_TB_s"] == 2.9002
    # The later run of an engine takes the place of the earlier, and a refusal is kept.
    (row,) = json.loads((folder / "speed.json").read_text())
    assert row == {"network": "banet", "engine": "torch-cuda", "size": "64x64", "gpu_ms": {"p50": 1.2346}}
    assert json.loads((folder / "refused.json").read_text()) == [{"engine": "x", "error": "refused"}]


@pytest.mark.parametrize(
    ("name", "folder"), [("NVIDIA GeForce RTX 4090", "gpu-rtx-4090"), ("NVIDIA A100-SXM4-80GB", "gpu-a100")]
)
def test_cards_have_short_names(tmp_path: Path, name: str, folder: str) -> None:
    (tmp_path / "facts.json").write_text(json.dumps({"torch": {"available": True, "name": name}}))
    assert report(str(tmp_path), "--output", str(tmp_path)).returncode == 0
    assert (tmp_path / folder / "machine.json").is_file()


@pytest.mark.slow
def test_a_rehearsal_is_no_report(found: Path, tmp_path: Path) -> None:
    done = report(str(found), "--output", str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "no facts.json of a machine with a GPU" in done.stderr
