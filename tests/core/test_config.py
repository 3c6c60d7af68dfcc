"""Configurations: wrong keys named with the nearest right one, flags over the file, nothing taken silently."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unblur.core.errors import InputError
from unblur.pipeline.config import PipelineConfig
from unblur.pipeline.resolve import load_pipeline_config

ROOT = Path(__file__).parents[2]


def load(tmp_path: Path, text: str, *assignments: str) -> PipelineConfig:
    path = tmp_path / "pipeline.toml"
    path.write_text(text)
    return load_pipeline_config(path, assignments)


def test_the_shipped_file_states_the_defaults_but_for_budgets() -> None:
    shipped = load_pipeline_config(ROOT / "pipeline.toml")
    default = PipelineConfig()
    parts = ("network", "paths", "calibration", "build", "compare")
    # Paths are absolute once they are read; of precisions and engines the file shows what there is.
    assert shipped.build.model_copy(update={"precisions": default.build.precisions}) == default.build
    assert shipped.compare.model_copy(update={"engines": default.compare.engines}) == default.compare
    assert shipped.model_copy(update={"budgets": {}, **{part: getattr(default, part) for part in parts}}) == default
    assert shipped.calibration.manifest == ROOT / default.calibration.manifest
    assert shipped.calibration.model_copy(update={"manifest": default.calibration.manifest}) == default.calibration
    assert shipped.network.checkpoint == ROOT / "checkpoints/banet-nano.safetensors"
    assert set(shipped.budgets) == {"*", "*int8"}


def test_frames_may_be_a_data_set_beside_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "[frames]\nblurred = 'gopro:data'").frames.blurred == Path(f"gopro:{tmp_path}/data")
    assert load(tmp_path, "[frames]\nblurred = 'data'").frames.blurred == tmp_path / "data"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[graph]\nheigth = 64", r"unknown key 'graph.heigth', did you mean 'height'"),
        ("[grph]\n", r"unknown key 'grph', did you mean 'graph'"),
        ("[budgets.openvino]\nfidelity_db = 60", r"budgets.openvino.fidelity_db', did you mean 'fidelity_db_min'"),
        ("[graph]\nheight = -4", r"graph.height = -4: .*greater than or equal to 16"),
        ("[graph]\nopset = 12", r"graph.opset = 12"),
        ("[build]\nfidelity_db = nan", r"build.fidelity_db = nan: .*finite number"),
        ("[build]\npsnr_loss_db = inf", r"build.psnr_loss_db = inf: .*finite number"),
        ("[budgets.openvino]\nfidelity_db_min = nan", r"fidelity_db_min = nan: .*finite number"),
        ("[build]\ntargets = ['sm98']", r"Unknown target 'sm98'"),
        ("[frames]\nsharp = 'x'", r"name both folders"),
        ("[budgets.openvino]\nfidelity_db_min = '60'", r"fidelity_db_min = '60': is text; write the number without"),
        ("[frames]\ngenerated = '4'", r"frames.generated = '4': is text; write the number without quotes"),
        ("[graph]\nheight = true", r"graph.height = True: is no number"),
        ("[build]\nfidelity_db = true", r"build.fidelity_db = True: is no number"),
        ("[search]\nlevels = [8, '16']", r"search.levels = \[8, '16'\]: is text"),
        ("[compare]\ncost = 'true'", r"compare.cost = 'true': write true or false"),
        ("[graph", r"is not TOML"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)


def test_what_is_there_twice_counts_once(tmp_path: Path) -> None:
    config = load(tmp_path, "[graph]\nsizes = ['64x48', '64x48', '32x32']\n[build]\nprecisions = ['fp16', 'fp16']")
    assert config.graph.sizes == ((64, 48), (32, 32))
    assert config.build.precisions == ("fp16",)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    config = load(
        tmp_path, "[graph]\nheight = 64", "graph.height=128", "compare.engines=['torch']", "graph.pixels=uint8"
    )
    assert (config.graph.sizes, config.graph.pixels, config.compare.engines) == (((128, 256),), "uint8", ("torch",))
    with pytest.raises(InputError, match=r"SECTION.KEY=VALUE"):
        load(tmp_path, "", "graph.height")
    with pytest.raises(InputError, match=r"unknown key 'graph.hight', did you mean 'height'"):
        load(tmp_path, "", "graph.hight=3")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, "[frames]\nblurred = 'mine'\n[paths]\nartifacts = '/elsewhere'")
    assert config.frames.blurred == tmp_path / "mine"
    assert config.paths.artifacts == Path("/elsewhere")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(InputError, match=r"does not exist|is a directory"):
            load_pipeline_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = " + "[" * 3000 + "]" * 3000, "nested too deep"),
        ("x = " + "9" * 5000, "is not TOML: Exceeds the limit"),
        ("[graph]\nheight = 0x" + "f" * 5000, "a number of thousands of digits"),
        ("[graph]\npixels = '" + "x" * 10_000 + "'", r"graph.pixels = 'x{90,110}\.\.\.x"),
        ('[paths]\nartifacts = "a\\u0000b"', r"'a\\x00b' has a NUL character"),
        ("[graph]\nheight = 1000000", "graph.height = 1000000: .*less than or equal to 16384"),
        ("[graph]\nheight = 16384\nwidth = 16384", "268435456 pixels"),
        ("[frames]\ngenerated = 99999999999999999999999", "frames.generated"),
        ("[frames]\nseed = 99999999999999999999999", "frames.seed"),
        ("[compare]\nthreads = 1000000", "compare.threads"),
        ("[compare]\nrounds = 1000000000", "compare.rounds"),
        ("[build]\nbuilds = 1000000000", "build.builds"),
        ("[build]\npsnr_loss_db = nan", "build.psnr_loss_db = nan: .*finite"),
        ("[budgets.'*']\nfidelity_db_min = nan", "fidelity_db_min = nan: .*finite"),
        (b"\xff", "is not TOML"),
    ],
)
def test_values_that_nobody_means(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as caught:
        load_pipeline_config(path)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", ["[" * 3000 + "]" * 3000, "9" * 5000, '"\\u0000"'])
def test_flags_that_nobody_means(tmp_path: Path, value: str) -> None:
    with pytest.raises(InputError):
        load(tmp_path, "", f"graph.height={value}")


def test_only_regular_files_are_configurations(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    for path, kind in [(tmp_path / "pipe.toml", "a pipe"), (Path("/dev/zero"), "a device"), (tmp_path, "a directory")]:
        with pytest.raises(InputError, match=f"it is {kind}, and only a regular file is read"):
            load_pipeline_config(path)
    with pytest.raises(InputError, match="is no name that a file can have"):
        load_pipeline_config(tmp_path / "a\0b")
