"""Only regular files are read, and JSON of any depth is an error like every other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unblur.core.errors import InputError
from unblur.core.reading import open_regular, parse_json, read_json, read_regular


def test_regular_files_and_links_to_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b'{"a": 1}')
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link") == b'{"a": 1}'
    assert read_json(tmp_path / "file") == {"a": 1}
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def test_everything_else_is_refused_by_name_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in [(tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device"), (tmp_path, "a directory")]:
        with pytest.raises(InputError, match=f"{path} cannot be opened: it is {kind}, and only a regular file is read"):
            open_regular(path)
    with pytest.raises(InputError, match=r"'a\\x00b' is no name"):
        open_regular(Path("a\0b"))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "{", b"\xff"])
def test_damaged_json(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"a\.json is not JSON"):
        read_json(path)
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        read_json(tmp_path / "none.json")
