"""The files of a search say what was found, and the page stands alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_search import GROUPS, Model

from unblur.calibration.search.page import SearchReport, write_search
from unblur.calibration.search.search import Budget, search


@pytest.fixture(scope="module")
def report() -> SearchReport:
    model = Model()
    result = search(GROUPS, (8, 32), model.score, model.price, Budget(0.02))
    return SearchReport(
        result, "ms a frame", "at most 0.02 dB of PSNR lost", {"form": "openvino", "frames": "<8>"}, ("It runs.",)
    )


def test_three_files_hold_the_same_choice(report: SearchReport, tmp_path: Path) -> None:
    page = write_search(report, tmp_path)
    chosen = report.result.chosen
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["points"][values["chosen"] - 1]["assignment"] == chosen.assignment
    assert len(values["points"]) == len(report.result.points)
    assert [point["number"] for point in values["points"]] == list(range(1, len(values["points"]) + 1))
    by_cost = [values["points"][number - 1]["cost"] for number in values["front"]]
    assert by_cost == sorted(by_cost)
    assert set(values["points"][values["widest"] - 1]["assignment"].values()) == {32}
    markdown = (tmp_path / "report.md").read_text()
    html = page.read_text()
    for text in (markdown, html):
        assert f"{chosen.share:.0%} of the multiply-accumulates" in text
        assert "BAM_3.c" in text
        assert "It runs." in text
    assert sum("chosen" in line.rpartition("|")[0].rpartition("|")[2] for line in markdown.splitlines()) == 2


def test_the_pictures_are_whole_and_nothing_lies_beside_the_page(report: SearchReport, tmp_path: Path) -> None:
    html = write_search(report, tmp_path).read_text()
    front, bars = (ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.S))
    rects = bars.findall("rect")
    assert len(rects) == len(GROUPS)
    heights = {rect.find("title").text.partition(":")[0]: float(rect.get("height")) for rect in rects}  # type: ignore[union-attr,arg-type]
    assert max(heights, key=heights.__getitem__) == "BAM_3.c"  # the noisiest is the tallest
    rings = [circle for circle in front.findall("circle") if circle.get("class") == "chosen"]
    assert len(rings) == 1
    assert len(front.findall("circle")) == len(report.result.points) + 1
    assert "<script" not in html
    assert not re.search("<(link|img)|url[(]|https?:", html)
    assert "&lt;8&gt;" in html
