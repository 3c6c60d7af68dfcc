"""The one shell of every page that unblur writes: one look, one file, nothing from a network.

A page is a template that extends `core/page.html.jinja`. Whatever is put into it is escaped; the page's own
Content-Security-Policy forbids every load and every script but the shell's own, which stands only where a picture is to
be slid.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unblur.core.markdown import encodable

SLIDE = """
for (const one of document.querySelectorAll(".slider input"))
  one.addEventListener("input", () => one.parentElement.style.setProperty("--cut", one.value + "%"));
"""
"""The only script: a slider's value becomes the place where its two pictures meet."""


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: its place (percent or pixels, as the plot says) and its text."""

    at: float
    text: str


def render(template: str, title: str, environment: Mapping[str, object], **values: Any) -> str:
    """The page of a template (path inside the package). `environment`: what the footer lists, machine and versions."""
    shell = Environment(
        loader=PackageLoader("unblur", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    digest = base64.b64encode(hashlib.sha256(SLIDE.encode()).digest()).decode()
    page = shell.get_template(template).render(
        title=title, environment=environment, slide=SLIDE, slide_digest=digest, **values
    )
    return encodable(page)


def round_steps(longest: float, most: int = 5) -> list[float]:
    """Round numbers from 0 up to `longest` (above 0): 1, 2 or 5 times a power of ten apart, at most `most` steps."""
    power = 10.0**-9
    while True:
        for step in (power, 2 * power, 5 * power):
            if longest / step <= most:
                return [i * step for i in range(int(longest / step) + 1)]
        power *= 10
