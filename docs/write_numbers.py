"""Write the tables of committed reports between their markers in README.md and docs/. `--check` writes nothing.

A marker is `<!-- numbers: compare/baselines/NAME.json -->`; the table ends at `<!-- end -->`. The front page,
README.md, has the short table of a comparison, and no row of what was not measured; docs/ has everything.
docs/pareto/ gets the plot of each committed comparison.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from draw_pareto import drawings
from gpu_numbers import ladder, left_to_gain

from unblur.calibration.repairs.names import DEFAULT, EQUALISATION, ROUNDING, repairs_for
from unblur.compare.judge.noise import noise_of
from unblur.compare.report import Report
from unblur.compare.speed import SpeedReport
from unblur.compare.tell.answer import HEADINGS, columns_of, short_rows
from unblur.compare.tell.sentences import when
from unblur.compare.tell.speed import HEADINGS as HEADINGS_OF_SPEED
from unblur.compare.tell.speed import RATIOS, write_speed
from unblur.compare.tell.write import render_markdown
from unblur.core.markdown import escaped, table_row
from unblur.graphs.rewrites.forms import find_form
from unblur.metrics.decibels import decibels_from_json, decibels_text

BLOCK = re.compile(r"(<!-- numbers: (?P<report>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOTHING = "No report is committed yet."
SHORT = {EQUALISATION: "equalised", ROUNDING: "rounded"}
WITHHELD = "withheld"
"""In the place of a ratio that was measured while others were at work."""


def table(path: Path, front: bool = False) -> str:
    """What the report itself says in Markdown, without its title; `front`: what of it the front page shows."""
    if not path.exists():
        return NOTHING
    values = json.loads(path.read_text())
    if isinstance(values, list):
        return left_to_gain(path.parent) if path.stem == "epilogues" else ladder(path.parent)
    if "published" in values:
        return published(values, json.loads((path.parent / "networks.json").read_text())["exports"])
    kinds: dict[str, Callable[[dict[str, Any]], str]] = {
        "synthetic": gains, "exports": exports, "stated": stated, "peers": peers, "trained": repairs, "rows": forms,
        "ways": ways, "gate": gate, "columns": layers, "folders": folders,
    }  # fmt: skip
    for key, write in kinds.items():
        if key in values:
            return write(values)
    if values["form"].startswith("unblur speed"):
        speed = SpeedReport.model_validate(values)
        with tempfile.TemporaryDirectory() as folder:
            text = write_speed(speed, Path(folder)).read_text()
        if front and noise_of(speed.latency, speed.machine):
            text = without_ratios(text)
    else:
        report = Report.model_validate(values)
        if front:
            return short(report)
        text = render_markdown(report)
    text = text.partition("\n\n")[2].strip()
    return measured(text) if front else text


def short(report: Report) -> str:
    """The short table of a comparison, and where and on what it was measured."""
    columns = [column for column in columns_of(report) if column != "ships"]
    lines = [
        table_row(["engine", *(HEADINGS[column] for column in columns)]),
        table_row(["---", *("---:" for _ in columns)]),
    ]
    rows = [row for row in short_rows(report) if row["verdict"] != "not measured"]
    noise = noise_of(report.latency, report.machine) if report.latency else ()
    if noise:  # milliseconds are what they were; a ratio of a noisy run is nobody's to believe
        rows = [row | {"speedup": WITHHELD} for row in rows]
    lines += [table_row([row["name"], *(row[column] for column in columns)]) for row in rows]
    frames = max(len(engine.frames) for engine in report.engines)
    cpu = f"{report.machine['cpu']}, {report.machine['usable_cores']} core(s)"
    size = f", {report.latency.height}x{report.latency.width}" if report.latency else ""
    lines += ["", escaped(f"{report.network}, {frames} frame(s){size}; {cpu}; {when(report)}.")]
    if noise:
        lines.append(escaped(f"The run was noisy ({'; '.join(noise)}), so its ratios are withheld."))
    return "\n".join(lines)


def measured(text: str) -> str:
    """A table without the rows, and the remarks on them, of what this machine could not measure."""
    lines = text.splitlines()
    gone = [line.split("|")[1].strip() for line in lines if "| not measured |" in line]
    rows = [line for line in lines if "| not measured |" not in line]
    return "\n".join(line for line in rows if not any(line.startswith(f"- {name}: not measured") for name in gone))


def without_ratios(text: str) -> str:
    """The table of a noisy run of `unblur speed`, which says that it was noisy, without what it is not good for."""
    lines = text.splitlines()
    heads = [cell.strip() for cell in next(line for line in lines if line.startswith("|")).split("|")]
    places = [heads.index(HEADINGS_OF_SPEED[column]) for column in RATIOS]
    for number, line in enumerate(lines):
        cells = line.split("|")
        if len(cells) == len(heads) and "×" in line:
            for place in places:
                cells[place] = f" {WITHHELD} "
            lines[number] = "|".join(cells)
    return "\n".join(lines)


def gains(values: dict[str, Any]) -> str:
    """The card of a checkpoint: mean PSNR before and after, on 8-bit RGB pictures."""
    lines = [
        "| pictures | pairs | blurred (dB) | restored (dB) | gain (dB) | better in |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for title, key in (("held-out synthetic scenes", "synthetic"), ("GoPro, real", "real")):
        if part := values.get(key):
            before, after, gain = (
                decibels_from_json(part[name]) for name in ("blurred_psnr_db", "restored_psnr_db", "gain_db")
            )
            decibels = f"{decibels_text(before)} | {decibels_text(after)} | {decibels_text(gain, signed=True)}"
            lines.append(f"| {title} | {part['count']} | {decibels} | {part['better']} |")
    return "\n".join(lines)


def exports(values: dict[str, Any]) -> str:
    """Nodes, time, kernels and bytes of each network's export, plain and rewritten, with the bound on the fastest GPU
    of the target."""
    lines = [
        "| network | export | ONNX nodes | seconds of the processor | kernels | GB moved | not below (ms) |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys(row["network"] for row in values["exports"]):
        for row in (row for row in values["exports"] if row["network"] == name):
            made = "| | |"
            if "kernels" in row:
                gpu, bound = min(row["lower_bound_ms"].items(), key=lambda pair: pair[1])
                made = f"| {row['kernels']} | {row['gb_moved']:.3f} | {bound:.2f} on {gpu} |"
            lines.append(f"| {name} | {row['export']} | {row['nodes']} | {row['processor_seconds']} {made}")
    return "\n".join(lines)


def published(values: dict[str, Any], exports: Sequence[dict[str, Any]]) -> str:
    """Every published network in every engine of a CPU, and the X-ray of its engine for a GPU from `exports`."""
    xrays = {row["network"]: row for row in exports if row["export"] == "rewritten" and "kernels" in row}
    names = list(dict.fromkeys(row["engine"] for one in values["published"] for row in one["rows"]))
    base, engines = names[0], names[1:]
    lines = [
        table_row(["network", f"{base} (ms)", *engines, "kernels", "GB moved", "not below (ms)"]),
        table_row(["---", *["---:"] * (len(engines) + 4)]),
    ]
    failed, noisy, times = [], [], set()
    for one in values["published"]:
        cells = {}
        for row in one["rows"]:
            if "reason" in row:
                failed.append(f"- {one['network']}, {row['engine']}: {escaped(row['reason'])}")
            elif row["engine"] == base:
                cells[base] = f"{row['median_ms']:.0f}"
            else:
                decibels = decibels_text(decibels_from_json(row["fidelity_db"]), 0)
                cells[row["engine"]] = f"{row['times_torch'][0]:.2f}×, {decibels} dB"
        gpu = ["–"] * 3
        if (xray := xrays.get(one["network"])) is not None:
            card, bound = min(xray["lower_bound_ms"].items(), key=lambda pair: pair[1])
            gpu = [str(xray["kernels"]), f"{xray['gb_moved']:.3f}", f"{bound:.2f} on {card}"]
        lines.append(table_row([one["network"], *(cells.get(name, "failed") for name in names), *gpu]))
        noisy += [one["network"]] * bool(one["noise"])
        times.add(one["measured_utc"][:10])
    about = f"{values['machine']['cpu']}, {values['machine']['usable_cores']} core(s); {', '.join(sorted(times))}."
    if noisy:
        about += f" The machine was not quiet for {', '.join(noisy)}: believe the decibels there, not the ratios."
    return "\n".join([*lines, "", *failed, *([""] if failed else []), about])


def stated(values: dict[str, Any]) -> str:
    """What papers say a frame takes, beside what its arithmetic takes at the card's peak in float32."""
    lines = [
        "| network | frame | card | stated (ms) | GMAC | peak (TFLOP/s) | arithmetic alone (ms) "
        "| stated of that | µs an operator |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in values["stated"]:
        card = values["cards"][row["card"]]
        peak = 2e-3 * card["cores"] * card["boost_ghz"]
        least = 2e-9 * row["macs"] / peak
        lines.append(
            f"| {row['network']} | {row['size'][0]}x{row['size'][1]} | {row['card']} | {row['ms']} | "
            f"{row['macs'] / 1e9:.0f} | {peak:.1f} | {least:.0f} | {row['ms'] / least:.2f} | "
            f"{1e3 * row['ms'] / row['operators']:.0f} of {row['operators']} |"
        )
    cards = [
        f"- {name}: {card['cores']} cores x 2 x {card['boost_ghz']:g} GHz ({card['source']})."
        for name, card in values["cards"].items()
    ]
    return "\n".join([*lines, "", *cards])


def forms(values: dict[str, Any]) -> str:
    """What 8 bits cost in each form, in decibels as mean / worst frame; the backend's own numbers where one ran it."""
    lines = [
        "| form | ranges, repairs | fidelity (dB) | lost (dB) | photograph (dB) | lost (dB) |",
        "|---|---|---:|---:|---:|---:|",
    ]
    before = ""
    for row in values["rows"]:
        panels = row.get("backend", row["as_written"])
        cells = [
            f"{score['fidelity_db_mean']:.1f} / {score['fidelity_db_worst']:.1f} | {score['psnr_loss_db']:.3f}"
            for score in (panels["heldout"], panels["real"])
        ]
        default = ", ".join(("percentile", *(SHORT[name] for name in repairs_for(find_form(row["form"]), (DEFAULT,)))))
        repairs = f"**{row['repairs']}**" if row["repairs"] == default else row["repairs"]
        lines.append(f"| {row['form'] if row['form'] != before else ''} | {repairs} | {' | '.join(cells)} |")
        before = row["form"]
    return "\n".join([*lines, "", *changes(values["rows"])])


STEPS = (
    ("percentile for min-max", "min-max", "percentile"),
    ("equalised, min-max", "min-max", "min-max, equalised"),
    ("equalised, percentile", "percentile", "percentile, equalised"),
    ("rounded", "percentile", "percentile, rounded"),
    ("biases corrected", "percentile, equalised, rounded", "percentile, equalised, rounded, biases corrected"),
    ("7-bit weights", "percentile", "percentile, 7-bit weights"),
)
"""Of a form: what changes, from which row to which."""


def changes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What each of STEPS gains in mean fidelity (held out / photograph), and how far backends are from the graph."""
    scores = {(row["form"], row["repairs"]): row.get("backend", row["as_written"]) for row in rows}
    names = list(dict.fromkeys(row["form"] for row in rows))

    def cell(form: str, before: str, after: str) -> str:
        if not {(form, before), (form, after)} <= scores.keys():
            return ""
        return " / ".join(
            f"{scores[form, after][on]['fidelity_db_mean'] - scores[form, before][on]['fidelity_db_mean']:+.1f}"
            for on in ("heldout", "real")
        )

    lines = [f"| gained (dB) | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    lines += [f"| {name} | {' | '.join(cell(form, *step) for form in names)} |" for name, *step in STEPS]
    eight = ", ".join(
        f"{form} {max(row['macs_share_8_bits'] for row in rows if row['form'] == form):.0%}" for form in names
    )
    apart = {
        key: max(
            abs(row["backend"][on][key] - row["as_written"][on][key])
            for row in rows
            if "backend" in row
            for on in ("heldout", "real")
        )
        for key in ("fidelity_db_mean", "fidelity_db_worst")
    }
    return [
        *lines,
        "",
        f"- Of all multiply-accumulates in 8 bits: {eight}.",
        f"- What backends run and what is written are apart by {apart['fidelity_db_mean']:.2f} dB of mean fidelity, "
        f"by {apart['fidelity_db_worst']:.2f} on the worst frame, at most.",
    ]


def repairs(values: dict[str, Any]) -> str:
    """What repairs gain on each trained checkpoint: mean / worst fidelity in dB, the default in bold."""
    ways = (("none", ()), *((short, (name,)) for name, short in SHORT.items()), ("both", tuple(SHORT)))
    found: dict[tuple[str, str], dict[tuple[str, ...], str]] = {}
    for row in values["trained"]:
        cell = "–" if "reason" in row else f"{row['fidelity_db_mean']:.1f} / {row['fidelity_db_worst']:.1f}"
        found.setdefault((row["checkpoint"], row["form"]), {})[tuple(row["repairs"])] = cell
    lines = [f"| checkpoint | form | {' | '.join(name for name, _ in ways)} |", f"|---|---|{'---:|' * len(ways)}"]
    for (checkpoint, form), cells in found.items():
        default = repairs_for(find_form(form), (DEFAULT,))
        shown = [f"**{cells[way]}**" if way == default else cells.get(way, "–") for _, way in ways]
        lines.append(f"| {checkpoint} | {form} | {' | '.join(shown)} |")
    return "\n".join(lines)


def peers(values: dict[str, Any]) -> str:
    """What others' quantisers and ours cost on the same graph and pictures; who could not be run, and why."""
    lines = ["| 8 bits | MACs | runs in | fidelity (dB) | lost (dB) |", "|---|---:|---|---:|---:|"]
    missing, about = [], {}
    for row in values["rows"]:
        if "reason" in row:
            what = "" if row["how"] == "not measured" else f", {escaped(row['how'])}"
            missing.append(f"- {row['peer']}{what}: not measured ({row['date']}): {escaped(row['reason'])}")
            continue
        versions = ", ".join(f"{name} {version}" for name, version in sorted(row.get("versions", {}).items()))
        about[row["peer"]] = f"{row['peer']} ({versions or 'this version'}, {row['date']})"
        lines.append(
            f"| {row['peer']}: {escaped(row['how'])} | {_shares(row)} | {row['runs_in']} "
            f"| {row['fidelity_db_mean']:.1f} / {row['fidelity_db_worst']:.1f} | {row['psnr_loss_db']:+.3f} |"
        )
    side = values["side_px"]
    what = f"{values['network']}, {values['pictures']} pictures of {side}x{side}, ranges from {values['calibration']}; "
    return "\n".join([*lines, "", f"- {what}{'; '.join(about.values())}.", *missing])


def _shares(row: dict[str, Any]) -> str:
    """What the graph asks for in 8 bits, and where the backend runs another share in 8-bit kernels, that."""
    asked, run = f"{row['macs_share_8_bits']:.1%}", row.get("macs_share_run_in_8_bits")
    return asked if run is None or f"{run:.1%}" == asked else f"{asked}, run {run:.1%}"


def ways(values: dict[str, Any]) -> str:
    """What the compiler makes of each way of writing 8 bits, and its bound on each card; the least of a network's forms
    in bold."""
    rows = values["ways"]
    cards = list(dict.fromkeys(gpu for row in rows for one in row["targets"].values() for gpu in one["lower_bound_ms"]))
    lines = [
        f"| network | 8 bits | kernels | GB moved | {' | '.join(f'{gpu} (ms)' for gpu in cards)} |",
        f"|---|---|---:|---:|{'---:|' * len(cards)}",
    ]
    for network in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == network]
        bounds = [{g: ms for one in row["targets"].values() for g, ms in one["lower_bound_ms"].items()} for row in mine]
        least = {gpu: min(one[gpu] for one in bounds if gpu in one) for gpu in cards}
        for row, bound in zip(mine, bounds, strict=True):
            first = row["targets"]["sm89"]
            cells = [f"{bound[gpu]:.3f}" if gpu in bound else "" for gpu in cards]
            cells = [f"**{c}**" if c == f"{least[gpu]:.3f}" else c for gpu, c in zip(cards, cells, strict=True)]
            lines.append(
                f"| {network} | {row['way']} | {first['kernels']} | {first['gb_moved']:.3f} | {' | '.join(cells)} |"
            )
    return "\n".join(lines)


def gate(values: dict[str, Any]) -> str:
    """How often the gate of baselines gave an alarm, and how much had been lost by its own measure."""
    lines = [
        "| what was done | engine | measure | injected (dB) | measured (dB) | alarms |",
        "|---|---|---|---:|---:|---:|",
    ]
    for row in values["gate"]:
        lost = [decibels_from_json(one) for one in row["lost_db"]]
        between = "0" if not any(lost) else f"{min(lost):.3f} to {max(lost):.3f}"
        measure = {"psnr_db": "PSNR", "fidelity_db": "fidelity"}[row["measure"]]
        lines.append(
            f"| {row['case']} | {row['engine']} | {measure} | {row['injected_db']:g} | {between} "
            f"| {row['alarms']} of {row['trials']} |"
        )
    size = f"{values['height']}x{values['width']}"
    about = f"{values['network']}, {values['pictures']} drawn pictures of {size} a trial; {values['machine']['cpu']}."
    return "\n".join([*lines, "", about, *gate_of_latency(values)])


def gate_of_latency(values: dict[str, Any]) -> list[str]:
    """How often the same gate found an engine slower, or could not tell, on a quiet machine and beside a load."""
    if not values.get("latency"):
        return []
    lines = [
        "",
        "| what was done | beside it | measured (times) | lost | cannot tell | kept |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in values["latency"]:
        done = f"{row['injected']:.0%} more latency" if row["injected"] else "nothing changed"
        beside = f"{row['beside']} processes that spin" if row["beside"] else "nothing"
        kept = row["trials"] - row["lost"] - row["cannot_tell"]
        between = f"{min(row['times']):.2f} to {max(row['times']):.2f}"
        lines.append(f"| {done} | {beside} | {between} | {row['lost']} | {row['cannot_tell']} | {kept} |")
    many = values["latency_repeats"]
    engine = values["latency"][0]["engine"]
    about = f"{engine} on one thread, {many} repeats on either side; measured: in units of torch beside it"
    return [*lines, "", f"{about}. Each quiet comparison is the baseline of the next."]


def folders(values: dict[str, Any]) -> str:
    """What a folder of pictures takes beside its engine."""
    lines = [
        "| network | engine | threads | pictures | the folder (s) | the engine alone (s) | times |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for row in values["folders"]:
        size = "x".join(str(side) for side in row["size"])
        lines.append(
            f"| {row['network']} | {row['engine']} | {row['threads']} | {row['pictures']} of {size} "
            f"| {row['folder_s']:.1f} | {row['engine_s']:.1f} | {row['times_the_engine']:.2f} |"
        )
    machines = dict.fromkeys(f"{row['machine']['cpu']} ({row['machine']['instructions']})" for row in values["folders"])
    return "\n".join([*lines, "", escaped("; ".join(machines) + ".")])


def layers(values: dict[str, Any]) -> str:
    """Milliseconds of a frame by kinds of layers, one column an engine."""
    columns = values["columns"]
    kinds = sorted(
        {kind for column in columns for kind in column["groups"]},
        key=lambda kind: -max(column["groups"].get(kind, {"ms": 0.0})["ms"] for column in columns),
    )
    lines = [
        table_row(["layers, ms (how many)", *(column["engine"] for column in columns)]),
        table_row(["---", *("---:" for _ in columns)]),
    ]
    for kind in kinds:
        cells = [column["groups"].get(kind) for column in columns]
        lines.append(table_row([kind, *(f"{c['ms']:.1f} ({c['layers']})" if c else "–" for c in cells)]))
    lines.append(table_row(["**a frame**", *(f"**{column['frame_ms']:.0f}**" for column in columns)]))
    has = ", ".join(name for name, there in values["instructions"].items() if there)
    size = "x".join(str(side) for side in values["size"])
    about = f"{values['network']}, {size}, {values['threads']} threads, mean of {values['rounds']} frames"
    return "\n".join(
        [*lines, "", f"{about}; {values['machine']['cpu']} ({has}), OpenVINO {values['versions']['openvino']}."]
    )


def _filled(page: str, root: Path, front: bool) -> str:
    return BLOCK.sub(lambda m: f"{m[1]}{table(root / m['report'], front)}\n{m[3]}", page)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1: `--check` found a table that is not its report's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say what is not current")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the project's folder")
    arguments = parser.parse_args(argv)
    root: Path = arguments.root
    stale = 0
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    filled = ((page, _filled(page.read_text(), root, page.name == "README.md")) for page in pages)
    for file, fresh in (*filled, *drawings(root)):
        if not file.exists() or fresh != file.read_text():
            stale += 1
            print(f"{'not current' if arguments.check else 'written'}: {file}")
            if not arguments.check:
                file.parent.mkdir(exist_ok=True)
                file.write_text(fresh)
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
