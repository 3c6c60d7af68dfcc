"""What `unblur reproduce` writes: Polygraphy's commands run, the C++ program compiles, the rest is held to names."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from nvidia_stubs import ENUMS, MEMBERS, RTX_ONLY, write_stubs

from unblur.cli import app
from unblur.core.errors import InputError
from unblur.engines.tensorrt.profiles import Profile
from unblur.engines.tensorrt.reproduce import PROGRAM, SOURCES, Subject, scripts, write_reproduction
from unblur.engines.xray.kernels import Kernel, XRay, parse_builder_log

SNAPSHOTS = Path(__file__).parents[2] / "tensorrt_api"
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
needs_polygraphy = pytest.mark.skipif(importlib.util.find_spec("polygraphy") is None, reason="needs polygraphy")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module")
def engine(fixed_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduce") / "with space"
    folder.mkdir()
    command = ["build", "--onnx", str(fixed_graph), "--fp16", "--target", "sm89"]
    assert app.main([*command, "--output", str(folder / "tiny.engine")]) == 0
    return folder / "tiny.engine"


@pytest.fixture(scope="module")
def folder(engine: Path) -> Path:
    return write_reproduction(engine, engine.parent / "again")


SUBJECT = Subject(
    "../e.engine", "../e.engine.onnx", "tensorrt", "10.16.1", ("sm90",), 3, "bytes", (1, None, None, 3),
    Profile((64, 96), (256, 256), (720, 1280)), True, (0.0, 255.0),
)  # fmt: skip


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """With the commands of this interpreter's environment first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120
    )


def polygraphy_commands(folder: Path) -> tuple[list[str], list[str]]:
    text = (folder / "polygraphy.sh").read_text().replace("\\\n", " ")
    convert, compare = [shlex.split(line) for line in text.splitlines() if line.startswith("env ")]
    return convert, compare


@pytest.mark.tensorrt_rtx
@needs_polygraphy
def test_polygraphy_builds_an_engine_of_the_same_kernels(engine: Path, folder: Path) -> None:
    convert, _ = polygraphy_commands(folder)
    assert convert[:2] == ["env", "POLYGRAPHY_USE_TENSORRT_RTX=1"]
    done = run(convert, folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (folder / "polygraphy.engine").stat().st_size > 1000
    log = done.stdout + done.stderr
    lines = [line.strip() for line in log[log.index("Layers:") :].splitlines()]
    built = parse_builder_log(["\n".join(lines)])
    (listed,) = json.loads(engine.with_name("tiny.engine.json").read_text())["targets"].values()
    ours = XRay(tuple(Kernel.from_json(kernel) for kernel in listed["each_kernel"]), 0)
    assert len(built.kernels) == len(ours.kernels) > 50
    assert [(k.name, k.kind, k.nodes) for k in built.kernels] == [(k.name, k.kind, k.nodes) for k in ours.kernels]
    assert built.bytes_moved == ours.bytes_moved


@pytest.mark.tensorrt_rtx
@needs_polygraphy
def test_polygraphy_understands_the_comparison(folder: Path, tmp_path: Path) -> None:
    """Its engine runs only on a GPU; here it writes the script it would run."""
    _, compare = polygraphy_commands(folder)
    done = run([*compare, "--gen-script", str(tmp_path / "run.py")], folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    script = (tmp_path / "run.py").read_text()
    compile(script, "run.py", "exec")
    assert "input_metadata" in script
    assert re.search(r"OnnxrtRunner|TrtRunner", script)


def test_flags_that_make_the_numbers_comparable() -> None:
    written = scripts(SUBJECT)
    ten, eleven, rtx, polygraphy = (
        written[name] for name in ("trtexec-10", "trtexec-11", "tensorrt-rtx", "polygraphy")
    )
    spelled = {"--useCudaGraph", "--useSpinWait", "--noDataTransfers"}
    assert [command[1] for command in ten[:2]] == ["--loadEngine=../e.engine"] * 2  # its own product and release
    assert spelled <= set(ten[0])
    assert "--separateProfileRun" in ten[1]
    assert eleven[0][1:3] == ["--onnx=../e.engine.onnx", "--saveEngine=trtexec-11.engine"]
    assert not any({*spelled, "--separateProfileRun", "--stronglyTyped"} & set(command) for command in eleven)
    assert {"--warmUp=500", "--duration=10", "--iterations=300"} <= set(ten[0]) & set(eleven[1]) & set(rtx[1])
    assert "--rtxCudaGraphStrategy=wholeGraph" in rtx[1]
    shapes = ["--minShapes=bytes:1x64x96x3", "--optShapes=bytes:1x256x256x3", "--maxShapes=bytes:1x720x1280x3"]
    assert eleven[0][3:6] == rtx[0][3:6] == shapes
    assert "--shapes=bytes:1x256x256x3" in ten[0]
    assert "bytes:[1,720,1280,3]" in polygraphy[0]
    assert "--strongly-typed" in polygraphy[0]
    assert "--tf32" not in polygraphy[0]
    assert "--noTF32" in eleven[0]
    assert "POLYGRAPHY_USE_TENSORRT_RTX=0" in polygraphy[0]
    assert polygraphy[1][polygraphy[1].index("--val-range") + 1] == "[0,255]"
    fixed = scripts(replace(SUBJECT, dynamic=False, product="tensorrt-rtx", targets=("sm89", "sm120")))
    assert not any("hapes=" in word for name in ("trtexec-10", "tensorrt-rtx") for c in fixed[name] for word in c)
    assert fixed["tensorrt-rtx"][0][1] == "--loadEngine=../e.engine"
    assert fixed["trtexec-10"][0][2] == "--saveEngine=trtexec-10.engine"
    at = fixed["polygraphy"][0].index("--compute-capabilities")
    assert fixed["polygraphy"][0][at + 1 : at + 3] == ["8.9", "12.0"]


@pytest.mark.tensorrt_rtx
def test_the_folder_names_what_lies_beside_it(engine: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"README.md", "trtexec-10.sh", "trtexec-11.sh", "tensorrt-rtx.sh", "polygraphy.sh", *PROGRAM}
    assert {path.name for path in folder.iterdir()} - {"polygraphy.engine"} == names
    for script in folder.glob("*.sh"):
        assert os.access(script, os.X_OK)
        assert run(["sh", "-n", script.name], folder).returncode == 0
        for path in re.findall(r"\.\./\S*?\.onnx", script.read_text()):
            assert (folder / path).resolve() == engine.with_name("tiny.engine.onnx")
    readme = (folder / "README.md").read_text()
    assert "timed at 48x64. Nothing in this folder was run" in readme
    assert "-DUNBLUR_RTX=ON" in readme
    assert "$" not in readme
    assert app.main(["reproduce", str(engine), "--output", str(folder), "--json"]) == 0  # over its own folder
    assert "measure.cpp" in json.loads(capsys.readouterr().out)["files"]


@pytest.mark.tensorrt_rtx
def test_what_cannot_be_reproduced(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="is not what `unblur reproduce` wrote"):
        write_reproduction(engine, tmp_path / "mine")
    with pytest.raises(InputError, match="does not exist"):
        write_reproduction(tmp_path / "absent.engine", tmp_path / "out")
    for file in engine.parent.glob("tiny*"):
        shutil.copy(file, tmp_path / file.name)
    (tmp_path / "tiny.engine").write_bytes(b"other")
    with pytest.raises(InputError, match="is not the file that"):
        write_reproduction(tmp_path / "tiny.engine", tmp_path / "out")
    assert not (tmp_path / "out").exists()


PROGRAM_TEXT = (SOURCES / "measure.cpp").read_text()


def _published(header: str, *folders: Path) -> Path | None:
    """The folder that has a header of NVIDIA's: those of the SDK and of the toolkit are not the project's to bring."""
    return next((folder for folder in folders if (folder / header).is_file()), None)


@needs_compiler
def test_the_program_compiles_against_the_published_headers(tmp_path: Path) -> None:
    """Of the data-centre product: they lie in its SDK and in the repository NVIDIA/TensorRT, and TENSORRT_ROOT names
    either. Those of the toolkit lie beside nvcc."""
    assert COMPILER is not None
    roots = [Path(os.environ[name]) for name in ("TENSORRT_ROOT", "CUDA_HOME", "CUDA_PATH") if name in os.environ]
    system = [Path("/usr/include"), Path("/usr/include/x86_64-linux-gnu")]
    system += sorted(Path("/usr/local").glob("cuda*/include"))
    tensorrt = _published("NvInfer.h", *(root / "include" for root in roots), *system)
    cuda = _published("cuda_runtime_api.h", *(root / "include" for root in roots), *system)
    if tensorrt is None or cuda is None:
        missing = [name for name, found in (("NvInfer.h", tensorrt), ("cuda_runtime_api.h", cuda)) if found is None]
        pytest.skip(f"needs NVIDIA's {' and '.join(missing)}: set TENSORRT_ROOT, CUDA_HOME")
    (tmp_path / "measure.cpp").write_text(PROGRAM_TEXT)
    headers = ["-isystem", str(tensorrt), "-isystem", str(cuda)]
    strict = [COMPILER, "-std=c++17", "-Wall", "-Wextra", "-Werror", *headers, "-fsyntax-only", "measure.cpp"]
    done = run(strict, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@needs_compiler
def test_the_program_runs_on_stand_ins_for_cuda_and_tensorrt(tmp_path: Path) -> None:
    """Compiled for both products; run where every call succeeds and the k-th event takes k milliseconds."""
    assert COMPILER is not None
    write_stubs(tmp_path)
    (tmp_path / "measure.cpp").write_text(PROGRAM_TEXT)
    strict = [COMPILER, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-I.", "measure.cpp"]
    assert run([*strict, "-DUNBLUR_RTX", "-fsyntax-only"], tmp_path).stderr == ""
    assert run([*strict, "-o", "measure"], tmp_path).stderr == ""
    (tmp_path / "e.engine").write_bytes(b"engine")
    done = run(["./measure", "e.engine", "0", "48", "64"], tmp_path)
    assert done.returncode == 0, done.stderr
    frame, gpu = done.stdout.splitlines()
    assert frame.startswith("frame: count 300 minimum_ms 0.")
    # Quantiles of 0, 1, ..., 299 by linear interpolation.
    expected = {"p10": 29.9, "p50": 149.5, "p90": 269.1, "p95": 284.05, "p99": 296.01}
    assert gpu == "gpu: count 300 minimum_ms 0.0000 " + " ".join(f"{k}_ms {v:.4f}" for k, v in expected.items())
    for wrong, words in (
        (["e.engine"], "setInputShape"),
        (["e.engine", "1", "48", "64"], "choosing the profile"),
        (["absent"], "reading the engine file"),
        ([], "usage"),
    ):
        done = run(["./measure", *wrong], tmp_path)
        assert done.returncode == 1
        assert words in done.stderr


def test_the_program_is_short_and_its_names_are_those_of_the_snapshots() -> None:
    assert len(PROGRAM_TEXT.splitlines()) <= 150
    assert max(map(len, PROGRAM_TEXT.splitlines())) <= 120
    called = set(re.findall(r"(?:engine|context|runtime|config)->(\w+)\(", PROGRAM_TEXT))
    assert called == set(MEMBERS)
    snapshots = {path.stem: json.loads(path.read_text()) for path in SNAPSHOTS.glob("*.json")}
    assert len(snapshots) == 3
    for name, snapshot in snapshots.items():
        for member, (_, python) in MEMBERS.items():
            owner, attribute = python.split(".")
            if member in RTX_ONLY and not name.startswith("rtx"):
                continue
            known = {**snapshot["classes"], "RuntimeConfig": snapshot["classes"].get("IRuntimeConfig", {})}
            assert attribute in known[owner], f"{member} ({python}) in {name}"
        for enum, values in ENUMS.items():
            if enum in snapshot["enums"] or name.startswith("rtx"):
                assert set(values.values()) <= set(snapshot["enums"][enum]), enum
    assert "CudaGraphStrategy" not in snapshots["11.4.0.106"]["enums"]  # hence the #ifdef
