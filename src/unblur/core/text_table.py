"""A table of plain text that fits a terminal: whole columns go, then rows become cards; no cell is ever cut."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TextIO

from rich.cells import cell_len

GAP = 2
WIDTH_IN_A_FILE = 140
"""Characters, where nobody's terminal is: a log, a pipe."""

CARDS_ONLY = 4
"""A table of fewer columns than this tells less than cards do."""


def text_width(file: TextIO) -> int:
    """Characters a line of `file` may have: COLUMNS, else the terminal's if it is one, else those of a file."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    return os.get_terminal_size(file.fileno()).columns or WIDTH_IN_A_FILE if file.isatty() else WIDTH_IN_A_FILE


def fitted(
    headings: Mapping[str, str],
    rows: Sequence[Mapping[str, str]],
    width: int,
    *,
    left: Collection[str] = (),
    dispensable: Sequence[str] = (),
    empty: Collection[str] = ("",),
) -> list[str]:
    """Lines of at most `width` characters, except where one cell alone is longer.

    `headings`: column -> heading, in their order; the first column names the row. `left`: columns of text, aligned
    left; the others are numbers. `dispensable`: columns that may go where there is no room, the first first; where
    that does not help, each row becomes a card with all its cells that are not in `empty`.
    """
    columns = list(headings)
    for gone, is_wrapped in [(None, False), *((column, True) for column in (None, *dispensable))]:
        columns = [column for column in columns if column != gone]
        heads = {c: _wrapped(headings[c]) if is_wrapped and c not in left else [headings[c]] for c in columns}
        wide = {c: max(cell_len(text) for text in [*heads[c], *(row[c] for row in rows)]) for c in columns}
        if len(columns) < min(CARDS_ONLY, len(headings)):
            break
        if sum(wide.values()) + GAP * (len(columns) - 1) <= width:
            return _table(heads, rows, wide, left)
    return _cards(headings, rows, empty)


def _wrapped(heading: str) -> list[str]:
    """A heading in lines: no longer than its longest word or 12 characters."""
    return textwrap.wrap(heading, max(12, *(len(word) for word in heading.split())), break_on_hyphens=False)


def _table(
    heads: Mapping[str, Sequence[str]],
    rows: Sequence[Mapping[str, str]],
    wide: Mapping[str, int],
    left: Collection[str],
) -> list[str]:
    columns = list(heads)
    depth = max(map(len, heads.values()))
    tops = [{c: ["", *[""] * (depth - 1), *heads[c]][k - depth] for c in columns} for k in range(depth)]
    lines = []
    for row in [*tops, *rows]:
        cells = []
        for column in columns:
            room = " " * (wide[column] - cell_len(row[column]))
            cells.append(row[column] + room if column in left else room + row[column])
        lines.append((" " * GAP).join(cells).rstrip())
    return lines


def _cards(headings: Mapping[str, str], rows: Sequence[Mapping[str, str]], empty: Collection[str]) -> list[str]:
    first, *others = headings
    wide = max((cell_len(headings[column]) for column in others), default=0)
    lines = []
    for row in rows:
        lines.append(row[first])
        lines += [
            f"  {headings[c]}{' ' * (wide - cell_len(headings[c]))}  {row[c]}" for c in others if row[c] not in empty
        ]
    return lines
