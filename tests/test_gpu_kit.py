"""engines/gpu_kit: every step rehearsed on a CPU, slices that come together again, and reports of what came back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_numbers import ladder

pytest.importorskip("tensorrt_rtx", reason="the kit's engines need tensorrt-rtx-cu13")

ROOT = Path(__file__).parents[1]
KIT = ROOT / "engines" / "gpu_kit"
ABSENT = ("openvino", "pycuda", "polygraphy", "matplotlib")
"""Of a bare machine's Python; unblur's other packages it has, or the kit brings."""


def bash(script: Path, *arguments: str, **variables: str) -> str:
    environment = os.environ | {"PY": sys.executable, "ROOT": str(ROOT), "PYTHONPATH": str(ROOT / "src")} | variables
    done = subprocess.run(
        ["bash", str(script), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
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
    """What the four steps leave where there is no GPU, and none of the packages that such a machine lacks."""
    keep = tmp_path_factory.mktemp("keep")
    for name in ABSENT:
        (keep / "site" / name).mkdir(parents=True)
        (keep / "site" / name / "__init__.py").write_text("raise ModuleNotFoundError(__name__)\n")
    for step in (1, 2, 3, 4):
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
    assert set(golden) == {"tiny.input", "tiny.output"}
    (engine,) = (kit / "engines").glob("*.engine")
    golden = np.load(kit / "engines" / "golden.npz")
    assert set(golden) == {f"{engine.stem}.{end}" for end in ("input", "output")}
    assert np.isfinite(golden[f"{engine.stem}.output"]).all()
    assert Path(f"{engine}.json").is_file()


@pytest.mark.slow
def test_every_step_ends_with_what_it_found_on_the_disk(found: Path) -> None:
    log = (found / "steps.log").read_text()
    parts = [line.split()[1:3] for line in log.splitlines() if line.startswith("==== ") and " rc=" in line]
    names = ("facts", "first-run", "rtx-probe", "rtx-tests", "speed-compiled", "profile", "tests", "stopwatch")
    assert parts == [[name, "rc=0"] for name in (*names, "ort-tests", "ort-speed")], log
    files = {path.relative_to(found) for path in found.rglob("*") if path.is_file()}
    assert len(files) <= 12, "eight of a call come back, and these are of four"
    assert max(len(path.parts) for path in files) <= 3
    facts = json.loads((found / "facts.json").read_text())
    assert facts["packages"]["torch"]
    assert isinstance(facts["torch"], dict)
    rows = [json.loads(line) for line in (found / "speed.jsonl").read_text().splitlines()]
    assert [(row["engine"], row["size"], "error" in row) for row in rows] == [("torch", "32x32", False)] * 2
    for folder in ("speed", "ort-speed"):
        assert json.loads((found / folder / "report.json").read_text())["engines"]


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
    assert profile["conv_total"]["TMAC"] == counter.get_total_flops() / 2e12
    assert list(profile["kernels"]) == ["torch-cuda-form-compile-fp16-graph", "torch-cuda-form-fp16-graph"]
    for frame in profile["kernels"].values():
        assert sum(kind["ms"] for kind in frame["kinds"].values()) == pytest.approx(frame["sum_ms"])


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128x64", "convolution"),
        ("void cutlass__5x_cudnn::Kernel<cutlass_tensorop_f16_s16816fprop_optimized_f16_64x64_64x5>", "convolution"),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy_alignedK_contig<at::native", "concatenation"),
        ("triton_poi_fused_cat_convolution_leaky_relu_3", "concatenation"),
        ("triton_poi_fused__to_copy_convolution_leaky_relu_7", "pointwise"),
        ("void at::native::_scatter_gather_elementwise_kernel<128, 8, at::native::_cuda_sc", "pointwise"),
        ("nvjet_sm90_hsh_64x16_64x16_2x1_v_bz_NNT", "matrix product"),
        ("triton_tem_fused_mm_2", "matrix product"),
        ("Memset (Device)", "other"),
    ],
)
def test_kernels_have_kinds(kernel: str, kind: str) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("profile_gpu", KIT / "run" / "profile_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.kind_of(kernel) == kind


def test_slices_come_together_one_wheel_at_a_time_and_damage_is_told(tmp_path: Path) -> None:
    run, keep = tmp_path / "kit" / "run", tmp_path / "keep"
    shutil.copytree(KIT / "run", run)
    with zipfile.ZipFile(run / "small-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small.py", "")
        wheel.writestr("small-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1\n")
        wheel.writestr("small-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("small-1.dist-info/RECORD", "")
    whole = b"a wheel of some size" * 1000
    wholes = {"part": "big.bin", "ort": "other.bin"}
    halves = {"1": whole[:7000], "2": whole[7000:]}
    slices = [f"{stem}.{half} {name}\n" for stem, name in wholes.items() for half in halves]
    (run / "slices.txt").write_text("".join(slices))
    sums = [f"{hashlib.sha256(whole).hexdigest()}  {name}\n" for name in wholes.values()]
    (run / "SHA256SUMS").write_text("".join(sums))

    def send(slice_: str, data: bytes, *, ask: str = "part") -> str:
        folder = run.parent / slice_.replace(".", "")
        folder.mkdir(exist_ok=True)
        (folder / slice_).write_bytes(data)
        said = bash(run / "unpack.sh", ask, KEEP=str(keep))
        shutil.rmtree(folder)  # the next step brings another
        return said.strip().splitlines()[-1]

    assert send("part.1", halves["1"]) == "waiting for part.2"
    assert (keep / "site" / "small.py").is_file(), "what every step needs waits for nothing"
    assert send("ort.1", halves["1"]) == "waiting for part.2", "taken, whatever is asked for"
    assert send("part.2", halves["2"][::-1]).startswith("damaged: ")
    assert send("part.2", halves["2"]) == "complete", "without the slices of another wheel"
    assert (keep / "slices" / "big.bin").read_bytes() == whole
    assert send("ort.2", halves["2"], ask="ort") == "complete"
    assert (keep / "slices" / "other.bin").read_bytes() == whole


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_part_that_is_killed_has_left_what_it_said(tmp_path: Path, stop: signal.Signals) -> None:
    script = tmp_path / "step.sh"
    script.write_text(f'. "{KIT}/run/common.sh"\nstep long 60 sh -c "echo found; touch $KEEP/said; exec sleep 2"\n')
    environment = os.environ | {"KEEP": str(tmp_path), "OUT": str(tmp_path / "out")}
    process = subprocess.Popen(["bash", str(script)], env=environment, start_new_session=True)
    deadline = time.monotonic() + 30
    while not (tmp_path / "said").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, stop)
    process.wait(30)
    assert (tmp_path / "out" / "steps.log").read_text() == "==== long\nfound\n"


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


def test_a_short_run_replaces_no_long_one_under_the_same_software(tmp_path: Path) -> None:
    smi = "name, driver_version\nNVIDIA H100 80GB HBM3, {}"
    packages = {"torch": "2.11.0"}

    def write(driver: str, rows: list[Any], profile: dict[str, Any]) -> dict[str, Any]:
        (tmp_path / "out").mkdir(exist_ok=True)
        values = {"facts": FACTS | {"nvidia_smi": smi.format(driver), "packages": packages}, "profile": profile}
        for name, value in values.items():
            (tmp_path / "out" / f"{name}.json").write_text(json.dumps(value))
        (tmp_path / "out" / "speed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert report(str(tmp_path / "out"), "--output", str(tmp_path)).returncode == 0
        where = tmp_path / ("gpu-h100" if driver == "580" else f"gpu-h100-{driver}-2-11-0-none")
        return {path.stem: json.loads(path.read_text()) for path in where.glob("*.json")}

    long = {"conv": [{"ms": 1.0}], "conv_total": {"TMAC": 3.0}, "kernels": {"a": {}}}
    write("580", [ROW], long)
    short = {"conv": [{"skipped": "no time"}], "conv_total": {"TMAC": 3.0}, "kernels": {"b": {}}}
    other = ROW | {"engine": "torch-cuda-tf32"}
    found = write("580", [other], short)
    assert [row["engine"] for row in found["speed"]] == ["torch-cuda", "torch-cuda-tf32"]
    assert found["profile"] == long | {"kernels": {"a": {}, "b": {}}}
    newer = write("590", [other], short)
    assert [row["engine"] for row in newer["speed"]] == ["torch-cuda-tf32"]
    assert newer["profile"] == short
    assert found == write("580", [], short), "the other driver's stay where they are"


def test_the_table_is_written_of_what_the_kit_writes(tmp_path: Path) -> None:
    """`agrees_db` of float32 itself is null there, and a ceiling that failed is a text."""
    ceilings = {"matmul_float16_TFLOP_s": 700.0, "matmul_fp8_TFLOP_s": "RuntimeError: no", "h2d_pinned_GB_s": 50.0}
    packages = {"torch": "2.11.0", "nvidia-cudnn-cu13": "9.19"}
    facts = FACTS | ceilings | {"packages": packages, "nvidia_smi": "name, driver\nNVIDIA H100 80GB HBM3, 580"}
    profile = {"network": "banet", "size": "64x64", "conv": [{}], "conv_total": {"TMAC": 0.1}, "kernels": {}}
    row = ROW | {"gpu_ms": {"p50": 1.0, "p10": 0.9, "p90": 1.1}, "agrees_db": None}
    for name, value in (("facts", facts), ("profile", profile)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "speed.jsonl").write_text(json.dumps(row) + "\n")
    assert report(str(tmp_path), "--output", str(tmp_path)).returncode == 0
    table = ladder(tmp_path / "gpu-h100")
    assert "| banet | 64x64 | torch-cuda | 1.00 | 0.90–1.10 | – | 200 | 29% | – |" in table
    assert "700 TFLOP/s in an FP16 product of 8192 (FP8: not measured)" in table


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
