"""docs/gpu.md: its commands are taken by the real doors, and it claims nothing that no report holds."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from gpu_numbers import fusions

from unblur.cli import app
from unblur.cli.door import Arguments
from unblur.engines.catalogue import CATALOGUE
from unblur.engines.xray.gpus import find_gpu

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "gpu.md").read_text()


class ParsedError(Exception):
    """Ends a door once its arguments are read."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    """What the doors understood; they do nothing after it."""
    found: list[argparse.Namespace] = []

    def parse(self: Arguments, argv: Sequence[str] | None = None) -> argparse.Namespace:
        found.append(argparse.ArgumentParser.parse_args(self, argv))
        raise ParsedError

    monkeypatch.setattr(Arguments, "parse_args", parse)
    return found


def typed() -> list[list[str]]:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    return [shlex.split(line) for line in block.splitlines()]


def test_five_commands_are_taken_by_their_doors(parsed: list[argparse.Namespace]) -> None:
    commands = typed()
    inline = [shlex.split(text) for text in re.findall(r"`(unblur [a-z]+ .+?)`", PAGE)]
    assert len(commands) == 5
    assert commands[0][:2] == ["make", "test-gpu"]
    assert re.search(r"^test-gpu:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for program, *arguments in [*commands[1:], *inline]:
        assert program == "unblur"
        with pytest.raises(ParsedError):
            app.main(arguments)
    assert len(parsed) == 4 + len(inline) >= 5


def test_engines_gpus_and_files_of_the_commands_exist(parsed: list[argparse.Namespace]) -> None:
    by_verb = {command[1]: command for command in typed()}
    for command in by_verb.values():
        if command[0] == "unblur":
            with pytest.raises(ParsedError):
                app.main(command[1:])
    speed, build = (next(n for n in parsed if hasattr(n, flag)) for flag in ("engines", "flavor"))
    assert set(speed.engines.split(",")) <= set(CATALOGUE)
    assert {"tensorrt-rtx-fp16", "onnxruntime-cuda"} <= set(speed.engines.split(","))
    assert (ROOT / build.checkpoint).is_file()
    assert re.search(r"`tensorrt`, `tensorrt-fp16` among", PAGE)
    assert {"tensorrt", "tensorrt-fp16"} <= set(CATALOGUE)
    for name in re.findall(r'--gpu "(.*?)"', PAGE):
        find_gpu(name)


def test_a_flag_that_does_not_exist_would_be_found(parsed: list[argparse.Namespace]) -> None:
    assert app.main(["xray", "a.engine", "--measure"]) == 2
    assert parsed == []


def test_speeds_of_a_gpu_are_those_of_committed_reports() -> None:
    """Milliseconds of TensorRT stand nowhere before a report holds them; of PyTorch only where the table is written."""
    reports = [json.loads(path.read_text()) for path in (ROOT / "compare/baselines").rglob("report.json")]
    names = {engine["name"] for report in reports for engine in report["engines"] if not engine.get("not_measured")}
    assert names
    assert ("No engine of TensorRT or of TensorRT for RTX has been timed" in PAGE) == (
        not any("tensorrt" in name for name in names)
    )
    on_a_gpu = {name for name in names if "cuda" in name}
    assert "torch-cuda-form-compile-fp16-graph" in on_a_gpu <= set(CATALOGUE)
    shown = re.findall(r"<!-- numbers: compare/baselines/(.*?)/speed.json -->", PAGE)
    written = [Path(path).parent.name for path in (ROOT / "compare/baselines").glob("*/speed.json")]
    assert sorted(written) == sorted(shown)
    said = "gpu-h100"
    profile = json.loads((ROOT / "compare/baselines" / said / "profile.json").read_text())
    kernels = profile["kernels"]["form-fp16-cl"]["top"]
    convolutions = sum(k["ms"] for k in kernels if re.search(r"fprop|dgrad|cutlass_", k["kernel"]))
    rate = 2e3 * profile["conv_total"]["TMAC"] / convolutions
    assert f"Convolutions take {convolutions:.1f} ms of kernels, {rate:.0f} TFLOP/s" in PAGE
    plain = profile["kernels"]["fp16-cl"]
    assert "adaptive_average_pool_nhwc" in plain["top"][0]["kernel"]
    assert plain["top"][0]["ms"] / plain["sum_ms"] == pytest.approx(2 / 3, abs=0.05)
    bias = profile["conv"][0]
    assert (bias["in"], bias["out"], bias["map"]) == (128, 128, [360, 640])
    assert f"{bias['ms']:.3f} ms against {bias['without_bias_ms']:.3f} ms" in PAGE
    rows = json.loads((ROOT / "compare/baselines" / said / "speed.json").read_text())
    times = {row["engine"]: row["gpu_ms"]["p50"] for row in rows if row["size"] == "720x1280"}
    slow, fast = times["f32"], times["form-compile-fp16-graph"]
    assert f"a 720p frame of BANet from {slow:.0f} to {fast:.0f} ms" in (ROOT / "README.md").read_text()
    epilogues = json.loads((ROOT / "compare/baselines" / said / "epilogues.json").read_text())
    plain_ms, fp8 = (
        next(row["ms"] for row in epilogues if row.get("case") == case and row["shape"] == [128, 128, 1])
        for case in ("torch", "fp8 alone")
    )
    assert f"**FP8 gains nothing**: {fp8:.3f} ms for 128 to 128 channels, which run in {plain_ms:.3f} in FP16" in PAGE
    about = json.loads((ROOT / "compare/baselines" / said / "machine.json").read_text())
    gains = [max(0.0, count * (apart - once)) for _, apart, once, count in fusions(about, profile, epilogues)]
    assert (
        f"takes off {gains[-1] / fast:.0%} at the very most, and epilogues {sum(gains[:-1]) / fast:.0%}".replace(
            "%", " %"
        )
        in PAGE
    )
    rtx = json.loads((ROOT / "compare/baselines" / said / "rtx.json").read_text())
    assert re.search(r"compute capability 9\.0\. Supported compute capabilities: 8\.0 8\.6 8\.9", rtx["verdict"])
    assert rtx["build current"]["mask"] == "00000000"
