"""Write the tables of committed reports between their markers in README.md and docs/. `--check` writes nothing.

A marker is `<!-- numbers: compare/baselines/NAME.json -->`; the table ends at `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unblur.compare.report import Report
from unblur.compare.speed import SpeedReport, write_speed
from unblur.compare.write import render_markdown

BLOCK = re.compile(r"(<!-- numbers: (?P<report>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOTHING = "No report is committed yet."


def table(path: Path) -> str:
    """What the report itself says in Markdown, without its title."""
    if not path.exists():
        return NOTHING
    values = json.loads(path.read_text())
    if "synthetic" in values:
        return gains(values)
    if values["form"].startswith("unblur speed"):
        with tempfile.TemporaryDirectory() as folder:
            text = write_speed(SpeedReport.model_validate(values), Path(folder)).read_text()
    else:
        text = render_markdown(Report.model_validate(values))
    return text.partition("\n\n")[2].strip()


def gains(values: dict[str, Any]) -> str:
    """The card of a checkpoint: mean PSNR before and after, on 8-bit RGB pictures."""
    lines = [
        "| pictures | pairs | blurred (dB) | restored (dB) | gain (dB) | better in |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for title, key in (("held-out synthetic scenes", "synthetic"), ("GoPro, real", "real")):
        if part := values.get(key):
            decibels = f"{part['blurred_psnr_db']:.2f} | {part['restored_psnr_db']:.2f} | {part['gain_db']:+.2f}"
            lines.append(f"| {title} | {part['count']} | {decibels} | {part['better']} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1: `--check` found a table that is not its report's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say what is not current")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the project's folder")
    arguments = parser.parse_args(argv)
    root: Path = arguments.root
    stale = 0
    for page in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        text = page.read_text()
        fresh = BLOCK.sub(lambda m: f"{m[1]}{table(root / m['report'])}\n{m[3]}", text)
        if fresh != text:
            stale += 1
            print(f"{'not current' if arguments.check else 'written'}: {page}")
            if not arguments.check:
                page.write_text(fresh)
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
