"""What all pages share."""

from __future__ import annotations

import pytest

from unblur.core.page import render, round_steps


@pytest.mark.parametrize("longest", [0.0031, 0.7, 1.0, 9.99, 42.0, 1234.5])
def test_ticks_are_few_and_round(longest: float) -> None:
    found = round_steps(longest)
    assert 3 <= len(found) <= 6
    assert found[0] == 0
    assert found[-1] <= longest
    assert f"{found[1]:.0e}"[0] in "125"


def test_the_shell_alone_is_a_page_and_escapes_what_it_is_given() -> None:
    page = render("core/page.html.jinja", "<b>&", {"machine": "<i>", "name": "\udcfc"})
    assert page.startswith("<!doctype html>")
    assert "<title>unblur: &lt;b&gt;&amp;</title>" in page
    assert "<dd>&lt;i&gt;</dd>" in page
    assert "\\udcfc" in page
    assert "<script" not in page
    for look in ("prefers-color-scheme: dark", "@media print", "max-width: 620px", ":focus-visible"):
        assert look in page
