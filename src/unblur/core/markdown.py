"""Text of others in Markdown and in files: shown as it is, never obeyed, always written."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from unblur.core.console import printable


def escaped(text: str) -> str:
    """Text that is no HTML, no border of a cell and no line of its own, whatever names stand in it."""
    return escape(printable(" ".join(text.splitlines())), quote=False).replace("|", "\\|")


def table_row(cells: Iterable[str]) -> str:
    """A row of a table, its cells escaped."""
    return "| " + " | ".join(escaped(cell) for cell in cells) + " |"


def encodable(text: str) -> str:
    """The same text, with what no encoding has (bytes of a file name that are no UTF-8) as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
