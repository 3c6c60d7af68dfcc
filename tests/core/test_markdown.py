"""Names of others in Markdown and on a console: shown, never obeyed."""

import os

from unblur.core.console import printable
from unblur.core.markdown import encodable, escaped, table_row


def test_what_could_act_on_a_terminal_is_an_escape() -> None:
    assert printable("\x1b[31mred\x7f\u202e.png\n") == "\\x1b[31mred\\x7f\\u202e.png\\n"
    assert printable(os.fsdecode(b"gr\xfc\xdfe")) == "gr\\xfc\\xdfe"
    assert printable("grüße 日本 \\x", keep="\n") == "grüße 日本 \\x"
    assert printable("a\nb", keep="\n") == "a\nb"


def test_markdown_holds_no_html_and_a_row_keeps_its_columns() -> None:
    assert escaped("<b>&|\n- item\x1b") == "&lt;b&gt;&amp;\\| - item\\x1b"
    assert table_row(["a|b", "95% – ×"]) == "| a\\|b | 95% – × |"


def test_every_text_can_be_written() -> None:
    text = "grüße " + os.fsdecode(b"\xfc")
    assert encodable(text).encode() == "grüße \\udcfc".encode()
    assert encodable("grüße") == "grüße"
