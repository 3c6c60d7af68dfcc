"""`unblur merge`: reports of one network from several machines in one table and page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door
from unblur.cli.output import Output
from unblur.core.errors import InputError


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Write the merged table, print it; the last line is the page's path."""
    parser = Arguments(
        "unblur merge",
        "Put reports of one network side by side, such as a CPU's and a GPU's: merged.html, merged.md, merged.json.",
        "unblur merge laptop/report workstation/report --output machines",
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT", help="report.json files, or their folders")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the merged table")
    arguments = parser.parse_args(argv)

    from unblur.compare.load import load_report
    from unblur.compare.tell.merged import HEADINGS, TEXT, cells_of, merge, write_merged
    from unblur.core.artefacts import json_with, protect, text_with
    from unblur.core.text_table import fitted, text_width
    from unblur.metrics.decibels import EMPTY

    out = Output(arguments)
    reports = {str(path): load_report(path) for path in arguments.reports}
    if len(reports) < len(arguments.reports):
        raise InputError("A report is named twice; name each once.")
    merged = merge(reports)
    mark = "machines side by side: "
    kinds = {
        "html": text_with(f"<title>unblur: {mark}"),
        "md": text_with(f"# {mark}"),
        "json": json_with("machines", "rows"),
    }
    protect({arguments.output / f"merged.{kind}": ours for kind, ours in kinds.items()}, arguments.reports)
    page = write_merged(merged, arguments.output)
    for line in fitted(HEADINGS, cells_of(merged), text_width(out.people), left=TEXT, empty=("", EMPTY)):
        out.say(line)
    for label, text in merged.machines.items():
        out.say(f"{label}: {text}")
    for note in merged.notes:
        out.say(note)
    out.say(str(page))
    out.figures({"path": page.with_suffix(".json"), **merged.model_dump(mode="json")})
    return 0
