"""Configurations: the ones that ship, and every way to get one wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from unblur.core.config import check, read_toml
from unblur.core.errors import InputError
from unblur.training.config import Data, configuration_of, load_config

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


def test_the_configurations_that_ship_are_valid() -> None:
    for path in sorted(CONFIGS.glob("*.toml")):
        values = read_toml(path)
        config = check(configuration_of(values["network"]), values, str(path))
        assert config.iterations > 0
        if config.begin_with is None:  # the others go on from the checkpoint of another run, which is not in the tree
            assert load_config(path) is not None
    paper = load_config(CONFIGS / "banet.toml")
    assert [(s.crop_px, s.batch, s.first_lr, s.last_lr) for s in paper.stages] == [
        (256, 8, 1e-4, 1e-7),
        (512, 8, 1e-4, 1e-7),
    ]
    assert paper.settings["loss"] == {"charbonnier_eps": 1e-3, "fft_weight": 0.01}
    assert load_config(CONFIGS / "banet-plus.toml").network == "banet_plus"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("netwrok = 'banet'", "unknown key 'netwrok', did you mean 'network'"),
        ("save_evry = 3", "unknown key 'save_evry', did you mean 'save_every'"),
        ("seed = -1", "seed = -1: Input should be greater than or equal to 0"),
        ("[loss]\nfft_wieght = 1", "unknown key 'loss.fft_wieght', did you mean 'fft_weight'"),
        ("[data]\nsource = 'gopro'", "data.folder must name"),
        ("[data]\nsource = 'gorpo'", "data.source = 'gorpo'"),
        ("x = [", "is not TOML"),
    ],
)
def test_a_fault_is_named_with_its_cure(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"network = 'banet_nano'\nstages = [{{iterations = 1}}]\n{line}\n")
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_fault_inside_a_stage_names_the_stage(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("network = 'banet_nano'\nstages = [{iterations = 1}, {iteration = 4, crop_px = 15}]\n")
    with pytest.raises(InputError) as caught:
        load_config(path)
    text = str(caught.value)
    assert "unknown key 'stages.1.iteration', did you mean 'iterations'" in text
    assert "key 'stages.1.iterations' is missing" in text
    assert "stages.1.crop_px = 15" in text
    path.write_text("network = 'banet_nano'\nstages = [{iterations = 1}, {iterations = 4, crop_px = 31}]\n")
    with pytest.raises(InputError, match=r"stages.1.crop_px is 31; the network takes multiples of 2"):
        load_config(path)


def test_an_unknown_network_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("network = 'banet_nan'\nstages = [{iterations = 1}]\n")
    with pytest.raises(InputError, match="did you mean 'banet_nano'"):
        load_config(path)


def test_missing_files_and_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(InputError, match="is a directory"):
        load_config(tmp_path)


def test_a_folder_of_data_is_relative_to_its_configuration(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("network = 'banet'\nstages = [{iterations = 1}]\n[data]\nsource = 'gopro'\nfolder = 'GoPro'\n")
    assert load_config(path).data.folder == (tmp_path / "GoPro").resolve()


def test_the_digest_knows_what_decides_the_weights_and_nothing_else(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        path = tmp_path / "c.toml"
        path.write_text(text)
        return load_config(path).digest()

    base = "network = 'banet_nano'\nstages = [{iterations = 4}]\n"
    assert digest(base) == digest(base + "save_every = 7\n[data]\nworkers = 0\n[evaluation]\npairs = 1\n")
    changed = ["seed = 1\n", "start = 'identity'\n", "threads = 3\n", "[loss]\nfft_weight = 0.1\n",
               "[data]\nscenes = 3\n", "[optimiser]\nmax_norm = 1.0\n"]  # fmt: skip
    linear = base.replace("4}", "4, decay = 'linear'}")
    assert len({digest(base), digest(linear), *(digest(base + line) for line in changed)}) == len(changed) + 2


def test_the_digests_of_runs_that_have_begun_stay() -> None:
    """Else nobody could resume a run of weeks with a new version."""
    digest = load_config(CONFIGS / "banet.toml").model_copy(update={"data": Data()}).digest()
    assert digest == "6afb2d39bc843b74ae3cd8808e5a05d2f69c59de0895cf0d1df8d47c462430c0"


def test_a_run_that_begins_with_a_checkpoint_names_one_that_is_missing_and_knows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("network = 'banet_nano'\nstages = [{iterations = 1}]\nbegin_with = 'first.safetensors'\n")
    with pytest.raises(InputError, match=r"begin_with names .*first\.safetensors, which is no file"):
        load_config(path)
    (tmp_path / "first.safetensors").write_bytes(b"one")
    one = load_config(path).digest()
    (tmp_path / "first.safetensors").write_bytes(b"other")
    assert load_config(path).digest() != one
