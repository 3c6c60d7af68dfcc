"""The three files of a report: complete, whole, and the page needs nothing beside it."""

import base64
import hashlib
import io
import itertools
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from small_frames import save_frame

from unblur.cli.report_table import print_report
from unblur.compare.candidates import Candidate
from unblur.compare.comparison import compare_engines
from unblur.compare.judge.budgets import Budget
from unblur.compare.judge.verdict import judge
from unblur.compare.measure.frames import find_frames
from unblur.compare.report import Check, Report
from unblur.compare.tell.answer import answer
from unblur.compare.tell.junit import render_junit
from unblur.compare.tell.sentences import how_measured
from unblur.compare.tell.table import check_text
from unblur.compare.tell.write import render_markdown, render_page, write_report
from unblur.compare.timing import Ceilings, Peak, Rates
from unblur.core.errors import InputError, MissingRuntimeError
from unblur.core.markdown import escaped

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects references, text and tags, and holds that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def report(checkpoint, pictures, settings, faulty) -> Report:
    def missing(size):
        raise MissingRuntimeError("no such processor")

    engines = [
        faulty("off", lambda t: np.clip(t + 0.03, -0.5, 0.5)),
        Candidate("absent", missing),
        faulty("<script>alert(1)</script>", lambda t: t),
    ]
    budgets = {"*": Budget(fidelity_db_min=60), "off": Budget(latency_ms_max=1e4), "absent": Budget(fidelity_db_min=0)}
    (pictures[0] / "bad.png").write_bytes(b"?")
    (pictures[1] / "bad.png").write_bytes(b"?")
    settings = replace(settings, budgets=budgets, skip_missing=True)
    return compare_engines(checkpoint, engines, find_frames(*pictures), settings)


def test_the_page_is_self_contained(report: Report) -> None:
    text = render_page(report)
    page = Page(text)
    assert "link" not in page.tags
    assert page.references
    assert all(re.match("data:image/(png|jpeg);base64,", reference) for reference in page.references)
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text, "whatever is forgotten here, the browser loads nothing"


def test_the_only_script_is_the_one_that_the_page_permits(report: Report) -> None:
    """A script that a name smuggles in would have another digest: the browser refuses it even unescaped."""
    text = render_page(report)
    (script,) = re.findall("<script[^>]*>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert not re.search(r"<[^>]+ on\w+=", text)
    assert "<script" not in render_page(report.model_copy(update={"strips": ()})), "nothing to slide"


def test_the_page_can_be_read_by_keyboard_and_screen_reader(report: Report) -> None:
    text = render_page(report)
    headings = [int(level) for level in re.findall(r"<h(\d)", text)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall("<img[^>]*>", text))
    assert all("scope=" in cell for cell in re.findall("<th[ >][^>]*>", text))
    assert all("aria-label=" in one for one in re.findall("<input[^>]*>", text))
    drawings = re.findall("<svg[^>]*>", text)
    assert drawings
    assert all("aria-label=" in one or "aria-hidden=" in one for one in drawings)
    assert all("tabindex" in one for one in re.findall('<div class="[^"]*scroll[^>]*>', text))


def test_a_page_of_many_pictures_stays_under_6_mb_and_says_what_it_leaves_out(report: Report) -> None:
    strip = report.strips[0]
    big = strip.crops[0].model_copy(update={"uri": "data:image/png;base64," + "A" * 900_000})
    many = report.model_copy(update={"strips": (strip.model_copy(update={"crops": (big,), "differences": ()}),) * 9})
    text = render_page(many)
    assert 4e6 < len(text.encode()) < 6e6
    assert f"{9 - text.count(big.uri)} more places are left out" in text
    assert "left out" not in render_page(report)


def test_the_page_shows_what_the_network_looks_at_where_it_matters(report: Report) -> None:
    one, other = report.attention
    assert one.frame == report.worst[0].frame
    assert re.fullmatch(r"the least fidelity: [\d.]+ dB of off", one.reason)
    gains = {
        frame.frame: frame.quality.psnr_db - before.psnr_db
        for frame, before in zip(report.engines[0].frames, report.blurred, strict=True)
    }
    assert other.frame == min(gains, key=gains.get)
    assert other.reason == f"the least that the network gains: {gains[other.frame]:+.2f} dB"
    text = render_page(report)
    words = " ".join(Page(text).words)
    for shown in (one, other):
        assert [picture.caption for picture in shown.pictures] == ["blurred", "block 1", "block 1, refined"]
        for picture in shown.pictures:
            assert f'src="{picture.uri}" alt="{shown.frame}: {picture.caption}"' in text
            assert picture.note in words
    many = report.model_copy(update={"attention": (one.model_copy(update={"pictures": one.pictures * 2000}),)})
    assert "What the network looks at" not in render_page(many)
    assert "1 more places are left out" in render_page(many)


def test_the_page_shows_every_engine_sample_and_failure(report: Report) -> None:
    text = render_page(report)
    words = " ".join(Page(text).words)
    for name in ("torch", "off", "absent", "<script>alert(1)</script>", "(blurred input)"):
        assert name in words
    assert "2 of 4 budgets broken" in words
    assert "off: fidelity_db_min 60: measured 30." in words
    assert "no such processor" in words
    assert "bad.png" in words
    assert report.latency is not None
    measured = [sample for sample in report.latency.samples if not sample.warmup]
    assert text.count('class="dot"') == len(measured)
    strips = text.partition('class="card plots"')[2]
    assert strips.count('class="limit"') == 1


def test_the_page_is_well_formed_without_truth_latency_or_budgets(checkpoint, pictures, settings, faulty) -> None:
    found = find_frames(pictures[0])
    bare = compare_engines(checkpoint, [faulty("x", lambda t: t)], found, replace(settings, protocol=None))
    words = " ".join(Page(render_page(bare)).words)
    assert "No budget was stated" in words
    assert "SSIM (" not in words
    assert "median (ms)" not in words
    assert "| engine | verdict | precision | fidelity" in render_markdown(bare)
    assert "PSNR (dB)" not in render_markdown(bare)


def test_markdown_has_the_same_rows(report: Report) -> None:
    lines = render_markdown(report).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in table[2:]] == [
        "(blurred input)",
        "torch",
        "off",
        "absent",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
    ]
    assert len({row.count("|") for row in table}) == 1
    assert any("absent: no such processor" in line for line in lines)
    assert "## Broken budgets" in lines


def test_a_warning_is_in_every_file_and_on_the_console_and_nothing_is_green_beside_it(
    checkpoint, pictures, settings, faulty, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = replace(settings, protocol=None, budgets={"*": Budget(fidelity_db_min=1)})
    engine = faulty("dark", lambda t: np.clip(t - 0.4, -0.5, 0.5))
    for frames, warned in ((find_frames(*pictures), True), (find_frames(pictures[0]), False)):
        report = compare_engines(checkpoint, [engine], frames, limits)
        written = write_report(report, tmp_path / str(warned))
        print_report(report)
        page = written.html.read_text()
        told = [written.json.read_text(), written.markdown.read_text(), page, capsys.readouterr().out]
        assert [text.count("dark makes pictures worse") for text in told] == [int(warned)] * 4
        assert ('class="verdict kept"' in page) is not warned
        assert ("may ship" in page) is not warned
        report.enforce()


def test_a_broken_budget_never_reads_as_if_it_were_kept() -> None:
    for limit, measured, told in ((60, 59.9996, "59.9996"), (0.05, 0.050001, "0.050001"), (30, 30, "30"),
                                  (30, 25.123456, "25.12"), (30, float("inf"), "inf")):  # fmt: skip
        check = Check(budget="b", limit=limit, measured=measured, kept=False)
        assert check.told == told
        assert check_text(check) == f"b {limit:g}: measured {told}"


def test_the_peak_of_fidelity_is_the_range_of_the_references_tensors(report: Report) -> None:
    def peak_of(span: float) -> str:
        reference = next(engine for engine in report.engines if engine.is_reference)
        contract = reference.contract and replace(reference.contract, low=0.0, high=span)
        engines = [e.model_copy(update={"contract": contract}) if e.is_reference else e for e in report.engines]
        return how_measured(report.model_copy(update={"engines": tuple(engines)}))[0]

    assert "float tensors with peak 255.0, or 8-bit" in peak_of(255.0)
    assert "float tensors with peak 1.0, or 8-bit" in peak_of(1.0)


def test_markdown_begins_with_the_answer_and_fits_a_ci_summary(report: Report) -> None:
    lines = render_markdown(report).splitlines()
    told = answer(report)
    assert told.best == "<script>alert(1)</script>"
    assert lines[2] == f"**{escaped(told.sentence)}**"
    assert lines[4].startswith("2 of 4 budgets broken. ")
    assert f"{escaped(told.best)}: {escaped(told.cost)}" in lines[:12]
    assert re.search(r" times as fast as torch; | no difference to torch; ", told.cost)  # the fakes are as fast
    many = report.model_copy(update={"failures": report.failures * 20_000})
    text = render_markdown(many)
    assert len(text.encode()) < 2**20
    assert "- and 19950 more, see report.json" in text


def test_junit_has_a_case_for_each_engine_and_budget(report: Report) -> None:
    root = ElementTree.fromstring(render_junit(report))
    cases = {(case.get("classname"), case.get("name")): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases == {
        ("off", "fidelity_db_min 60"): ["failure"],
        ("off", "latency_ms_max 10000"): [],
        ("absent", "fidelity_db_min 0"): ["failure"],
        ("<script>alert(1)</script>", "fidelity_db_min 60"): [],
        ("every engine", "frame bad.png"): ["error"],
    }
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "2", "errors": "1", "skipped": "0",
    }  # fmt: skip
    told = {failure.get("message") for failure in root.iter("failure")}
    assert "fidelity_db_min 0: measured nothing (no such processor)" in told
    bare = ElementTree.fromstring(render_junit(judge(report, {})))
    assert bare.get("skipped") == "3", "an engine without a budget is skipped, the reference is no case"


def test_names_of_any_bytes_are_shown_and_never_obeyed(checkpoint, pictures, settings, faulty, tmp_path: Path) -> None:
    """A name in Latin-1, and one with a terminal's escape, HTML and a table's border in it; one picture is damaged."""
    hostile = "\x1b[31m<img src=x onerror=alert(1)>|b.png"
    latin = os.fsdecode(b"gr\xfc\xdfe.png")
    for folder in pictures:
        (folder / "a.png").rename(folder / latin)
        (folder / hostile).write_bytes(b"?")
    engine = faulty(f"on {latin}", lambda t: t * 0)
    report = compare_engines(checkpoint, [engine], find_frames(*pictures), settings)
    written = write_report(report, tmp_path / "report")
    values = json.loads(written.json.read_text())
    assert {frame["frame"] for frame in values["engines"][0]["frames"]} == {"gr\\xfc\\xdfe.png", "night/b.png"}
    (failure,) = values["failures"]
    assert failure["frame"] == "\\x1b[31m<img src=x onerror=alert(1)>|b.png"
    for file in (written.json, written.markdown, written.junit, written.html):
        assert "\x1b" not in file.read_text("utf-8")
        assert str(pictures[0].parent) not in file.read_text("utf-8")
    for file in (written.markdown, written.junit, written.html):
        assert "<img src=x" not in file.read_text("utf-8")
        assert "&lt;img src=x onerror=alert(1)&gt;" in file.read_text("utf-8")
    print_report(report)
    with pytest.raises(InputError, match="1 comparison") as caught:
        report.enforce()
    assert "\x1b" not in str(caught.value)


def test_the_worst_pictures_and_engines_beside_each_other(checkpoint, pictures, settings, faulty, tmp_path) -> None:
    """Twelve frames; "off" errs more and more, "near" as little on each, "same" not at all."""
    for seed in range(12):
        for folder, noise in zip(pictures, (12, 0), strict=True):
            save_frame(folder / f"{seed:02}.png", seed=seed, noise=noise)
    runs = {"off": 0}

    def worse(tensor):
        runs["off"] += 1
        return np.clip(tensor + 0.01 * runs["off"], -0.5, 0.5)

    engines = [
        faulty("off", worse),
        faulty("near", lambda t: np.clip(t + 0.001, -0.5, 0.5)),
        faulty("same", lambda t: t),
    ]
    report = compare_engines(checkpoint, engines, find_frames(*pictures), replace(settings, protocol=None, pictures=2))
    names = [frame.frame for frame in report.engines[0].frames]
    assert [(worst.frame, worst.engine) for worst in report.worst] == [(name, "off") for name in names[:-11:-1]]
    shown = [strip.frame for strip in report.strips]
    assert set(names[:-11:-1]) <= set(shown)
    assert all(
        {crop.caption for crop in strip.crops} >= {"blurred", "torch", "off", "truth"} for strip in report.strips
    )
    by_name = {engine.name: engine for engine in report.engines}
    assert by_name["same"].identical == len(names) == 14
    assert by_name["torch"].identical == by_name["off"].identical == 0
    off = by_name["off"]
    assert off.loss_interval.low < off.psnr_loss_db < off.loss_interval.high
    assert off.loss_interval.value == pytest.approx(off.psnr_loss_db)
    assert off.psnr_interval.low < off.mean_quality.psnr_db < off.psnr_interval.high
    pairs = {frozenset((one.better, one.other)): one for one in report.differences}
    assert len(pairs) == 6
    assert pairs[frozenset(("torch", "same"))].is_none
    assert (pairs[frozenset(("torch", "off"))].better, pairs[frozenset(("torch", "off"))].is_none) == ("torch", False)
    text = " ".join(Page(render_page(report)).words)
    assert "The worst pictures" in text
    markdown = render_markdown(report)
    assert f"- {names[-1]} (off): fidelity " in markdown
    assert "torch and same: the same PSNR on each of 14 pictures" in markdown
    assert "Pictures that are the reference's to the last byte: same 14 of 14." in markdown
    file = io.StringIO()
    print_report(report, file)
    assert f"Worst picture: {names[-1]} (off): fidelity" in file.getvalue()


def test_five_files_are_written(report: Report, tmp_path: Path) -> None:
    written = write_report(report, tmp_path / "new" / "folder")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
        "report.xml",
        "results.csv",
    ]
    values = json.loads(written.json.read_text())
    assert {engine["name"] for engine in values["engines"]} >= {"torch", "off", "absent"}
    assert len(values["latency"]["samples"]) == len(report.latency.samples)
    assert values["machine"]["cpu"]
    assert values["versions"]["torch"]
    assert values["checkpoint_digest"] == report.checkpoint_digest
    assert "data:image" not in written.json.read_text()


def test_a_folder_that_cannot_be_written(report: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="folder"):
        write_report(report, tmp_path / "file")


def test_rates_and_whole_frames_are_told_everywhere(report: Report) -> None:
    rates = Rates(precision="f32", tera_per_s=0.125, share=0.5, gb_s=3.0, memory_share=0.25)
    peak = Peak(precision="f32", tera_per_s=0.25, by="convolution, OpenVINO")
    most = Ceilings(device="cpu", threads=2, peaks=(peak,), memory_gb_s=12.0, load=None)
    engines = tuple(e.model_copy(update={"rates": rates if e.name == "off" else None}) for e in report.engines)
    rated = report.model_copy(update={"engines": engines, "ceilings": (most,)})
    assert Report.model_validate(rated.to_json()).ceilings == (most,)
    markdown, page = render_markdown(rated), render_page(rated)
    assert "| off | f32 | 0.125 | 50% | 3 | 25% |" in markdown
    for text in (markdown, " ".join(Page(page).words)):
        assert "0.25 in f32 (convolution, OpenVINO) TOP/s" in text
        assert "memory 12 GB/s" in text
        assert "frame to frame (ms)" in text
        assert "a PNG of this size" in text
        assert "no copies to a device" in text
    assert "Of what this machine gives" not in render_page(report)


def test_a_report_of_before_whole_frames_has_no_column_of_them(report: Report) -> None:
    old = []
    for engine in report.engines:
        latency = engine.latency and engine.latency.model_copy(update={"end_to_end": None})
        old.append(engine.model_copy(update={"latency": latency}))
    assert "frame to frame" not in render_markdown(report.model_copy(update={"engines": tuple(old)})).lower()
