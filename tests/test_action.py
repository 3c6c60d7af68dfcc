"""The GitHub Action: its steps are run as they are written, in order, in a shell as GitHub starts one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from unblur.calibration.collect import collect

ROOT = Path(__file__).parents[1]
ACTION = (ROOT / "action.yml").read_text()
WORKFLOW = (ROOT / ".github" / "workflows" / "parity.yml").read_text()

SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")
"""What GitHub runs a step with `shell: bash` by."""

CONFIG = """
[network]
checkpoint = "tiny.safetensors"
[frames]
generated = 2
[graph]
sizes = ["32x48"]
[calibration]
manifest = "frames.toml"
[build]
precisions = ["fp16", "int8"]
fidelity_db = 15.0
psnr_loss_db = 9.0
[compare]
engines = ["onnxruntime"]
rounds = 2
hang_seconds = 0
[budgets.onnxruntime]
fidelity_db_min = 60.0
"""


@dataclass(frozen=True)
class Step:
    """One of the action's. `script`: "" where it uses another action."""

    name: str
    script: str
    environment: dict[str, str]
    always: bool


def steps(text: str, inputs: dict[str, str]) -> list[Step]:
    """Of a composite action. No YAML parser is among the dependencies; what this reads is what the action writes."""
    found = []
    for block in re.split(r"^    - ", text.partition("\n  steps:\n")[2], flags=re.MULTILINE)[1:]:
        name = re.match(r"name: (.+)\n", block)
        assert name, block
        script = re.search(r"^      run: \|\n((?:        .*\n)+)", block, re.MULTILINE)
        assert ("uses: " in block) != bool(script), block
        env = re.search(r"^      env:\n((?:        .*\n)+)", block, re.MULTILINE)
        pairs = re.findall(r"^ {8}(\w+): (.*)$", env[1], re.MULTILINE) if env else []
        values = {key: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: inputs[m[1]], value) for key, value in pairs}
        lines = "\n".join(line[8:] for line in script[1].splitlines()) if script else ""
        assert "${{" not in lines, "an input that stands in a script is code: hand it over by env"
        found.append(Step(name[1], lines, values, "\n      if: always()\n" in block))
    return found


def inputs(text: str) -> dict[str, str]:
    """Names and defaults."""
    block = text.partition("\ninputs:\n")[2].partition("\nruns:\n")[0] + "\n"
    return dict(re.findall(r'^  (\w+):\n    description: .+\n    default: "?(.*?)"?\n', block, re.MULTILINE))


@pytest.fixture
def project(tmp_path: Path, tiny_path: Path) -> Path:
    (tmp_path / "pipeline.toml").write_text(CONFIG)
    shutil.copy(tiny_path, tmp_path / "tiny.safetensors")
    collect(["synthetic:0"], 3, (32, 48), tmp_path / "frames.toml")
    return tmp_path


def run(project: Path, *, from_step: str = "", **given: str) -> tuple[dict[str, int], str]:
    """Exit code of each step that ran, as GitHub runs them: after a failure only those of `if: always()`. And all that
    was printed. `from_step`: those before it have been run, and would only find what they made."""
    for name in ("GITHUB_PATH", "GITHUB_STEP_SUMMARY"):
        (project / name).write_text("")
    environment = os.environ | {name: str(project / name) for name in ("GITHUB_PATH", "GITHUB_STEP_SUMMARY")}
    environment["GITHUB_ACTION_PATH"] = str(ROOT)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    codes: dict[str, int] = {}
    printed = ""
    every = steps(ACTION, inputs(ACTION) | given)
    begin = next((number for number, step in enumerate(every) if step.name == from_step), 0)
    for step in every[begin:]:
        if not step.script or (any(codes.values()) and not step.always):
            continue
        # Installing needs a network and changes this machine: make says what it would do, and does nothing.
        more = {"MAKEFLAGS": "n"} if step.name == "Install" else {}
        done = subprocess.run(
            [*SHELL, step.script], cwd=project, env=environment | step.environment | more, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        codes[step.name] = done.returncode
        printed += done.stdout
    return codes, printed


@pytest.mark.tensorrt_rtx
def test_the_steps_run_as_they_are_written(project: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    codes, printed = run(project)
    assert set(codes.values()) == {0}, printed
    assert list(codes) == ["Install", "Export", "Calibrate", "Build", "X-ray", "Compare", "Summary"]
    assert (project / "GITHUB_PATH").read_text() == f"{ROOT}/.venv/bin\n"
    files = {path.name for path in (project / "parity").iterdir()}
    assert files >= {"network.onnx", "int8.onnx", "fp16.engine", "int8.engine", "xray.html"}
    summary = (project / "GITHUB_STEP_SUMMARY").read_text()
    assert summary == (project / "parity" / "report.md").read_text()
    assert "tensorrt-graph-int8" in summary  # what was built is a row
    suites = ElementTree.parse(project / "parity" / "report.xml").getroot()
    assert suites.get("failures") == "0"
    kept = re.findall(r"\$\{\{ inputs\.output \}\}/(\S+)", ACTION)
    assert kept
    assert all((project / "parity" / name).is_file() for name in kept)
    # Once more, held against itself and to a budget that nothing keeps: red for that alone, and the summary says why.
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    accept = [*SHELL, "unblur accept parity --reason first --output nano.json"]
    subprocess.run(accept, cwd=project, env=os.environ | environment, check=True)
    (project / "pipeline.toml").write_text(CONFIG.replace("fidelity_db_min = 60.0", "fidelity_db_min = 999.0"))
    codes, printed = run(project, from_step="Compare", baseline="nano.json")
    assert codes == {"Compare": 3, "Summary": 0}, printed
    summary = (project / "GITHUB_STEP_SUMMARY").read_text()
    assert "Against the baseline nano.json" in summary
    assert "Broken budgets" in summary
    broken = ElementTree.parse(project / "parity" / "report.xml").getroot()
    assert broken.get("failures") == "1"


def test_a_step_that_fails_ends_it_and_the_summary_says_so(project: Path) -> None:
    (project / "tiny.safetensors").write_bytes(b"?")
    codes, _ = run(project)
    assert codes == {"Install": 0, "Export": 2, "Summary": 0}
    assert "There is no report" in (project / "GITHUB_STEP_SUMMARY").read_text()


def test_the_workflow_uses_this_action_with_inputs_that_it_has() -> None:
    assert re.search(r"^      - uses: \./$", WORKFLOW, re.MULTILINE)
    given = re.findall(r"^          (\w+): ", WORKFLOW, re.MULTILINE)
    assert given
    assert set(given) <= set(inputs(ACTION))
    assert "run:" not in WORKFLOW  # its steps are the action's, which are run above
    assert (ROOT / "pipeline.toml").is_file()
