"""`python training/train_network.py` and `unblur train`: what they write, say and refuse."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from unblur.cli.train_network import describe_part, main
from unblur.images.synthetic import synthetic_pair
from unblur.training.evaluation import _summary

ROOT = Path(__file__).parents[2]
WriteConfig = Callable[..., Path]


def test_a_run_writes_checkpoint_log_curve_and_crops_and_is_evaluated(
    tmp_path: Path, write_config: WriteConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config, output = str(write_config()), tmp_path / "run"
    assert main(["--config", config, "--output", str(output)]) == 0
    assert {path.name for path in output.iterdir()} == {
        "banet-nano.safetensors", "state.pt", "config.json", "log.json", "curve.png", "crops.png", "scenes",
    }  # fmt: skip
    for name in ("curve.png", "crops.png"):
        with Image.open(output / name) as image:
            assert image.size[0] > 90
    assert "banet-nano.safetensors" in capsys.readouterr().out

    for kind, frame in zip(("blur", "sharp"), synthetic_pair(1, 40, 40), strict=True):
        (tmp_path / "real" / "test" / "s" / kind).mkdir(parents=True)
        Image.fromarray(frame).save(tmp_path / "real" / "test" / "s" / kind / "1.png")
    weights = output / "banet-nano.safetensors"
    arguments = ["--config", config, "--evaluate", str(weights), "--real", str(tmp_path / "real")]
    assert main(arguments) == 0
    assert not weights.with_suffix(".json").exists(), "a card that stands there is replaced only by name"
    report = tmp_path / "card.json"
    arguments += ["--report", str(report)]
    assert main(arguments) == 0
    first = report.read_bytes()
    values = json.loads(first)
    assert (values["network"], values["synthetic"]["count"], values["real"]["count"]) == ("banet_nano", 2, 1)
    assert values["real"]["pairs"][0]["pair"] == "test/s/blur/1.png"
    gain = values["synthetic"]["restored_psnr_db"] - values["synthetic"]["blurred_psnr_db"]
    assert values["synthetic"]["gain_db"] == pytest.approx(gain, abs=2e-4)
    assert main(arguments) == 0
    assert report.read_bytes() == first, "the same checkpoint gives the same report"
    capsys.readouterr()
    assert main([*arguments[:4], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["synthetic"] == values["synthetic"]


def test_pairs_that_are_their_own_truth_are_counted_apart() -> None:
    """A black pair that the network leaves black, and beside it one that it makes worse than the input was."""
    rows = [
        {"blurred_psnr_db": "Infinity", "restored_psnr_db": "Infinity"},
        {"blurred_psnr_db": 30.0, "restored_psnr_db": 31.5},
    ]
    good = _summary(rows)
    assert {name: value for name, value in good.items() if name != "pairs"} == {
        "count": 2, "identical": 1, "blurred_psnr_db": 30.0, "restored_psnr_db": 31.5, "gain_db": 1.5,
        "worst_gain_db": 0.0, "better": 1,
    }  # fmt: skip
    assert "gain +1.50 dB (worst +0.00, better in 1); 1 identical to the truth" in describe_part("real", good)
    bad = _summary([{"blurred_psnr_db": "Infinity", "restored_psnr_db": 40.0}, *rows])
    assert (bad["gain_db"], bad["worst_gain_db"], bad["identical"]) == ("-Infinity", "-Infinity", 2)
    assert "gain -∞ dB (worst -∞" in describe_part("real", bad)


def test_a_disk_that_fills_at_any_write_is_a_sentence_and_the_same_command_goes_on(
    tmp_path: Path, write_config: WriteConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of a run goes through one writer, which libraries with errors of their own do not."""
    config, output = str(write_config(first=1, second=1)), tmp_path / "run"
    genuine, writes, full_at = Path.write_bytes, 0, 0

    def write(path: Path, data: bytes) -> int:
        nonlocal writes
        writes += 1
        if writes == full_at:
            genuine(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return genuine(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    assert main(["--config", config, "--output", str(output)]) == 0
    names = {path.name for path in output.iterdir()}
    all_writes, weights = writes, (output / "banet-nano.safetensors").read_bytes()
    assert all_writes >= len(names) + 1, "a file that is not written here would not be tested here"
    for full_at in range(1, all_writes + 1):  # noqa: B007 -- `write` reads it
        shutil.rmtree(output)
        capsys.readouterr()
        writes = 0
        assert main(["--config", config, "--output", str(output)]) == 2
        assert "isk is full" in capsys.readouterr().err
        assert {path.name for path in output.iterdir()} <= names
        assert not [path for path in output.rglob("*") if path.name.startswith(".")]
    full_at = 0
    assert main(["--config", config, "--output", str(output)]) == 0
    assert (output / "banet-nano.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "none.toml"], "none.toml does not exist"),
        ([], "--config"),
        (["--config", "x", "--otput", "y"], "did you mean --output?"),
        (["--config", "x", "--real", "y"], "belong to --evaluate"),
        (
            [
                "--config",
                str(ROOT / "training/configs/bag.toml"),
                "--evaluate",
                str(ROOT / "checkpoints/banet-nano.safetensors"),
            ],
            "is a banet_nano, and",
        ),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_key_and_an_empty_data_folder_are_exit_code_2_and_write_nothing(
    tmp_path: Path, write_config: WriteConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(write_config(more="sede = 3\n")), "--output", str(tmp_path / "run")]) == 2
    assert "did you mean 'seed'" in capsys.readouterr().err
    config = tmp_path / "gopro.toml"
    config.write_text("network = 'banet_nano'\nstages = [{iterations = 1}]\n[data]\nsource = 'gopro'\nfolder = '.'\n")
    assert main(["--config", str(config), "--output", str(tmp_path / "run")]) == 2
    assert "No gopro pair for 'train'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_help_of_the_door_loads_no_torch() -> None:
    code = (
        "import sys; from unblur.cli.train_network import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'matplotlib', 'skimage'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "--evaluate" in run.stdout
    door = [sys.executable, str(ROOT / "training" / "train_network.py"), "--help"]
    assert subprocess.run(door, capture_output=True, text=True, check=True).stdout == run.stdout
