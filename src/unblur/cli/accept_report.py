"""`unblur accept`: a report becomes the baseline that later comparisons are held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unblur.cli.door import Arguments, door
from unblur.cli.output import Output
from unblur.core.errors import InputError


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Write the baseline; the last line is its path."""
    parser = Arguments(
        "unblur accept",
        "Make a report the baseline that later comparisons are held against (unblur compare --baseline FILE), with the "
        "reason, the date and the digest of the baseline that it replaces.",
        'unblur accept artifacts/report --reason "8 bits in the decoder" --output compare/baselines/nano.json',
        'unblur accept report/report.json --reason "OpenVINO 2026.4"',
    )
    parser.add_argument("report", type=Path, metavar="REPORT", help="a report.json, or the folder that holds one")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why what it says is right")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the baseline; left out, compare.baseline of pipeline.toml"
    )
    parser.add_argument("--broken", action="store_true", help="although it broke budgets of its own")
    parser.add_argument("--config", type=Path, metavar="FILE", help="left out, the nearest pipeline.toml upwards")
    arguments = parser.parse_args(argv)
    if arguments.output and arguments.config:
        raise InputError("--config says where the baseline is, and so does --output; give one.")

    from unblur.compare.judge.baselines import accept, is_baseline
    from unblur.compare.load import load_report
    from unblur.core.artefacts import protect

    out = Output(arguments)
    report = load_report(arguments.report)
    path: Path | None = arguments.output
    if path is None:
        from unblur.pipeline.resolve import resolve_config

        path = resolve_config(arguments.config, [], []).config.compare.baseline
    if path is None:
        raise InputError("Nothing says where the baseline is: give --output FILE.json, or set compare.baseline.")
    protect({path: is_baseline}, [arguments.report])
    baseline = accept(report, path, arguments.reason, broken=arguments.broken)
    replaced = f"in the place of {baseline.replaces[:12]}" if baseline.replaces else "the first of its name"
    engines = ", ".join(engine.name for engine in report.engines if not engine.not_measured)
    out.say(f"{report.network}: {engines}; {replaced}")
    out.say(str(path))
    out.figures({"path": path, "replaces": baseline.replaces, "accepted_utc": baseline.accepted_utc,
                 "reason": baseline.reason})  # fmt: skip
    return 0
