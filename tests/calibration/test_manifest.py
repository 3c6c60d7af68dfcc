"""Calibration sets: chosen to differ, the same every time, pinned, and never also the frames of evaluation."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unblur.calibration.choose import Measured, choose, measure
from unblur.calibration.collect import collect
from unblur.calibration.fingerprint import SAME_BITS, distance, fingerprint, same_picture
from unblur.calibration.manifest import load_manifest
from unblur.cli.collect_frames import main
from unblur.core.artefacts import write_sealed
from unblur.core.console import SILENT
from unblur.core.errors import InputError
from unblur.images.contract import Frame
from unblur.images.files import read_picture
from unblur.images.scenes import PHOTOGRAPHS, photograph

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/data/gopro_blurred"
CROP = (32, 48)


def photographs() -> dict[str, Frame]:
    names = [name for split in PHOTOGRAPHS.values() for name in split]
    found = {name: np.round(photograph(name) * 255).astype(np.uint8) for name in names}
    return found | {path.name: read_picture(path).frame for path in sorted(REAL.glob("*.png"))}


def reencoded(frame: Frame, quality: int, scale: float = 1.0) -> Frame:
    image = Image.fromarray(frame)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def test_a_picture_is_known_again_after_jpeg_and_resizing_and_no_other_is_taken_for_it() -> None:
    """Observed: the same at most 6 of 64 bits apart, different ones at least 22; the limit is 10."""
    prints = {}
    for name, frame in photographs().items():
        prints[name] = fingerprint(frame)
        for quality, scale in ((50, 1.0), (95, 1.0), (50, 0.9), (70, 1.1), (80, 0.5)):
            found = distance(prints[name], fingerprint(reencoded(frame, quality, scale)))
            assert found <= SAME_BITS - 4, (name, quality, scale)
    for a, b in itertools.combinations(prints, 2):
        assert distance(prints[a], prints[b]) >= SAME_BITS + 10, (a, b)


def test_measures_fall_with_blur_and_ignore_contrast() -> None:
    frame = np.round(photograph("astronaut.png") * 255).astype(np.uint8)
    brightness, sharp = measure(frame)
    small = Image.fromarray(frame).resize((128, 128), Image.Resampling.BOX).resize((512, 512), Image.Resampling.BICUBIC)
    assert measure(np.asarray(small))[1] < 0.5 * sharp
    faint = (frame // 2 + 40).astype(np.uint8)
    assert measure(faint)[1] == pytest.approx(sharp, rel=0.1)
    assert measure(faint)[0] == pytest.approx(brightness / 2 + 40 / 255, abs=0.01)
    assert measure(np.full((32, 32, 3), 7, np.uint8)) == (pytest.approx(7 / 255), 0.0)
    by_hand = np.zeros((3, 4, 3), np.uint8)
    by_hand[1, 1] = 100
    assert measure(by_hand)[1] == pytest.approx(np.var([400, -100]) / np.var([100.0] + 11 * [0]))


def candidates(seed: int = 0, scenes: int = 4, each: int = 12) -> list[Measured]:
    rng = np.random.default_rng(seed)
    return [
        Measured(f"{s}/{k}", f"{s}", float(rng.uniform()), float(rng.exponential()))
        for s in range(scenes)
        for k in range(each)
    ]


def test_choice_is_spread_over_scenes_and_measures() -> None:
    found = candidates()
    chosen = [found[k] for k in choose(found, 12)]
    assert [sum(c.scene == s for c in chosen) for s in "0123"] == [3, 3, 3, 3]
    for name in ("brightness", "sharpness"):
        everything, kept = (np.array([getattr(c, name) for c in group]) for group in (found, chosen))
        ranks = np.searchsorted(np.sort(everything), kept) / len(everything)
        assert ranks.min() < 0.15
        assert ranks.max() > 0.85
        assert np.diff(np.sort(ranks)).max() < 0.4


def test_choice_depends_on_nothing_but_the_candidates() -> None:
    found = candidates()
    names = [found[k].name for k in choose(found, 10)]
    turned = found[::-1]
    assert [turned[k].name for k in choose(turned, 10)] == names
    assert names[:6] == [found[k].name for k in choose(found, 6)]
    same = [Measured(str(k), "s", 0.5, 0.5) for k in (3, 1, 2)]
    assert [same[k].name for k in choose(same, 3)] == ["1", "2", "3"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Photographs in two scenes."""
    for k, (name, frame) in enumerate(list(photographs().items())[:8]):
        path = tmp_path / "pictures" / f"scene{k % 2}" / f"{Path(name).stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).resize((96, 64)).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def manifest(pictures: Path, tmp_path: Path) -> Path:
    path = tmp_path / "lists" / "set.toml"
    collect([str(pictures)], 4, CROP, path)
    return path


def test_a_manifest_gives_its_crops(manifest: Path, pictures: Path) -> None:
    loaded = load_manifest(manifest)
    assert len(loaded) == 4
    assert loaded.size == CROP
    assert sorted(entry.scene for entry in loaded.entries) == ["pictures/scene0"] * 2 + ["pictures/scene1"] * 2
    for entry, frame in zip(loaded.entries, loaded, strict=True):
        whole = read_picture((manifest.parent / str(entry.path)).resolve()).frame
        crop = entry.crop
        assert np.array_equal(frame, whole[crop.top : crop.top + 32, crop.left : crop.left + 48])
        assert measure(frame) == (pytest.approx(entry.brightness, abs=1e-6), pytest.approx(entry.sharpness, abs=1e-6))
    assert len({(e.crop.top, e.crop.left) for e in loaded.entries}) > 2, "crops do not all lie at one place"
    assert str(pictures.parent) not in manifest.read_text(), "no machine's paths"


def test_collecting_twice_gives_the_same_file(manifest: Path, pictures: Path) -> None:
    before = manifest.read_bytes()
    collect([str(pictures)], 4, CROP, manifest)
    assert manifest.read_bytes() == before


def test_a_picture_that_changes_while_it_is_read_is_pinned_by_the_bytes_that_were_seen(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def swap(self: Path) -> bytes:
        data = read(self)
        if self.suffix == ".png":
            Image.new("RGB", (96, 64)).save(self)
        return data

    before = {sha256(path.read_bytes()).hexdigest() for path in pictures.rglob("*.png")}
    monkeypatch.setattr(Path, "read_bytes", swap)
    entries, _ = collect([str(pictures)], 4, CROP, tmp_path / "set.toml")
    assert {entry.sha256 for entry in entries} <= before


def test_what_is_not_looked_at_is_named(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(SILENT, "note", said.append, raising=False)
    (pictures / "scene0/phone.heic").touch()
    (tmp_path / "held").mkdir()
    Image.new("RGB", (96, 64)).save(tmp_path / "held/flat.png")
    (tmp_path / "held/raw.dng").touch()
    collect([str(pictures)], 4, CROP, tmp_path / "set.toml", not_in=[tmp_path / "held"], progress=SILENT)
    assert [line.split(" is ")[0] for line in said] == [
        f"not looked at: {pictures / 'scene0/phone.heic'}",
        f"not looked at: {tmp_path / 'held/raw.dng'}",
    ]


def test_the_digest_is_of_the_pixels(manifest: Path, tmp_path: Path) -> None:
    digest = load_manifest(manifest).digest
    text = manifest.read_text()
    variants = {
        "another crop": text.replace("height = 32", "height = 30", 1),
        "another order": text.split("\n[[frames]]")[0] + "".join(
            f"\n[[frames]]{part}\n" for part in reversed([p.rstrip("\n") for p in text.split("\n[[frames]]")[1:]])
        ),
        "an overlap": text.replace("overlaps = []", 'overlaps = ["a is b"]'),
    }  # fmt: skip
    digests = {digest}
    for name, changed in variants.items():
        assert changed != text, name
        manifest.write_text(changed)
        digests.add(load_manifest(manifest).digest)
    assert len(digests) == 4
    manifest.write_text(text.replace("scene0", "elsewhere").replace("pictures/elsewhere/", "pictures/scene0/"))
    assert load_manifest(manifest).digest == digest, "a scene's name changes no pixel"


def test_what_is_not_as_it_was_is_refused(manifest: Path) -> None:
    entry = load_manifest(manifest).entries[1]
    text, file = manifest.read_text(), (manifest.parent / str(entry.path)).resolve()
    original = file.read_bytes()
    loaded = load_manifest(manifest)

    file.write_bytes(original + b"x")
    with pytest.raises(InputError, match="has changed since it was chosen"):
        load_manifest(manifest)
    with pytest.raises(InputError, match="has changed since it was chosen"):
        list(loaded)
    file.unlink()
    with pytest.raises(InputError, match="cannot be opened"):
        load_manifest(manifest)
    file.write_bytes(original)

    header, *frames = text.split("[[frames]]")
    for changed, words in [
        (text.replace("height = 32", "height = 65"), "does not fit into its 64x96"),
        (text.replace("sharpness", "sharpnes"), "did you mean 'sharpness'"),
        (text.replace("format = 1", "format = 2"), "format 2"),
        (text.replace("format = 1", ""), "'format' is missing"),
        (header, "has 0 frame"),
        (header + "[[frames]]" + frames[0], "has 1 frame"),
        (text.replace("sha256 =", "# sha256 ="), "either path and sha256"),
        (text[:-40], "not TOML"),
    ]:
        manifest.write_text(changed)
        with pytest.raises(InputError, match=words):
            load_manifest(manifest)
    manifest.write_text(text.replace("height = 32", "height = 30", 1))
    with pytest.raises(InputError, match="30x48, 32x48"):
        _ = load_manifest(manifest).size


def test_drawn_frames_are_pinned_by_their_generator(tmp_path: Path) -> None:
    path = tmp_path / "drawn.toml"
    collect(["synthetic:3"], 2, (32, 32), path)
    kept = tmp_path / "kept"
    frames = list(load_manifest(path, kept))
    assert len(list(kept.iterdir())) == 2
    assert all(np.array_equal(a, b) for a, b in zip(frames, load_manifest(path), strict=True))
    text = path.read_text()
    path.write_text(text.replace("generator = 1", "generator = 0"))
    with pytest.raises(InputError, match="drawn by generator 0"):
        load_manifest(path)
    path.write_text(text)
    stored = sorted(kept.iterdir())[0]
    good = stored.read_bytes()
    with Image.open(stored) as picture:  # a person can still look at it
        assert any(np.array_equal(np.asarray(picture), frame) for frame in frames)
    for damaged in (good[: len(good) // 2], b"", bytes([good[0] ^ 1]) + good[1:], good[:-60] + b"x" + good[-59:],
                    good + b"x", good[:-32]):  # fmt: skip
        stored.write_bytes(damaged)
        assert all(np.array_equal(a, b) for a, b in zip(frames, load_manifest(path, kept), strict=True))
        assert stored.read_bytes() == good
    red = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(red, "PNG")
    write_sealed(stored, red.getvalue())
    with pytest.raises(InputError, match="comes out differently"):
        load_manifest(path, kept)


def test_a_picture_of_the_evaluation_set_is_refused_under_any_name(
    pictures: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    Image.open(pictures / "scene0" / "astronaut.png").resize((90, 60)).save(evaluation / "other.jpg", quality=60)
    arguments = [str(pictures), "--count=8", "--crop=32x48", "--output", str(tmp_path / "set.toml")]
    assert main([*arguments, "--not-in", str(evaluation)]) == 2
    error = capsys.readouterr().err
    assert "astronaut.png is evaluation/other.jpg" in error
    assert "--allow-overlap" in error
    assert not (tmp_path / "set.toml").exists()
    assert main([*arguments, "--not-in", str(manifest)]) == 2
    assert "of set.toml" in capsys.readouterr().err

    assert main([*arguments, "--not-in", str(evaluation), "--allow-overlap"]) == 0
    assert "also in the evaluation set: " in capsys.readouterr().out
    (told,) = load_manifest(tmp_path / "set.toml").overlaps
    assert told == "pictures/scene0/astronaut.png is evaluation/other.jpg"
    assert main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [frame["crop"] for frame in figures["frames"]] == [
        entry.crop.model_dump() for entry in load_manifest(tmp_path / "set.toml").entries
    ]
    assert figures["overlaps"] == []


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real photographs beside the checkout")
def test_real_frames_and_a_gopro_layout(tmp_path: Path) -> None:
    evaluation = REAL.parent / "gopro"
    entries, overlaps = collect([str(REAL)], 3, (256, 256), tmp_path / "real.toml", not_in=[evaluation])
    assert (len(entries), overlaps) == (3, ())
    with pytest.raises(InputError, match="there are 1"):  # the layout has one pair
        collect([f"gopro:{evaluation / 'test'}"], 2, (256, 256), tmp_path / "gopro.toml")


def test_faults_of_collecting(pictures: Path, tmp_path: Path) -> None:
    def gather(source: str = str(pictures), count: int = 4, crop: tuple[int, int] = CROP, not_in: str = "") -> None:
        collect([source], count, crop, tmp_path / "x.toml", not_in=[Path(not_in)] if not_in else [])

    (tmp_path / "empty").mkdir()
    for faulty, words in [
        (lambda: gather(count=1), "take 16 or more"),
        (lambda: gather(count=9), "there are 8"),
        (lambda: gather(crop=(65, 48)), "is 64x96, smaller than the crop 65x48"),
        (lambda: gather(source="nowhere"), "is no folder"),
        (lambda: gather(source="synthetic:x"), "whole number"),
        (lambda: gather(source=f"gopro:{pictures}"), "No gopro pair"),
        (lambda: gather(source=str(tmp_path / "empty")), "No picture in"),
        (lambda: gather(not_in=str(tmp_path / "empty")), "nothing could be held against it"),
        (lambda: gather(not_in=str(tmp_path / "none.toml")), "does not exist"),
    ]:
        with pytest.raises(InputError, match=words):
            faulty()
    assert not (tmp_path / "x.toml").exists()


def test_fingerprints_of_flat_pictures_are_one() -> None:
    black, white = (fingerprint(np.full((40, 50, 3), level, np.uint8)) for level in (0, 255))
    assert same_picture(black, black)
    assert 0 <= white < 2**64


PINNED = """format = 1
{}
[[frames]]
crop = {{ height = 16, width = {}, top = 0, left = 0 }}
scene = "a"
brightness = 0.5
sharpness = 0.5
fingerprint = "00000000000000aa"
{}
"""


@pytest.mark.parametrize(
    ("width", "source", "words"),
    [
        (32, f'path = "/dev/zero"\nsha256 = "{"a" * 64}"', "/dev/zero cannot be opened: it is a device"),
        (32, f'path = "pipe"\nsha256 = "{"a" * 64}"', "pipe cannot be opened: it is a pipe"),
        (32, f'path = "."\nsha256 = "{"a" * 64}"', "it is a directory"),
        (32, f'path = "a\\u0000b"\nsha256 = "{"a" * 64}"', "has a NUL character"),
        (32, f'path = "{"x" * 5000}"\nsha256 = "{"a" * 64}"', "cannot be opened"),
        (1_000_000, "seed = 1\ngenerator = 1", "width = 1000000"),
        (32, f"seed = {10**30}\ngenerator = 1", "seed = 1000000000000000000000000000000"),
        (32, "seed = 1\ngenerator = -7", "was drawn by generator -7"),
    ],
)
def test_frames_that_nobody_means_are_refused_at_once(tmp_path: Path, width: int, source: str, words: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    one = PINNED.format("", width, source)
    path = tmp_path / "manifest.toml"
    path.write_text(one + one.replace("format = 1\n", ""))
    with pytest.raises(InputError, match=re.escape(words)):
        load_manifest(path)
