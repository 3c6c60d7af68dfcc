"""Tables of plain text fit the width, and cut nothing."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from unblur.core.text_table import fitted, text_width

HEADINGS = {
    "name": "engine",
    "verdict": "verdict",
    "db": "fidelity, worst frame (dB)",
    "ms": "median (ms)",
    "x": "95% interval",
}
ROWS = [
    {"name": "onnxruntime-int8", "verdict": "no budget", "db": "54.3", "ms": "1234567.8", "x": "10.97–11.23"},
    {"name": "漢字", "verdict": "", "db": "∞", "ms": "5", "x": "–"},
]


def lines(width: int, dispensable: tuple[str, ...] = ("x", "ms")) -> list[str]:
    return fitted(HEADINGS, ROWS, width, left=("name", "verdict"), dispensable=dispensable)


def test_a_wide_table_has_every_column_in_line() -> None:
    table = lines(120)
    assert len({len(line) for line in table[:-1]}) <= 3, "right-aligned numbers end together"
    assert table[-2].split() == ["onnxruntime-int8", "no", "budget", "54.3", "1234567.8", "10.97–11.23"]
    assert table[-2].index("54.3") + 4 == table[-1].index("∞") + 1 + 2, "two cells wide is each of the two characters"


@pytest.mark.parametrize("width", range(1, 121))
def test_no_cell_is_cut_at_any_width(width: int) -> None:
    table = lines(width)
    text = "\n".join(table)
    for row in ROWS:
        assert row["name"] in text
        assert row["db"] in text
    is_cards = "  median (ms)" in text and table[0] == "onnxruntime-int8"
    if is_cards:
        assert all(cell in text for row in ROWS for cell in row.values())
    else:
        assert max(map(len, table)) <= width


def test_columns_go_in_their_order_and_then_rows_become_cards() -> None:
    whole = lines(max(map(len, lines(120))) - 1)
    assert "10.97–11.23" in "\n".join(whole), "headings are broken into lines before a column goes"
    edge = max(map(len, whole))
    assert lines(edge) == whole
    fewer = lines(edge - 1)
    assert "10.97–11.23" not in "\n".join(fewer)
    assert "1234567.8" in "\n".join(fewer)
    cards = lines(40)
    assert cards[:3] == [
        "onnxruntime-int8",
        "  verdict                     no budget",
        "  fidelity, worst frame (dB)  54.3",
    ]
    assert lines(40, ()) == cards


def test_headings_stand_in_one_line_where_there_is_room() -> None:
    assert lines(120)[0].split("  ")[0] == "engine"
    assert "fidelity, worst frame (dB)" in lines(120)[0]
    assert "fidelity, worst frame (dB)" not in lines(70)[0]


def test_the_width_is_the_terminals_or_that_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "66")
    assert text_width(io.StringIO()) == 66
    monkeypatch.delenv("COLUMNS")
    assert text_width(io.StringIO()) == 140
    _, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as file:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 72, 0, 0))
        assert text_width(file) == 72
