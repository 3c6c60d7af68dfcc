"""Frames and their sharp partners."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from small_frames import save_frame

from unblur.cli.report_table import print_report
from unblur.compare.comparison import compare_engines
from unblur.compare.measure.frames import FrameFile, find_frames
from unblur.compare.tell.page import render_page
from unblur.compare.tell.sentences import how_measured
from unblur.core.console import ConsoleProgress, Silent
from unblur.core.errors import InputError
from unblur.images.files import read_picture
from unblur.metrics.alignment import aligned_quality


def test_partners_have_the_same_relative_path_and_stem(pictures: tuple[Path, Path]) -> None:
    blurred, sharp = pictures
    (sharp / "a.png").rename(sharp / "a.tif.png")
    save_frame(sharp / "a.webp")
    found = find_frames(blurred, sharp)
    assert [(frame.name, frame.truth) for frame in found] == [
        ("a.png", sharp / "a.webp"),
        ("night/b.png", sharp / "night" / "b.png"),
    ]


def test_one_file_and_its_truth(pictures: tuple[Path, Path]) -> None:
    save_frame(pictures[1] / "night" / "b.png")
    found = find_frames(pictures[0] / "a.png", pictures[1] / "night" / "b.png")
    assert [(frame.name, frame.truth) for frame in found] == [("a.png", pictures[1] / "night" / "b.png")]


def test_a_missing_partner_is_named(pictures: tuple[Path, Path]) -> None:
    (pictures[1] / "night" / "b.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 frames have no sharp partner in .*: night/b\.png"):
        find_frames(*pictures)


def test_two_partners_are_one_too_many(pictures: tuple[Path, Path]) -> None:
    save_frame(pictures[1] / "a.jpg")
    with pytest.raises(InputError, match=r"a\.png has more than one truth"):
        find_frames(*pictures)


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No picture in"):
        find_frames(tmp_path)
    with pytest.raises(InputError, match="There is no "):
        find_frames(tmp_path / "none")


def test_a_pair_of_two_sizes_names_both(pictures: tuple[Path, Path]) -> None:
    save_frame(pictures[1] / "a.png", 18, 30)
    with pytest.raises(InputError, match=r"1 of 2 pairs .*a\.png is 20x24 and its truth 18x30\. .*nothing was"):
        find_frames(*pictures)
    frame = FrameFile("a.png", pictures[0] / "a.png", pictures[1] / "a.png")
    with pytest.raises(InputError, match=r"20x24 and 18x30 \(height x width\)"):
        frame.read()


def test_a_frame_is_not_its_own_truth_under_any_name(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    blurred, sharp = pictures
    with pytest.raises(InputError, match=r"own truth: .* the same file.*gopro:FOLDER"):
        find_frames(blurred, blurred)
    (sharp / "a.png").unlink()
    (sharp / "a.png").hardlink_to(blurred / "a.png")
    with pytest.raises(InputError, match="own truth"):
        find_frames(blurred, sharp)
    (tmp_path / "link").symlink_to(blurred, target_is_directory=True)
    with pytest.raises(InputError, match="own truth"):
        find_frames(blurred / "a.png", tmp_path / "link" / "a.png")


def test_one_truth_for_two_frames(pictures: tuple[Path, Path]) -> None:
    save_frame(pictures[0] / "a.jpg")
    with pytest.raises(InputError, match=r"sharp.a\.png belongs to two pairs, of .*a\.jpg and of .*a\.png"):
        find_frames(*pictures)


def test_sharp_pictures_without_a_frame_are_named(
    pictures: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures[0] / "a.png").unlink()
    assert [frame.name for frame in find_frames(*pictures, ConsoleProgress())] == ["night/b.png"]
    assert "1 sharp picture(s)" in capsys.readouterr().err


def test_two_frames_under_one_printable_name(tmp_path: Path) -> None:
    for name in (b"\xfc.png", b"\\xfc.png"):
        save_frame(tmp_path / os.fsdecode(name))
    with pytest.raises(InputError, match=r"Two frames are called \\xfc\.png"):
        find_frames(tmp_path)


def test_a_data_set_brings_its_truth(tmp_path: Path) -> None:
    for kind in ("blur", "sharp"):
        save_frame(tmp_path / "test" / "s" / kind / "1.png")
    (frame,) = find_frames(f"gopro:{tmp_path}")
    assert (frame.name, frame.truth) == ("test/s/blur/1.png", tmp_path / "test" / "s" / "sharp" / "1.png")
    with pytest.raises(InputError, match=r"leave --truth .* out"):
        find_frames(f"gopro:{tmp_path}", tmp_path)
    with pytest.raises(InputError, match=r"There is no .* \(frames\), did you mean 'gopro'"):
        find_frames(f"gorpo:{tmp_path}")


def test_a_report_on_realblur_says_that_nothing_was_aligned(
    checkpoint, settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unblur.compare.measure.frames.can_align", lambda: False)
    for name in ("gt", "blur"):
        save_frame(tmp_path / "s" / f"{name}.png")
    (tmp_path / "RealBlur_J_test_list.txt").write_text("s/gt.png s/blur.png\n")
    bare = replace(settings, protocol=None)
    report = compare_engines(checkpoint, [], find_frames(f"realblur:{tmp_path}"), bare)
    assert "not those of the papers" in " ".join(how_measured(report))
    assert report.engines[0].mean_quality.ssim_matlab is not None
    plain = compare_engines(checkpoint, [], find_frames(tmp_path / "s"), bare)
    assert "RealBlur" not in " ".join(how_measured(plain))


def test_realblur_is_aligned_where_opencv_is_and_a_frame_that_cannot_be_is_listed(
    checkpoint, settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2", reason="needs the package opencv-python-headless")
    for name in ("gt", "blur"):
        save_frame(tmp_path / "s" / f"{name}.png", 48, 64, noise=0 if name == "gt" else 12)
        Image.new("RGB", (64, 48)).save(tmp_path / "s" / f"black_{name}.png")
    (tmp_path / "RealBlur_R_test_list.txt").write_text("s/gt.png s/blur.png\ns/black_gt.png s/black_blur.png\n")
    report = compare_engines(checkpoint, [], find_frames(f"realblur:{tmp_path}"), replace(settings, protocol=None))
    assert "as its tables have it" in " ".join(how_measured(report))
    quality = report.blurred_quality
    assert quality.ssim_matlab is None
    frame, truth = (read_picture(tmp_path / "s" / f"{name}.png").frame for name in ("blur", "gt"))
    assert (quality.psnr_db, quality.ssim_per_channel) == aligned_quality(frame, truth)
    assert [failure.frame for failure in report.failures] == ["s/black_blur.png"]
    assert "cannot be aligned" in report.failures[0].reason
    monkeypatch.setenv("COLUMNS", "250")  # no heading is broken
    print_report(report)
    assert "SSIM (per channel)" in capsys.readouterr().out
    render_page(report)


def test_what_is_no_frame_is_named(tmp_path: Path) -> None:
    """A format that is not read, and a link elsewhere, beside a picture."""

    class Notes(Silent):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "photo.heic").write_bytes(b"")
    (tmp_path / "away.png").symlink_to(tmp_path / "nowhere.png")
    notes = Notes()
    assert [frame.name for frame in find_frames(tmp_path, None, notes)] == ["a.png"]
    assert len(notes.notes) == 2
    assert all(text.startswith("not looked at: ") for text in notes.notes)
    assert all(any(name in text for text in notes.notes) for name in ("photo.heic", "away.png"))
