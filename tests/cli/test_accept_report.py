"""The gate from one end to the other: compare, accept, compare again; and machines side by side."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unblur.cli.app import main
from unblur.compare.judge.baselines import load_baseline
from unblur.compare.load import load_report
from unblur.networks.random_weights import random_checkpoint

COMPARE = ["compare", "--checkpoint", "tiny.safetensors", "--frames", "frames", "--truth", "truth", "--threads", "1",
           "--engines", "onnxruntime", "--rounds", "2", "--output"]  # fmt: skip
ONE_PROCESS = "[compare]\nhang_seconds = 0\n"


@pytest.fixture
def place(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a tiny network and one pair of pictures, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("pipeline.toml").write_text(ONE_PROCESS)
    shutil.copy(tiny_path, "tiny.safetensors")
    rng = np.random.default_rng(2)
    for name in ("frames", "truth"):
        Path(name).mkdir()
        Image.fromarray(rng.integers(0, 256, (16, 18, 3), dtype=np.uint8)).save(f"{name}/a.png")
    return tmp_path


def test_a_report_is_accepted_and_the_next_one_held_against_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMPARE, "first"]) == 0
    assert main(["accept", "first", "--reason", "the first", "--output", "nano.json"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nano.json"
    assert main([*COMPARE, "second", "--baseline", "nano.json"]) == 0
    since = load_report("second").since
    assert since is not None
    assert (since.file, since.reason) == ("nano.json", "the first")
    assert [c.state for c in since.changes if c.measure != "latency_ms"] == ["kept"] * 3
    capsys.readouterr()
    # A baseline that was a little better: what is measured now has lost.
    values = json.loads(Path("nano.json").read_text())
    for engine in values["report"]["engines"]:
        engine["frames"][0]["quality"]["psnr_db"] += 0.1
    Path("nano.json").write_text(json.dumps(values))
    assert main([*COMPARE, "third", "--baseline", "nano.json"]) == 3
    assert "onnxruntime: baseline_psnr_loss_db is 0.005, measured 0.1" in capsys.readouterr().err
    # The key of the file is as good as the flag, and where accept writes to.
    Path("pipeline.toml").write_text(ONE_PROCESS + 'baseline = "nano.json"\n')
    assert main([*COMPARE, "fourth"]) == 3
    capsys.readouterr()
    assert main(["accept", "fourth", "--reason", "meant", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reason"] == "meant"
    assert load_baseline(place / "nano.json").replaces == told["replaces"]
    assert main([*COMPARE, "fifth"]) == 0
    # One of other weights is refused before anything is made.
    shutil.copy(random_checkpoint("banet_nano", 3, place / "other").path, "tiny.safetensors")
    shutil.rmtree("artifacts")
    assert main([*COMPARE, "sixth"]) == 2
    assert "The baseline nano.json is of another network: " in capsys.readouterr().err
    assert not list(Path("artifacts").rglob("*.onnx"))


def test_the_comparison_of_the_store_is_held_against_it_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pipeline.toml").write_text(
        '[network]\ncheckpoint = "tiny.safetensors"\n[frames]\nblurred = "frames"\nsharp = "truth"\n'
        '[build]\nenabled = false\n[compare]\nengines = ["onnxruntime"]\nrounds = 0\nhang_seconds = 0\n'
    )
    assert main(["compare"]) == 0
    assert main(["accept", "artifacts/report", "--reason", "x", "--output", "b.json"]) == 0
    values = json.loads(Path("b.json").read_text())
    values["report"]["engines"][1]["frames"][0]["quality"]["psnr_db"] += 0.1
    Path("b.json").write_text(json.dumps(values))
    assert main(["compare", "--baseline", "b.json"]) == 3
    assert main(["compare"]) == 0
    capsys.readouterr()
    assert main(["compare", "--frames", "frames", "--baseline", "b.json"]) == 2
    assert "differ in whether they have the sharp pictures" in capsys.readouterr().err


@pytest.mark.slow
def test_cost_is_of_a_process_of_its_own_and_told(place: Path) -> None:
    assert main([*COMPARE, "costly", "--cost"]) == 0
    report = load_report("costly")
    assert [engine.cost is not None for engine in report.engines] == [True, True]
    for engine in report.engines:
        assert engine.cost is not None
        # Python with PyTorch takes some 200 MiB; a test process with all its imports, or nothing at all, is neither.
        assert 50 < engine.cost.peak_mib < 2000
        assert min(engine.cost.load_s, engine.cost.first_frame_s) > 0
        assert engine.cost.disk_mib is not None
    checkpoint, graph = (engine.cost.disk_mib for engine in report.engines if engine.cost)
    assert checkpoint == Path("tiny.safetensors").stat().st_size / 2**20
    assert graph in [path.stat().st_size / 2**20 for path in Path("artifacts").rglob("*.onnx")]
    assert "onnxruntime" in (told := Path("costly/report.md").read_text())
    assert " MiB of memory at most, opened in " in told
    assert "A mark's area is the memory of its engine." in Path("costly/report.html").read_text()
    radii = set(re.findall(r'<circle class="mark [^>]*? r="([0-9.]+)"', Path("costly/report.html").read_text()))
    assert "5.5" in radii


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["accept", "none", "--reason", "x", "--output", "b.json"], "none"),
        (["accept", "r.json", "--reason", "x"], "Nothing says where the baseline is"),
        (["accept", "r.json", "--output", "b.json"], "--reason"),
        (["accept", "r.json", "--reason", "x", "--output", "b.json", "--config", "pipeline.toml"], "give one"),
        ([*COMPARE, "o", "--baseline", "none.json"], "does not exist; write it: unblur accept"),
        ([*COMPARE, "o", "--baseline", "r.json"], "is no baseline"),
        (["compare", "--baseline", "b.json", "--set", "graph.sizes=['16x16', '32x32']"], "is of one size"),
        (["merge", "r.json", "--output", "m"], "name two or more"),
        (["merge", "r.json", "r.json", "--output", "m"], "named twice"),
    ],
)
def test_bad_input_is_one_sentence(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    report = Path(__file__).parents[2] / "compare/baselines/comparison-banet-nano/report.json"
    shutil.copy(report, "r.json")
    if "is of one size" in words:
        assert main(["accept", "r.json", "--reason", "x", "--output", "b.json"]) == 0
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not Path("m").exists()


def test_two_machines_stand_side_by_side(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Path(__file__).parents[2] / "compare/baselines/comparison-banet-nano/report.json"
    values = json.loads(report.read_text())
    Path("a.json").write_text(json.dumps(values))
    values["machine"]["cpu"] = "Another | <b>processor</b>"
    values["engines"] = values["engines"][:2]
    values["engines"][1]["latency"]["description"]["device"] = "cuda: a GPU"
    for key in ("median_ms", "p10_ms", "p90_ms"):
        values["engines"][1]["latency"]["summary"][key] = 7.5
    Path("b.json").write_text(json.dumps(values))
    assert main(["merge", "a.json", "b.json", "--output", "m", "--json"]) == 0
    merged = json.loads(capsys.readouterr().out)
    assert merged["rows"][0]["engine"] == "torch-channels-last"
    assert merged["rows"][0]["machine"] == "cuda: a GPU, Another | <b>processor</b>"
    assert [row["engine"] for row in merged["rows"]].count("torch") == 2
    lines = Path("m/merged.md").read_text().splitlines()
    assert lines[4].startswith("| torch-channels-last | cuda: a GPU, Another \\| &lt;b&gt;processor&lt;/b&gt; | 7.50 |")
    page = Path("m/merged.html").read_text()
    assert "&lt;b&gt;processor" in page
    assert "<b>processor" not in page
    assert main(["merge", "a.json", "b.json", "--output", "m"]) == 0  # its own may be written over
    values["checkpoint_digest"] = "0" * 64
    Path("b.json").write_text(json.dumps(values))
    assert main(["merge", "a.json", "b.json", "--output", "n"]) == 2
    assert "of another checkpoint" in capsys.readouterr().err
    values["checkpoint_digest"] = merged["checkpoint_digest"]
    first = json.loads(Path("a.json").read_text())
    name = first["engines"][0]["frames"][0]["frame"]

    def refused(words: str, **change: object) -> None:
        """Of the reference's first frame in both reports."""
        for path, of in (("a.json", {"pixels": "0" * 32}), ("b.json", change)):
            told = json.loads(json.dumps(values if path == "b.json" else first))
            told["engines"][0]["frames"][0] |= of
            Path(path).write_text(json.dumps(told))
        assert main(["merge", "a.json", "b.json", "--output", "n"]) == 2
        assert f"{name} {words}" in capsys.readouterr().err

    refused("is another picture in b.json than in a.json, by its pixels", pixels="1" * 32)
    refused("has another size in b.json than in a.json: 9x", height=9)
    Path("a.json").write_text(json.dumps(first))
    values["engines"][0]["contract"]["channel_order"] = "rgb"
    Path("b.json").write_text(json.dumps(values))
    assert main(["merge", "a.json", "b.json", "--output", "n"]) == 2
    assert "another channel order than a.json: rgb, not bgr" in capsys.readouterr().err
    values["engines"][0]["contract"]["channel_order"] = "bgr"
    for engine in values["engines"]:
        engine["frames"] = engine["frames"][1:]
    Path("b.json").write_text(json.dumps(values))
    assert main(["merge", "a.json", "b.json", "--output", "n"]) == 0
    assert "pictures of its own" in capsys.readouterr().out
    values["latency"]["width"] = 64
    Path("b.json").write_text(json.dumps(values))
    assert main(["merge", "a.json", "b.json", "--output", "n"]) == 2
    assert "Latency of several sizes" in capsys.readouterr().err
