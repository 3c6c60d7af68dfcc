"""The pages' script and policy in a real browser, where there is one."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from unblur.core.page import SLIDE, render

BROWSER = next(
    (found for name in ("chromium", "google-chrome", "chromium-browser") if (found := shutil.which(name))), None
)


def shown(page: str, folder: Path) -> tuple[str, str]:
    """The document as the browser has it after the scripts, and what it said on its console."""
    assert BROWSER
    (folder / "page.html").write_text(page)
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command = [BROWSER, *flags, f"--user-data-dir={folder / 'profile'}", (folder / "page.html").as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return result.stdout, "\n".join(line for line in result.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
def test_a_slider_moves_and_no_other_script_runs(tmp_path: Path) -> None:
    move = 'const one = document.querySelector("input"); one.value = 80; one.dispatchEvent(new Event("input"));'
    script = SLIDE + move
    digest, mine = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in (SLIDE, script))
    page = render("core/page.html.jinja", "slider", {})
    body = f'<div class="slider"><input type="range" min="0" max="100" value="50"></div><script>{script}</script>'
    smuggled = "<script>document.title = 'smuggled'</script><img src='http://127.0.0.1:9/x.png'>"
    document, console = shown(page.replace(digest, mine).replace("</main>", body + smuggled + "</main>"), tmp_path)
    assert '<div class="slider" style="--cut: 80%;">' in document
    assert "<title>unblur: slider</title>" in document
    assert console.count("Content Security Policy") == 2, console
