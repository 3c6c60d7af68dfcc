"""The one table: every flag is a key of the configuration, says so, and wins over the file."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from unblur.cli import app
from unblur.cli.door import Arguments
from unblur.cli.flags import TABLE, add_flags, keys_of, resolve, rows_of, tell_taken
from unblur.core.errors import InputError
from unblur.pipeline.config import PipelineConfig

STAGED = ("export", "build", "calibrate", "compare", "search", "speed", "run")


def annotation(key: str) -> Any:
    section, _, name = key.partition(".")
    table: Any = PipelineConfig.model_fields[section].annotation
    return table.model_fields[name].annotation


def literals(of: Any) -> set[Any]:
    """What a type allows, as far as it lists values."""
    if get_origin(of) is Literal:
        return set(get_args(of))
    return set().union(*(literals(one) for one in get_args(of)))


def test_every_row_sets_a_key_that_exists_and_offers_what_the_key_takes() -> None:
    assert {verb for row in TABLE for verb in row.verbs.split()} == set(STAGED) - {"run"}
    for row in TABLE:
        assert set(row.choices or ()) == (literals(annotation(row.key)) if row.value is None else set()), row.flag
        for cleared in row.clears:
            assert annotation(cleared)


@pytest.mark.parametrize("verb", STAGED)
def test_help_names_the_key_of_every_flag_and_set_lists_them(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module(f"unblur.cli.{app.VERBS[verb][0]}").main(["--help"])
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert {"--config", "--set"} <= set(re.findall(r"--[a-z-]+", text))
    for row in rows_of(verb):
        assert row.flag in text
        assert f"[{row.key}]" in text
    listed = text.partition("Flags here set ")[2]
    assert all(key in listed for key in keys_of(verb))


def resolved(verb: str, *typed: str) -> Any:
    parser = Arguments(f"unblur {verb}", "")
    add_flags(parser, verb)
    return resolve(parser.parse_args(typed), verb)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pipeline.toml").write_text(
        '[network]\ncheckpoint = "a.safetensors"\nchannel_order = "rgb"\n[graph]\nsizes = ["64x96", "32x32"]\n'
        '[frames]\nblurred = "b"\nsharp = "s"\n[build]\nprecisions = ["fp16", "int8"]\n'
    )
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    return tmp_path


def test_a_flag_wins_and_takes_what_belonged_to_the_value_before(project: Path) -> None:
    plain = resolved("export")
    assert plain.config.graph.sizes == ((64, 96), (32, 32))
    assert (plain.file, plain.origin("graph.sizes"), plain.origin("graph.pixels")) == (
        project / "pipeline.toml", "pipeline.toml", "default",
    )  # fmt: skip
    assert plain.config.paths.artifacts == project / "artifacts"
    typed = resolved("export", "--checkpoint", "mine.pth", "--size", "720p", "--pixels", "uint8")
    assert typed.config.graph.sizes == ((720, 1280),)
    assert typed.config.network.checkpoint == project / "deep/mine.pth", "of the working directory"
    assert typed.config.network.channel_order is None, "the file's is that of its own weights"
    assert [typed.origin(f"graph.{key}") for key in ("sizes", "pixels")] == ["--size", "--pixels"]
    old = resolved("export", "--height", "16", "--width", "48")
    assert old.config.graph.sizes == ((16, 48),)
    assert resolved("compare", "--frames", "other").config.frames.sharp is None
    assert resolved("compare", "--drawn", "2").config.frames.blurred is None
    assert resolved("build", "--fp16").config.build.precisions == ("fp16",)
    assert resolved("build", "--psnr-loss-db", "0", "--optimization-level", "0").config.build.psnr_loss_db == 0
    assert resolved("export", "--set", "graph.sizes=16x16").config.graph.sizes == ((16, 16),)
    assert resolved("export", "--set", "network.checkpoint=b.pth").config.network.checkpoint == project / "b.pth"
    with pytest.raises(InputError, match=r"graph.sizes = '64': .*write HEIGHTxWIDTH"):
        resolved("export", "--set", "graph.sizes='64'")
    (project / "pipeline.toml").write_text('[graph]\nsizes = ["64x96"]\nheight = 32')
    with pytest.raises(InputError, match="two spellings"):
        resolved("export")


@pytest.mark.parametrize(
    ("verb", "typed", "words"),
    [
        ("build", "--fp16 --bf16", "--fp16 and --bf16 exclude each other"),
        ("export", "--height 16", "go together"),
        ("export", "--size 16x16 --height 16 --width 16", "two spellings"),
        ("export", "--dynamic --size 16x16", "leave out --size"),
        ("compare", "--truth s", "--truth goes with --frames"),
        ("search", "--frames b --drawn 2", "exclude each other"),
    ],
)
def test_flags_that_do_not_go_together(verb: str, typed: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolved(verb, *typed.split())


class Lines:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_what_was_taken_is_told_with_its_origin(project: Path) -> None:
    told: Any = Lines()
    tell_taken(resolved("export", "--pixels", "uint8"), "export", told)
    lines = {line.split()[0]: line for line in told.notes}
    assert set(lines) == {*keys_of("export"), "paths.artifacts"} - {"graph.height", "graph.width"}
    assert re.fullmatch(r"graph\.sizes +64x96, 32x32 +\(pipeline\.toml\)", lines["graph.sizes"])
    assert lines["graph.pixels"].endswith("uint8  (--pixels)")
    assert lines["graph.opset"].endswith("20  (default)")


def test_outside_of_a_project_the_checkouts_own_is_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNBLUR_ARTIFACTS")
    found = resolved("export")
    assert (found.file, found.config.paths.artifacts) == (root / "pipeline.toml", root / "artifacts")
    monkeypatch.setenv("UNBLUR_ARTIFACTS", str(tmp_path / "mine"))
    assert resolved("export").config.paths.artifacts == tmp_path / "mine"
